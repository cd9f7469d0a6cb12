//! The drivers of the nodes: they carry connections and exchanges between the overlays.
//!
//! Entry type: [`Net`], its `arrive`.

use diatribe::overlay::*;

use super::net::{COORDINATOR, NEWCOMER, Net};
use super::packet::Packet;
use crate::conditions::Place;
use crate::world::Id;

impl Net {
    pub(super) fn arrive(&mut self, packet: Packet) {
        match packet {
            Packet::Prove { from, to, dial } => self.prove(from, to, dial),
            Packet::Proved { from, to, dial } => self.proved(from, to, dial),
            Packet::Failed { at, dial, error } => {
                self.refused |= at == NEWCOMER && matches!(error, DialError::Busy { .. });
                self.feed(at, Input::DialFailed { dial, error });
            }
            Packet::Up { at, peer, conn } => {
                if self.conn(at, peer).is_none() {
                    self.links[at as usize].push((peer, conn));
                    self.link_up(at, peer, Direction::Inbound, None);
                }
            }
            Packet::Down { at, peer, conn } => {
                let links = &mut self.links[at as usize];
                if let Some(found) = links.iter().position(|link| *link == (peer, conn)) {
                    links.remove(found);
                    self.refused |= at == NEWCOMER && peer == COORDINATOR;
                    self.feed(at, Input::LinkDown { peer });
                }
            }
            Packet::Ask {
                at,
                from,
                conn,
                id,
                request,
            } if self.conn(at, from) == Some(conn) => {
                let is_notification = matches!(
                    request,
                    Request::Report { .. } | Request::Cancel { .. } | Request::Leave { .. }
                );
                self.feed(at, Input::Request { from, id, request });
                if is_notification {
                    self.deliver_response(from, at, id);
                }
            }
            Packet::Ask { .. } => {}
            Packet::Answer {
                at,
                from,
                conn,
                id,
                result,
            } => {
                if self.conn(at, from) == Some(conn) {
                    self.feed(at, Input::Response { from, id, result });
                }
            }
        }
    }

    /// Delivers the response to a notification at once: it has no effect, so that its order does not matter.
    fn deliver_response(&mut self, at: Id, by: Id, exchange: ExchangeId) {
        let done = |packet: &Packet| match packet {
            Packet::Answer {
                at: to, from, id, ..
            } => (*to, *from, *id) == (at, by, exchange),
            _ => false,
        };
        if let Some(found) = self.under_way.iter().position(done) {
            let packet = self.under_way.remove(found);
            self.arrive(packet);
        }
    }

    fn link_up(&mut self, at: Id, peer: Id, direction: Direction, dial: Option<DialId>) {
        let remote = Place(peer, peer).remote();
        self.feed(
            at,
            Input::LinkUp {
                peer,
                direction,
                remote,
                dial,
            },
        );
    }

    fn prove(&mut self, from: Id, to: Id, dial: DialId) {
        if self.conn(to, from).is_some() || self.conn(from, to).is_some() {
            let error = DialError::Duplicate;
            return self.under_way.push(Packet::Failed {
                at: from,
                dial,
                error,
            });
        }
        let (remote, mut out) = (Place(from, from).remote(), Vec::new());
        let admission =
            self.nodes[to as usize].admit(self.now, from, Direction::Inbound, &remote, &mut out);
        self.perform(to, out);
        self.under_way.push(match admission {
            Admission::Accept => Packet::Proved { from, to, dial },
            Admission::Busy { referrals } => {
                let remote = Place(to, to).remote();
                let error = DialError::Busy { remote, referrals };
                Packet::Failed {
                    at: from,
                    dial,
                    error,
                }
            }
        });
    }

    fn proved(&mut self, from: Id, to: Id, dial: DialId) {
        let known = self.conn(to, from).is_some() || self.conn(from, to).is_some();
        let (remote, mut out) = (Place(to, to).remote(), Vec::new());
        let accepted = !known
            && self.nodes[from as usize].admit(
                self.now,
                to,
                Direction::Outbound,
                &remote,
                &mut out,
            ) == Admission::Accept;
        self.perform(from, out);
        if !accepted {
            if !known {
                self.nodes[to as usize].dismiss(from);
            }
            let error = match known {
                true => DialError::Duplicate,
                false => DialError::Failed,
            };
            return self.feed(from, Input::DialFailed { dial, error });
        }
        self.connections += 1;
        let conn = self.connections;
        self.under_way.push(Packet::Up {
            at: to,
            peer: from,
            conn,
        });
        self.links[from as usize].push((to, conn));
        self.link_up(from, to, Direction::Outbound, Some(dial));
    }

    pub(super) fn feed(&mut self, id: Id, input: Input<Id, Place>) {
        let mut out = Vec::new();
        self.nodes[id as usize].handle(self.now, input, &mut out);
        self.perform(id, out);
    }

    fn perform(&mut self, from: Id, out: Vec<Output<Id, Place>>) {
        for output in out {
            match output {
                // A refused newcomer would try other nodes: that is another run.
                Output::Dial { .. } if from == NEWCOMER && self.refused => {}
                Output::Dial { dial, to, .. } => {
                    let to = match to {
                        Target::Entry(at) if from == 2 => at as Id,
                        Target::Entry(_) => COORDINATOR,
                        Target::Addresses(addresses) => addresses[0].0,
                    };
                    self.under_way.push(Packet::Prove { from, to, dial });
                }
                Output::Send {
                    to: at,
                    id,
                    request,
                } => {
                    if let Some(conn) = self.conn(from, at) {
                        self.under_way.push(Packet::Ask {
                            at,
                            from,
                            conn,
                            id,
                            request,
                        });
                    }
                }
                Output::Respond {
                    to: at,
                    id,
                    response,
                } => {
                    if let Some(conn) = self.conn(from, at) {
                        let result = Ok(response);
                        self.under_way.push(Packet::Answer {
                            at,
                            from,
                            conn,
                            id,
                            result,
                        });
                    }
                }
                Output::Close { peer, reason } => {
                    self.refused |= from == NEWCOMER && reason == Reason::Refused;
                    if let Some(conn) = self.conn(from, peer) {
                        self.under_way.push(Packet::Down {
                            at: from,
                            peer,
                            conn,
                        });
                        self.under_way.push(Packet::Down {
                            at: peer,
                            peer: from,
                            conn,
                        });
                    }
                }
                Output::Report(_) | Output::Persist => {}
            }
        }
    }
}
