//! A network of nodes in virtual time, each of them the overlay's own state machine.
//!
//! Entry type: [`World`]. The rule it keeps: a node gets only the information of a real connection, at the cost of a real one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use diatribe::clock::Time;
use diatribe::overlay::*;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::conditions::{Conditions, Place, Shared};

pub(crate) type Id = u32;
pub(crate) type Machine = Overlay<Id, Place, Xoshiro256PlusPlus>;
type In = Input<Id, Place>;
type Out = Output<Id, Place>;

/// Mean one-way delay. A round of the goals has a hundred of them: `Options::round`.
pub(crate) const DELAY: Duration = Duration::from_millis(50);

/// A node of the world.
pub(crate) struct Node {
    pub(crate) machine: Option<Machine>,
    pub(crate) dialable: bool,
    pub(crate) hostile: bool,
    /// Links as this side sees them, with the connection's number.
    pub(crate) links: Vec<(Id, u32)>,
    pub(crate) side: u8,
    pub(crate) born: Time,
    pub(crate) second_link: Option<Time>,
    ticking: Option<Time>,
}

/// Counters of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    pub(crate) dials: u64,
    pub(crate) busy: u64,
    pub(crate) redirects: u64,
    pub(crate) handovers: u64,
    pub(crate) events: u64,
    pub(crate) max_links: usize,
    pub(crate) max_links_outside_handovers: usize,
}

/// A check that runs after each event of a node.
pub(crate) type Watch = dyn FnMut(&World, Id);

pub(super) enum Event {
    Tick(Id),
    Start(Id),
    /// The dialler's proof has reached the dialled node.
    Prove {
        from: Id,
        to: Id,
        dial: DialId,
    },
    /// The dialled node's proof has reached the dialler.
    Proved {
        from: Id,
        to: Id,
        dial: DialId,
    },
    Up {
        at: Id,
        peer: Id,
        conn: u32,
    },
    DialFailed {
        at: Id,
        dial: DialId,
        error: DialError<Id, Place>,
    },
    Down {
        at: Id,
        peer: Id,
        conn: u32,
    },
    Ask {
        at: Id,
        from: Id,
        conn: u32,
        id: ExchangeId,
        request: Request<Id, Place>,
    },
    Answer {
        at: Id,
        from: Id,
        conn: u32,
        id: ExchangeId,
        result: Result<Response<Id, Place>, ExchangeError>,
    },
}

/// The network.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) counts: Counts,
    pub(crate) conditions: Conditions,
    pub(crate) options: Options,
    pub(crate) now: Time,
    /// Whether the two sides are cut apart.
    pub(crate) cut: bool,
    /// Number of events that may have changed a link: while it stays the same, so does the graph.
    pub(crate) changes: u64,
    /// Called after every event in the property tests.
    pub(crate) watch: Option<Box<Watch>>,
    pub(super) rng: Xoshiro256PlusPlus,
    queue: BinaryHeap<Reverse<(Time, u64, u32)>>,
    slots: Vec<Option<Event>>,
    free: Vec<u32>,
    sequence: u64,
    pub(super) connections: u32,
}

impl World {
    pub(crate) fn new(seed: u64, conditions: Conditions, options: Options) -> World {
        World {
            nodes: Vec::new(),
            counts: Counts::default(),
            conditions,
            options,
            now: Time::ZERO,
            cut: false,
            changes: 0,
            watch: None,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            queue: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            connections: 0,
        }
    }

    /// Adds a node that starts at this time, with node 0 as its entry node.
    pub(crate) fn add(&mut self, start: Time, dialable: bool, hostile: bool) -> Id {
        let id = self.nodes.len() as Id;
        self.nodes.push(Node {
            machine: None,
            dialable,
            hostile,
            links: Vec::new(),
            side: 0,
            born: start,
            second_link: None,
            ticking: None,
        });
        self.push(start, Event::Start(id));
        id
    }

    /// Returns the address of a node.
    pub(crate) fn place(&self, id: Id) -> Place {
        let shared = match self.conditions.shared {
            Shared::Nobody => false,
            Shared::Hostile => self.nodes[id as usize].hostile,
            Shared::Newcomers => id >= 10,
        };
        Place(id, if shared { Id::MAX } else { id })
    }

    pub(crate) fn random(&mut self, below: usize) -> usize {
        self.rng.random_range(0..below)
    }

    pub(crate) fn chance(&mut self, of: f64) -> bool {
        self.rng.random_bool(of)
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = Id> + '_ {
        (0..self.nodes.len() as Id).filter(|id| self.nodes[*id as usize].machine.is_some())
    }

    /// Runs the world until this time.
    pub(crate) fn run(&mut self, until: Time) {
        while let Some(Reverse((at, _, slot))) = self.queue.peek().copied() {
            if at > until {
                break;
            }
            self.queue.pop();
            self.now = at;
            self.free.push(slot);
            if let Some(event) = self.slots[slot as usize].take() {
                self.counts.events += 1;
                let idle = matches!(
                    &event,
                    Event::Tick(_)
                        | Event::Ask {
                            request: Request::Shuffle { .. },
                            ..
                        }
                        | Event::Answer {
                            result: Ok(Response::Contacts(_)),
                            ..
                        }
                );
                self.changes += u64::from(!idle);
                self.step(event);
            }
        }
        self.now = until;
    }

    /// Runs the world for this number of mean one-way delays.
    pub(crate) fn run_delays(&mut self, delays: u32) {
        self.run(self.now + DELAY * delays);
    }

    /// Ends a node's process without a Leave; its neighbours see the connections reset.
    pub(crate) fn crash(&mut self, id: Id) {
        self.nodes[id as usize].machine = None;
        for (peer, conn) in std::mem::take(&mut self.nodes[id as usize].links) {
            let at = self.later(1);
            self.push(
                at,
                Event::Down {
                    at: peer,
                    peer: id,
                    conn,
                },
            );
        }
    }

    /// Shuts a node down with a Leave.
    pub(crate) fn leave(&mut self, id: Id) {
        self.feed(id, Input::Shutdown);
        self.crash(id);
    }

    /// Partitions the network by each node's side: all links across are lost.
    pub(crate) fn cut(&mut self) {
        self.cut = true;
        for id in 0..self.nodes.len() {
            let across: Vec<(Id, u32)> = self.nodes[id]
                .links
                .iter()
                .copied()
                .filter(|(peer, _)| self.nodes[*peer as usize].side != self.nodes[id].side)
                .collect();
            for (peer, conn) in across {
                let at = self.later(1);
                self.push(
                    at,
                    Event::Down {
                        at: id as Id,
                        peer,
                        conn,
                    },
                );
            }
        }
    }

    pub(super) fn apart(&self, a: Id, b: Id) -> bool {
        self.cut && self.nodes[a as usize].side != self.nodes[b as usize].side
    }

    pub(super) fn push(&mut self, at: Time, event: Event) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(event);
                slot
            }
            None => {
                self.slots.push(Some(event));
                self.slots.len() as u32 - 1
            }
        };
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, slot)));
    }

    /// Returns the time after `delays` one-way delays, each between half and one and a half of the mean.
    pub(super) fn later(&mut self, delays: u32) -> Time {
        let spread = 0.5 / f64::from(delays.max(1)).sqrt();
        self.now
            + self
                .conditions
                .delay
                .mul_f64(f64::from(delays) * self.rng.random_range(1.0 - spread..1.0 + spread))
    }

    pub(super) fn conn(&self, at: Id, peer: Id) -> Option<u32> {
        self.nodes[at as usize]
            .links
            .iter()
            .find(|(id, _)| *id == peer)
            .map(|(_, conn)| *conn)
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Start(id) => self.start(id),
            Event::Tick(id) => {
                if self.nodes[id as usize].ticking == Some(self.now) {
                    self.nodes[id as usize].ticking = None;
                    self.feed(id, Input::Tick);
                }
            }
            Event::Prove { from, to, dial } => self.prove(from, to, dial),
            Event::Proved { from, to, dial } => self.proved(from, to, dial),
            Event::Up { at, peer, conn } => {
                // The dialler may have closed it meanwhile; its end follows.
                let remote = self.place(peer).remote();
                let node = &mut self.nodes[at as usize];
                if node.machine.is_some() && node.links.iter().all(|(id, _)| *id != peer) {
                    node.links.push((peer, conn));
                    let direction = Direction::Inbound;
                    self.feed(
                        at,
                        Input::LinkUp {
                            peer,
                            direction,
                            remote,
                            dial: None,
                        },
                    );
                    if self.conn(peer, at) != Some(conn) {
                        let then = self.later(1);
                        self.push(then, Event::Down { at, peer, conn });
                    }
                }
            }
            Event::DialFailed { at, dial, error } => {
                self.feed(at, Input::DialFailed { dial, error })
            }
            Event::Down { at, peer, conn } => {
                let links = &mut self.nodes[at as usize].links;
                if let Some(found) = links.iter().position(|link| *link == (peer, conn)) {
                    links.swap_remove(found);
                    if self.conn(peer, at) == Some(conn) {
                        let then = self.later(1);
                        self.push(
                            then,
                            Event::Down {
                                at: peer,
                                peer: at,
                                conn,
                            },
                        );
                    }
                    self.feed(at, Input::LinkDown { peer });
                }
            }
            Event::Ask {
                at,
                from,
                conn,
                id,
                request,
            } => {
                if self.conn(at, from) == Some(conn) && !self.apart(at, from) {
                    self.feed(at, Input::Request { from, id, request });
                }
            }
            Event::Answer {
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

    fn start(&mut self, id: Id) {
        let rng = Xoshiro256PlusPlus::seed_from_u64(self.rng.random());
        let mut options = self.options.clone();
        if self.nodes[id as usize].hostile {
            (options.max_links, options.wanted_links) =
                (self.conditions.greed, self.conditions.greed);
        }
        let mut machine = Overlay::new(self.now, id, options, rng, Vec::new());
        let mut out = Vec::new();
        let addresses = vec![self.place(id)];
        let dialable = self.nodes[id as usize].dialable;
        machine.handle(
            self.now,
            Input::Addresses {
                addresses,
                dialable,
            },
            &mut out,
        );
        self.nodes[id as usize].machine = Some(machine);
        self.perform(id, out);
        if id != 0 {
            self.feed(id, Input::Entries(vec![Some(0)]));
        } else {
            self.feed(id, Input::Tick);
        }
    }

    pub(super) fn fail(&mut self, at: Id, dial: DialId, error: DialError<Id, Place>) {
        let then = self.later(1);
        self.push(then, Event::DialFailed { at, dial, error });
    }

    /// Feeds one input to a node and performs its outputs.
    pub(crate) fn feed(&mut self, id: Id, input: In) {
        let Some(machine) = &mut self.nodes[id as usize].machine else {
            return;
        };
        let mut out = Vec::new();
        machine.handle(self.now, input, &mut out);
        self.perform(id, out);
        self.wake(id);
    }

    pub(super) fn wake(&mut self, id: Id) {
        let now = self.now;
        let node = &mut self.nodes[id as usize];
        let Some(machine) = &node.machine else { return };
        let links = machine.links().len();
        // Hostile nodes keep no limits.
        if !node.hostile {
            self.counts.max_links = self.counts.max_links.max(links);
        }
        if !node.hostile && !machine.is_in_handover() {
            self.counts.max_links_outside_handovers =
                self.counts.max_links_outside_handovers.max(links);
        }
        if links >= 2 && node.second_link.is_none() {
            node.second_link = Some(now);
        }
        if let Some(at) = machine.deadline() {
            let at = at.max(now + Duration::from_micros(1));
            if node.ticking.is_none_or(|ticking| at < ticking) {
                node.ticking = Some(at);
                self.push(at, Event::Tick(id));
            }
        }
        if let Some(mut watch) = self.watch.take() {
            watch(self, id);
            self.watch = Some(watch);
        }
    }

    pub(super) fn perform(&mut self, id: Id, out: Vec<Out>) {
        for output in out {
            match output {
                Output::Dial { dial, to, .. } => match to {
                    Target::Entry(_) => self.dial(id, dial, 0),
                    Target::Addresses(addresses) => self.dial(id, dial, addresses[0].0),
                },
                Output::Send {
                    to,
                    id: exchange,
                    request,
                } => self.ask(id, to, exchange, request),
                Output::Respond {
                    to,
                    id: exchange,
                    response,
                } => self.answer(id, to, exchange, response),
                Output::Close { peer, reason } => self.close(id, peer, reason),
                Output::Report(Report::Redirected { .. }) => self.counts.redirects += 1,
                Output::Report(_) | Output::Persist => {}
            }
        }
    }
}
