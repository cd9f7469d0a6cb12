//! A network of nodes in virtual time, each of them the overlay's own state machine.
//!
//! Entry type: [`World`]. The rule it keeps: it invents nothing. A node learns only what a real
//! connection would tell it, and pays for a connection what a real one costs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use diatribe::clock::Time;
use diatribe::overlay::*;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

pub(crate) type Id = u32;
pub(crate) type Machine = Overlay<Id, Place, Xoshiro256PlusPlus>;
type In = Input<Id, Place>;
type Out = Output<Id, Place>;

/// The mean one-way delay. Rounds of the goals have a hundred of them: `Options::round`.
pub(crate) const DELAY: Duration = Duration::from_millis(50);

/// An address: the node's own number, and the network that it is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place(pub Id, pub Id);

impl Address for Place {
    type Host = (Id, Id);

    fn reach(&self) -> Reach {
        Reach::Public
    }

    fn host(&self) -> (Id, Id) {
        (self.0, self.1)
    }

    fn network((_, network): (Id, Id)) -> (Id, Id) {
        (Id::MAX, network)
    }
}

impl Place {
    /// The other end of a connection with the node that is there.
    pub(crate) fn remote(self) -> Remote<Place> {
        Remote {
            host: self.host(),
            reach: Reach::Public,
            address: Some(self),
        }
    }
}

/// What the network is like.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// One-way delays from the first packet of a connection to a link. Counted over the real
    /// stack: tcp 2, websocket 2, noise 3, yamux and streams 1, two handshake rounds 8.
    pub(crate) setup: u32,
    /// Of a hundred thousand exchanges, so many get no response.
    pub(crate) loss: u32,
    /// Whether a node that is full names others when it refuses (BUSY with referrals).
    pub(crate) referrals: bool,
    /// The mean one-way delay.
    pub(crate) delay: Duration,
    /// How many links a hostile node wants.
    pub(crate) greed: usize,
    /// Whether hostile nodes only hold places: they ask for nothing and answer nothing.
    pub(crate) mute: bool,
    /// Whether all hostile nodes, or all nodes but the first ten, are in one network.
    pub(crate) shared: Shared,
    /// Of a hundred dead nodes, so many let a dial run into its time-out instead of refusing it.
    pub(crate) silent: u32,
}

/// Which nodes are behind one address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shared {
    Nobody,
    Hostile,
    Newcomers,
}

impl Default for Weather {
    fn default() -> Weather {
        Weather {
            setup: 16,
            loss: 0,
            referrals: true,
            delay: DELAY,
            greed: 5,
            mute: false,
            shared: Shared::Nobody,
            silent: 20,
        }
    }
}

/// What a node of the world is and sees.
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

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    pub(crate) dials: u64,
    pub(crate) busy: u64,
    pub(crate) redirects: u64,
    pub(crate) handovers: u64,
    pub(crate) events: u64,
    pub(crate) most_links: usize,
    pub(crate) most_links_unlocked: usize,
}

/// Looks at a node after each of its events.
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
    pub(crate) weather: Weather,
    pub(crate) options: Options,
    pub(crate) now: Time,
    /// Whether the two sides are cut apart.
    pub(crate) cut: bool,
    /// How often links came, went or were spoken of: while it stands still, so does the graph.
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
    pub(crate) fn new(seed: u64, weather: Weather, options: Options) -> World {
        World {
            nodes: Vec::new(),
            counts: Counts::default(),
            weather,
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

    /// A node that will start at this time, with node 0 as its entry.
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

    /// Where a node is.
    pub(crate) fn place(&self, id: Id) -> Place {
        let shared = match self.weather.shared {
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

    /// Runs until this time.
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

    /// Runs for so many mean one-way delays.
    pub(crate) fn run_delays(&mut self, delays: u32) {
        self.run(self.now + DELAY * delays);
    }

    /// The node's process ends without a word; its neighbours see the connections reset.
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

    /// The node takes its leave.
    pub(crate) fn leave(&mut self, id: Id) {
        self.feed(id, Input::Shutdown);
        self.crash(id);
    }

    /// Cuts the network in two by each node's side: all links across are lost.
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

    /// So many one-way delays from now, each between half and one and a half of the mean.
    pub(super) fn later(&mut self, delays: u32) -> Time {
        let spread = 0.5 / f64::from(delays.max(1)).sqrt();
        self.now
            + self
                .weather
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
            (options.max_links, options.wanted_links) = (self.weather.greed, self.weather.greed);
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

    /// Feeds one fact to a node and does what follows.
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
        // A hostile node's limits are its own affair.
        if !node.hostile {
            self.counts.most_links = self.counts.most_links.max(links);
        }
        if !node.hostile && !machine.is_in_handover() {
            self.counts.most_links_unlocked = self.counts.most_links_unlocked.max(links);
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
