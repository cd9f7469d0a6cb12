//! A state of four nodes and of what is under way between them, and what may happen next.
//!
//! Entry type: [`Net`]. The rule it keeps: a message comes on a connection that is up at its receiver, and before that
//! connection's end; in all else any order is possible.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use diatribe::clock::Time;
use diatribe::overlay::*;
use std::convert::Infallible;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{SeedableRng, TryRng};

use crate::world::{Id, Place};

type Machine = Overlay<Id, Place, Dice>;

/// Who lets the newcomer in.
pub(crate) const GIVER: Id = 0;
/// Who comes.
pub(crate) const NEWCOMER: Id = 3;
/// How many nodes there are.
pub(crate) const NODES: usize = 4;

type Reply = Result<Response<Id, Place>, ExchangeError>;

/// What is under way.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// The dialler's proof.
    Prove {
        from: Id,
        to: Id,
        dial: DialId,
    },
    /// The dialled node's proof.
    Proved {
        from: Id,
        to: Id,
        dial: DialId,
    },
    Failed {
        at: Id,
        dial: DialId,
        error: DialError<Id, Place>,
    },
    Up {
        at: Id,
        peer: Id,
        conn: u32,
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
        result: Reply,
    },
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// What is at this place of the list arrives.
    Arrive(usize),
    /// It is lost: its sender hears nothing for as long as an exchange may take.
    Lose(usize),
    /// It arrives as the liar's lie.
    Lie(usize),
    /// The connection between these two is reset.
    Cut(Id, Id),
    /// Nothing more is under way, or all of it is slow: the next deadline comes.
    Wait,
}

/// How the three that are there are linked. The giver has two links and is full in either.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Each with both others: a link more than allowed shows here.
    Triangle,
    /// Both others with the giver only: a link that goes too early parts them.
    Star,
}

/// A generator of random numbers that shows nothing of its state: runs which differ in nothing else are one.
#[derive(Clone)]
pub(crate) struct Dice(Xoshiro256PlusPlus);

impl Debug for Dice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dice")
    }
}

impl TryRng for Dice {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(bytes)
    }
}

/// The four nodes and what is under way.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    pub(crate) nodes: Vec<Machine>,
    /// Links as each side's driver sees them, with the connection's number.
    pub(crate) links: Vec<Vec<(Id, u32)>>,
    pub(crate) under_way: Vec<Packet>,
    pub(crate) now: Time,
    /// When the newcomer came.
    pub(crate) begun: Time,
    /// How many things may still go wrong.
    pub(crate) faults: u32,
    /// A connection was reset: who is connected with whom is then no promise.
    pub(crate) was_cut: bool,
    /// Who lies, if anybody does.
    pub(crate) liar: Option<Id>,
    /// The newcomer was told that there is no room for it, or its connection was closed.
    pub(crate) refused: bool,
    /// Since when each node has been locked without a break.
    pub(crate) locked: Vec<Option<Time>>,
    connections: u32,
}

impl Hash for Net {
    fn hash<H: Hasher>(&self, state: &mut H) {
        format!("{self:?}").hash(state);
    }
}

impl PartialEq for Net {
    fn eq(&self, other: &Net) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl Net {
    /// Three nodes that are there, to which a newcomer comes that knows the giver.
    pub(crate) fn new(shape: Shape, dialable: bool, faults: u32, liar: Option<Id>) -> Net {
        let (wanted, entries) = match shape {
            Shape::Triangle => (2, [vec![], vec![0], vec![0, 1]]),
            Shape::Star => (1, [vec![], vec![0], vec![0]]),
        };
        let mut options = Options::with_links(2, wanted);
        (options.shuffle, options.flip) = (0.0, 0.0);
        (options.anchor_swap, options.top_up, options.own_links) = (0.0, 0.0, 0);
        // No upkeep while the model runs.
        options.round = Duration::from_secs(100_000);
        let now = Time::from_millis(1000);
        let machine = |id: Id| {
            let mut options = options.clone();
            if id == NEWCOMER {
                // It looks for one link by itself; the second is the giver's to find. It has room for both.
                options.wanted_links = 1;
            }
            options.max_links = most_links(id);
            let rng = Dice(Xoshiro256PlusPlus::seed_from_u64(u64::from(id) + 1));
            Overlay::new(now, id, options, rng, Vec::new())
        };
        let mut net = Net {
            nodes: (0..NODES as Id).map(machine).collect(),
            links: vec![Vec::new(); NODES],
            under_way: Vec::new(),
            now,
            begun: now,
            faults: 0,
            was_cut: false,
            liar: None,
            refused: false,
            locked: vec![None; NODES],
            connections: 0,
        };
        for (id, entries) in entries.into_iter().enumerate() {
            net.start(id as Id, true, entries);
            net.settle_down(match shape {
                Shape::Triangle => id * (id + 1) / 2,
                Shape::Star => id,
            });
        }
        net.start(NEWCOMER, dialable, vec![GIVER]);
        (net.begun, net.faults, net.liar) = (net.now, faults, liar);
        net
    }

    fn start(&mut self, id: Id, dialable: bool, entries: Vec<Id>) {
        let addresses = vec![Place(id, id)];
        self.feed(
            id,
            Input::Addresses {
                addresses,
                dialable,
            },
        );
        self.feed(id, Input::Entries(entries.into_iter().map(Some).collect()));
    }

    /// All arrives in the order in which it was sent, until there are so many links.
    fn settle_down(&mut self, most: usize) {
        for _ in 0..500 {
            let ends: usize = self.links.iter().map(Vec::len).sum();
            let linked = ends == 2 * most;
            match (0..self.under_way.len()).find(|at| self.may_arrive(*at)) {
                Some(at) => self.step(&Step::Arrive(at)),
                None if linked && !self.nodes.iter().any(Overlay::locked) => return,
                None => self.step(&Step::Wait),
            }
        }
        panic!("the first nodes do not settle: {self:?}");
    }

    /// Everything that may happen next.
    pub(crate) fn steps(&self, steps: &mut Vec<Step>) {
        let arriving = (0..self.under_way.len()).filter(|at| self.may_arrive(*at));
        let quick: Vec<usize> = arriving
            .filter(|at| !is_late(&self.under_way[*at]))
            .collect();
        for at in &quick {
            steps.push(Step::Arrive(*at));
            let packet = &self.under_way[*at];
            if self.liar.is_some_and(|liar| sender(packet) == Some(liar)) {
                steps.push(Step::Lie(*at));
                steps.push(Step::Lose(*at));
            }
        }
        if quick.is_empty() {
            if self.is_over() {
                return;
            }
            // What was lost is known to its sender only after the waits of the overlay itself, or before them.
            steps.extend(
                (0..self.under_way.len())
                    .filter(|at| self.may_arrive(*at))
                    .map(Step::Arrive),
            );
            steps.push(Step::Wait);
        }
        if self.faults == 0 {
            return;
        }
        let exchanges = quick
            .iter()
            .filter(|at| sender(&self.under_way[**at]).is_some());
        steps.extend(exchanges.map(|at| Step::Lose(*at)));
        if !quick.is_empty() {
            steps.push(Step::Wait);
        }
        for (id, links) in self.links.iter().enumerate() {
            let others = links.iter().filter(|(peer, _)| *peer > id as Id);
            steps.extend(others.map(|(peer, _)| Step::Cut(id as Id, *peer)));
        }
    }

    /// Whether the newcomer has what it came for or was told that it gets nothing, and everybody is free.
    pub(crate) fn is_over(&self) -> bool {
        let settled = self.nodes[NEWCOMER as usize]
            .links()
            .iter()
            .any(|link| link.settled);
        let free = self.nodes.iter().all(|node| !node.locked());
        free && (settled || self.refused)
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match *step {
            Step::Arrive(at) => {
                let packet = self.under_way.remove(at);
                self.arrive(packet);
            }
            Step::Lie(at) => {
                let packet = lie(self.under_way.remove(at));
                self.arrive(packet);
            }
            Step::Lose(at) => {
                let packet = self.under_way.remove(at);
                self.spend_fault(&packet);
                self.lose(packet);
            }
            Step::Cut(a, b) => {
                (self.faults, self.was_cut) = (self.faults - 1, true);
                for (at, peer) in [(a, b), (b, a)] {
                    if let Some(conn) = self.conn(at, peer) {
                        self.under_way.push(Packet::Down { at, peer, conn });
                    }
                }
            }
            Step::Wait => {
                if self.under_way.iter().any(|packet| !is_late(packet)) {
                    self.faults -= 1;
                }
                let next = self.nodes.iter().filter_map(Overlay::deadline).min();
                self.now = next
                    .unwrap_or(self.now)
                    .max(self.now + Duration::from_millis(1));
                for id in 0..NODES as Id {
                    if self.nodes[id as usize]
                        .deadline()
                        .is_some_and(|at| at <= self.now)
                    {
                        self.feed(id, Input::Tick);
                    }
                }
            }
        }
        // What is under way is a set: its order says nothing.
        self.under_way
            .sort_by_cached_key(|packet| format!("{packet:?}"));
        for (id, node) in self.nodes.iter().enumerate() {
            let since = self.locked[id].unwrap_or(self.now);
            self.locked[id] = node.locked().then_some(since);
        }
    }

    /// What a liar loses is no accident.
    fn spend_fault(&mut self, packet: &Packet) {
        if self.liar.is_none() || sender(packet) != self.liar {
            self.faults -= 1;
        }
    }

    fn lose(&mut self, packet: Packet) {
        let (at, from, conn, id) = match packet {
            Packet::Ask {
                at, from, conn, id, ..
            } => (from, at, conn, id),
            Packet::Answer {
                at, from, conn, id, ..
            } => (at, from, conn, id),
            _ => return,
        };
        let result = Err(ExchangeError::Lost);
        self.under_way.push(Packet::Answer {
            at,
            from,
            conn,
            id,
            result,
        });
    }

    /// Whether a packet may be the next to arrive.
    fn may_arrive(&self, at: usize) -> bool {
        match &self.under_way[at] {
            Packet::Ask { at, from, conn, .. } | Packet::Answer { at, from, conn, .. } => {
                let coming =
                    |packet: &Packet| matches!(packet, Packet::Up { conn: c, .. } if c == conn);
                self.conn(*at, *from) == Some(*conn) || !self.under_way.iter().any(coming)
            }
            Packet::Down { at, conn, .. } => {
                let (to, on) = (*at, *conn);
                let before = |packet: &Packet| match packet {
                    Packet::Ask { at, conn, .. } | Packet::Answer { at, conn, .. } => {
                        *at == to && *conn == on && !is_late(packet)
                    }
                    Packet::Up { at, conn, .. } => *at == to && *conn == on,
                    _ => false,
                };
                !self.under_way.iter().any(before)
            }
            _ => true,
        }
    }

    fn conn(&self, at: Id, peer: Id) -> Option<u32> {
        let mut links = self.links[at as usize].iter();
        links.find(|(id, _)| *id == peer).map(|(_, conn)| *conn)
    }

    fn arrive(&mut self, packet: Packet) {
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
                    self.refused |= at == NEWCOMER && peer == GIVER;
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
                let is_word = matches!(
                    request,
                    Request::Report { .. } | Request::Cancel { .. } | Request::Leave { .. }
                );
                self.feed(at, Input::Request { from, id, request });
                if is_word {
                    self.hear_done(from, at, id);
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

    /// The answer to a word of which nothing follows has no order among others: it comes at once.
    fn hear_done(&mut self, at: Id, by: Id, exchange: ExchangeId) {
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

    fn feed(&mut self, id: Id, input: Input<Id, Place>) {
        let mut out = Vec::new();
        self.nodes[id as usize].handle(self.now, input, &mut out);
        self.perform(id, out);
    }

    fn perform(&mut self, from: Id, out: Vec<Output<Id, Place>>) {
        for output in out {
            match output {
                // One that was refused tries others: that is another run.
                Output::Dial { .. } if from == NEWCOMER && self.refused => {}
                Output::Dial { dial, to, .. } => {
                    let to = match to {
                        Target::Entry(at) if from == 2 => at as Id,
                        Target::Entry(_) => GIVER,
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

/// How many links a node may have: the three are full, and the newcomer has room.
pub(crate) fn most_links(id: Id) -> usize {
    match id {
        NEWCOMER => 4,
        _ => 2,
    }
}

/// Whether a packet is the news that another one was lost, which comes after seconds.
fn is_late(packet: &Packet) -> bool {
    matches!(packet, Packet::Answer { result: Err(_), .. })
}

/// Who has sent a message of the overlay.
fn sender(packet: &Packet) -> Option<Id> {
    match packet {
        Packet::Ask { from, .. } => Some(*from),
        Packet::Answer {
            from,
            result: Ok(_),
            ..
        } => Some(*from),
        _ => None,
    }
}

/// The contrary of what a message says.
fn lie(mut packet: Packet) -> Packet {
    match &mut packet {
        Packet::Ask { request, .. } => match request {
            Request::Report { linked, .. } => *linked = !*linked,
            Request::Cancel { keep, .. } => *keep = !*keep,
            Request::Redirect { to, .. } => {
                *to = Contact {
                    id: 1,
                    addresses: to.addresses.clone(),
                }
            }
            Request::Join { need, .. } => *need = 2 - (*need).min(2),
            Request::Attach { nonce } => *nonce ^= 1,
            Request::Take { .. }
            | Request::Thin { .. }
            | Request::Shuffle { .. }
            | Request::Leave { .. } => {}
        },
        Packet::Answer {
            result: Ok(response),
            ..
        } => match response {
            Response::Joined { answer, .. } => {
                *answer = match answer {
                    Answer::Taken => Answer::Split,
                    _ => Answer::Taken,
                }
            }
            Response::Redirected { refusal, .. } => {
                *refusal = match refusal {
                    Some(_) => None,
                    None => Some(Refusal::Busy),
                }
            }
            Response::Done { ok } => *ok = !*ok,
            Response::Taken(terms) => *terms = None,
            Response::Contacts(contacts) => contacts.clear(),
        },
        _ => {}
    }
    packet
}
