//! The state of four nodes and of the packets between them, and the steps that are possible next.
//!
//! Entry type: [`Net`]. The rule it keeps: a message arrives on a connection that is up at its receiver, and before that
//! connection's end; otherwise any order is possible.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use diatribe::clock::Time;
use diatribe::overlay::*;

use super::dice::Dice;
use super::packet::{Packet, is_late, lie, sender};
use crate::conditions::Place;
use crate::world::Id;

type Machine = Overlay<Id, Place, Dice>;

/// The node through which the newcomer joins.
pub(crate) const COORDINATOR: Id = 0;
/// The node that joins.
pub(crate) const NEWCOMER: Id = 3;
/// Number of nodes.
pub(crate) const NODES: usize = 4;

/// Returns the maximum number of links of a node: the three are full, and the newcomer has room.
pub(crate) fn max_links_of(id: Id) -> usize {
    match id {
        NEWCOMER => 4,
        _ => 2,
    }
}

/// One step of the model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// The packet at this position of the list arrives.
    Arrive(usize),
    /// It is lost: the exchange of its sender times out.
    Lose(usize),
    /// It arrives falsified by the liar.
    Lie(usize),
    /// The connection between these two is reset.
    Cut(Id, Id),
    /// No packet is under way, or all are slow: the next deadline passes.
    Wait,
}

/// The links of the first three nodes. The coordinator has two links and is full in either shape.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Each is linked with both others: this shows a link above the limit.
    Triangle,
    /// The two others are linked with the coordinator only: a link that is closed too early parts them.
    Star,
}

/// The four nodes and the packets under way.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    pub(crate) nodes: Vec<Machine>,
    /// Links as each side's driver sees them, with the connection's number.
    pub(crate) links: Vec<Vec<(Id, u32)>>,
    pub(crate) under_way: Vec<Packet>,
    pub(crate) now: Time,
    /// Time at which the newcomer starts.
    pub(crate) begun: Time,
    /// Number of faults that may still happen.
    pub(crate) faults: u32,
    /// A connection was reset: the nodes may be parted then.
    pub(crate) was_cut: bool,
    /// The node that lies, if there is one.
    pub(crate) liar: Option<Id>,
    /// The newcomer was refused, or its connection was closed.
    pub(crate) refused: bool,
    /// Time since which each node has been in handovers without a break.
    pub(crate) in_handover: Vec<Option<Time>>,
    pub(super) connections: u32,
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
    /// Returns three linked nodes, and a newcomer that knows the coordinator.
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
                // It dials for one link by itself; the coordinator provides the second. It has room for both.
                options.wanted_links = 1;
            }
            options.max_links = max_links_of(id);
            let rng = Dice::new(u64::from(id) + 1);
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
            in_handover: vec![None; NODES],
            connections: 0,
        };
        for (id, entries) in entries.into_iter().enumerate() {
            net.start(id as Id, true, entries);
            net.settle_down(match shape {
                Shape::Triangle => id * (id + 1) / 2,
                Shape::Star => id,
            });
        }
        net.start(NEWCOMER, dialable, vec![COORDINATOR]);
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

    /// Delivers all packets in the order in which they were sent, until there are `most` links.
    fn settle_down(&mut self, most: usize) {
        for _ in 0..500 {
            let ends: usize = self.links.iter().map(Vec::len).sum();
            let linked = ends == 2 * most;
            match (0..self.under_way.len()).find(|at| self.may_arrive(*at)) {
                Some(at) => self.step(&Step::Arrive(at)),
                None if linked && !self.nodes.iter().any(Overlay::is_in_handover) => return,
                None => self.step(&Step::Wait),
            }
        }
        panic!("the first nodes do not settle: {self:?}");
    }

    /// Adds all steps that are possible next.
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
            // A sender learns of a loss before or after the overlay's own timeouts.
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

    /// Returns whether the newcomer has a link or was refused, and no node is in a handover.
    pub(crate) fn is_over(&self) -> bool {
        let settled = self.nodes[NEWCOMER as usize]
            .links()
            .iter()
            .any(|link| link.is_confirmed());
        let free = self.nodes.iter().all(|node| !node.is_in_handover());
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
        // The packets under way are a set: their order has no meaning.
        self.under_way
            .sort_by_cached_key(|packet| format!("{packet:?}"));
        for (id, node) in self.nodes.iter().enumerate() {
            let since = self.in_handover[id].unwrap_or(self.now);
            self.in_handover[id] = node.is_in_handover().then_some(since);
        }
    }

    /// Counts a loss as a fault, unless the liar causes it.
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

    /// Returns whether a packet may be the next to arrive.
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

    pub(super) fn conn(&self, at: Id, peer: Id) -> Option<u32> {
        let mut links = self.links[at as usize].iter();
        links.find(|(id, _)| *id == peer).map(|(_, conn)| *conn)
    }
}
