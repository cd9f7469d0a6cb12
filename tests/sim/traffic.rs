//! Traffic between the nodes: connections and their cost, exchanges and their loss, and the behaviour of hostile nodes.
//!
//! Entry type: [`World`], its `prove`, `proved`, `dial`, `ask`, `answer`, `close`.

use std::time::Duration;

use diatribe::overlay::*;
use rand::RngExt;

use super::conditions::Place;
use super::world::{Event, Id, World};

impl World {
    pub(super) fn prove(&mut self, from: Id, to: Id, dial: DialId) {
        let known = self.conn(to, from).is_some() || self.conn(from, to).is_some();
        let gone = self.nodes[to as usize].machine.is_none() || self.apart(from, to);
        if gone || self.nodes[from as usize].machine.is_none() {
            return self.fail(from, dial, DialError::Failed);
        }
        if known {
            return self.fail(from, dial, DialError::Duplicate);
        }
        let (now, remote, mut out) = (self.now, self.place(from).remote(), Vec::new());
        let Some(machine) = &mut self.nodes[to as usize].machine else {
            return;
        };
        let admission = machine.admit(now, from, Direction::Inbound, &remote, &mut out);
        self.perform(to, out);
        match admission {
            Admission::Accept => {
                let at = self.later(self.conditions.setup / 4);
                self.push(at, Event::Proved { from, to, dial });
            }
            Admission::Busy { mut referrals } => {
                self.counts.busy += 1;
                if !self.conditions.referrals {
                    referrals.clear();
                }
                if self.nodes[to as usize].hostile {
                    self.accomplices(&mut referrals);
                }
                let remote = self.place(to).remote();
                self.fail(from, dial, DialError::Busy { remote, referrals });
            }
        }
        self.wake(to);
    }

    pub(super) fn proved(&mut self, from: Id, to: Id, dial: DialId) {
        let gone = self.nodes[to as usize].machine.is_none() || self.apart(from, to);
        let known = self.conn(to, from).is_some() || self.conn(from, to).is_some();
        let (now, remote, mut out) = (self.now, self.place(to).remote(), Vec::new());
        let accepted = match &mut self.nodes[from as usize].machine {
            Some(machine) if !gone && !known => {
                machine.admit(now, to, Direction::Outbound, &remote, &mut out) == Admission::Accept
            }
            _ => false,
        };
        self.perform(from, out);
        if !accepted {
            if let Some(machine) = self.nodes[to as usize].machine.as_mut().filter(|_| !known) {
                machine.dismiss(from);
                self.wake(to);
            }
            let error = if known {
                DialError::Duplicate
            } else {
                DialError::Failed
            };
            return self.feed(from, Input::DialFailed { dial, error });
        }
        self.connections += 1;
        let conn = self.connections;
        let at = self.later(1);
        self.push(
            at,
            Event::Up {
                at: to,
                peer: from,
                conn,
            },
        );
        self.nodes[from as usize].links.push((to, conn));
        let direction = Direction::Outbound;
        self.feed(
            from,
            Input::LinkUp {
                peer: to,
                direction,
                remote,
                dial: Some(dial),
            },
        );
    }

    pub(super) fn dial(&mut self, from: Id, dial: DialId, to: Id) {
        self.counts.dials += 1;
        let target = &self.nodes[to as usize];
        if target.machine.is_none() || !target.dialable || self.apart(from, to) {
            let silent = self.apart(from, to)
                || u64::from(to) * 37 % 100 < u64::from(self.conditions.silent);
            let delays = if silent { 100 } else { 2 };
            let at = self.later(delays);
            let error = DialError::Failed;
            return self.push(
                at,
                Event::DialFailed {
                    at: from,
                    dial,
                    error,
                },
            );
        }
        let at = self.later((self.conditions.setup * 3 / 4).max(1));
        self.push(at, Event::Prove { from, to, dial });
    }

    pub(super) fn ask(
        &mut self,
        from: Id,
        to: Id,
        id: ExchangeId,
        mut request: Request<Id, Place>,
    ) {
        let Some(conn) = self.conn(from, to) else {
            return;
        };
        self.counts.messages += 1;
        if self.conditions.mute && self.nodes[from as usize].hostile {
            return self.pretend(from, to, conn, id, &request);
        }
        let mute = self.conditions.mute && self.nodes[to as usize].hostile;
        if mute || self.lost() {
            return self.give_up(from, to, conn, id);
        }
        if self.nodes[from as usize].hostile {
            match &mut request {
                Request::Shuffle { offered: contacts } | Request::Cancel { contacts, .. } => {
                    self.accomplices(contacts);
                }
                Request::Report { linked, .. } => *linked = true,
                _ => {}
            }
        }
        // Never before the link is up at the other end, which takes at most two delays.
        let mut at = self.later(1);
        if self.conn(to, from) != Some(conn) {
            at = at.max(self.now + self.conditions.delay * 2);
        }
        self.push(
            at,
            Event::Ask {
                at: to,
                from,
                conn,
                id,
                request,
            },
        );
    }

    pub(super) fn answer(
        &mut self,
        from: Id,
        to: Id,
        id: ExchangeId,
        mut response: Response<Id, Place>,
    ) {
        let Some(conn) = self.conn(from, to) else {
            return;
        };
        self.counts.messages += 1;
        if self.lost() {
            return self.give_up(to, from, conn, id);
        }
        if self.nodes[from as usize].hostile {
            match &mut response {
                Response::Contacts(contacts) | Response::Joined { contacts, .. } => {
                    self.accomplices(contacts)
                }
                // It never lets a link of its own move.
                Response::Redirected { refusal, .. } => *refusal = Some(Refusal::Busy),
                _ => {}
            }
        }
        let at = self.later(1);
        self.push(
            at,
            Event::Answer {
                at: to,
                from,
                conn,
                id,
                result: Ok(response),
            },
        );
    }

    /// Drops a request of a node that only holds places; the node behaves as if its Join had been accepted.
    fn pretend(
        &mut self,
        at: Id,
        from: Id,
        conn: u32,
        id: ExchangeId,
        request: &Request<Id, Place>,
    ) {
        let result = match request {
            Request::Join { .. } => Ok(Response::Joined {
                answer: Answer::Accepted,
                contacts: Vec::new(),
            }),
            _ => Err(ExchangeError::Lost),
        };
        let then = self.later(2);
        self.push(
            then,
            Event::Answer {
                at,
                from,
                conn,
                id,
                result,
            },
        );
    }

    fn lost(&mut self) -> bool {
        self.conditions.loss > 0 && self.rng.random_range(0..100_000) < self.conditions.loss
    }

    fn give_up(&mut self, at: Id, from: Id, conn: u32, id: ExchangeId) {
        let then = self.now + Duration::from_secs(5);
        let result = Err(ExchangeError::Lost);
        self.push(
            then,
            Event::Answer {
                at,
                from,
                conn,
                id,
                result,
            },
        );
    }

    /// Replaces contacts by hostile nodes: a hostile node names only its accomplices.
    fn accomplices(&mut self, contacts: &mut Vec<Contact<Id, Place>>) {
        contacts.clear();
        for _ in 0..64 {
            let id = self.rng.random_range(0..self.nodes.len()) as Id;
            if self.nodes[id as usize].hostile && contacts.len() < 8 {
                contacts.push(Contact {
                    id,
                    addresses: vec![self.place(id)].into(),
                });
            }
        }
    }

    pub(super) fn close(&mut self, id: Id, peer: Id, reason: Reason) {
        let links = &mut self.nodes[id as usize].links;
        let Some(at) = links.iter().position(|(known, _)| *known == peer) else {
            return;
        };
        let (_, conn) = links[at];
        if reason == Reason::Handover {
            self.counts.handovers += 1;
        }
        // Messages that were sent earlier arrive earlier.
        let then = self.now + self.conditions.delay.mul_f64(2.1);
        self.push(
            then,
            Event::Down {
                at: peer,
                peer: id,
                conn,
            },
        );
        self.push(self.now, Event::Down { at: id, peer, conn });
    }
}
