//! Deliveries compared with the events sent: a set for each node.
//!
//! Entry type: [`Tally`], of all nodes or of those of one process. The rule it keeps: an event counts as delivered to a
//! node once, when it arrived there whole, from its author, in its room.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use super::args::MIN_SIZE;
use super::as_text;
use super::histogram::Histogram;
use super::machine;
use crate::model::{BatchId, RoomName};
use crate::node::Message;

/// Byte that fills the data after its head.
const FILLER: u8 = 0xab;

/// Which events there are: number `n` is sent by publisher `n % publishers`, and its publishers go
/// round in the rooms.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) count: u64,
    pub(crate) size: usize,
    #[serde(with = "as_text")]
    pub(crate) rooms: Vec<RoomName>,
    /// The first nodes, in their order.
    #[serde(with = "as_text")]
    pub(crate) publishers: Vec<PeerId>,
}

impl Plan {
    pub(crate) fn publisher(&self, number: u64) -> usize {
        (number % self.publishers.len() as u64) as usize
    }

    pub(crate) fn room(&self, number: u64) -> &RoomName {
        let turn = number / self.publishers.len() as u64;
        &self.rooms[(turn % self.rooms.len() as u64) as usize]
    }

    /// Returns the number of events that `node` must receive: all but its own.
    fn expected(&self, node: usize) -> u64 {
        let publishers = self.publishers.len();
        if node >= publishers {
            return self.count;
        }
        let before = self.count.saturating_sub(node as u64);
        self.count - before.div_ceil(publishers as u64)
    }

    /// Event `number` as it is sent now.
    pub(crate) fn data(&self, number: u64) -> Vec<u8> {
        let mut data = vec![FILLER; self.size];
        data[..8].copy_from_slice(&number.to_le_bytes());
        let now = u64::try_from(machine::monotonic().as_nanos()).unwrap_or(u64::MAX);
        data[8..MIN_SIZE].copy_from_slice(&now.to_le_bytes());
        data
    }

    /// The number of an event and when it was sent, if it is one of the plan's.
    fn read(&self, message: &Message) -> Option<(u64, Duration)> {
        let (number, rest) = message.data.split_first_chunk::<8>()?;
        let (sent, filler) = rest.split_first_chunk::<8>()?;
        let number = u64::from_le_bytes(*number);
        let own = number < self.count
            && self.publishers[self.publisher(number)] == message.author
            && *self.room(number) == message.room
            && message.data.len() == self.size
            && is_filler(filler);
        own.then(|| (number, Duration::from_nanos(u64::from_le_bytes(*sent))))
    }
}

/// In pieces, which compilers look at as a whole: a reader that goes byte by byte takes longer than the
/// node does.
fn is_filler(bytes: &[u8]) -> bool {
    let differs = |piece: &[u8]| piece.iter().fold(0, |seen, byte| seen | (byte ^ FILLER));
    bytes.chunks(256).all(|piece| differs(piece) == 0)
}

/// The deliveries of these nodes.
#[derive(Debug)]
pub(crate) struct Tally {
    plan: Plan,
    nodes: Vec<(usize, Mutex<Came>)>,
    expected: u64,
    delivered: AtomicU64,
}

#[derive(Debug)]
struct Came {
    held: Vec<u64>,
    took: Histogram,
    batch: Option<BatchId>,
    batches: u64,
    duplicated: u64,
    foreign: u64,
    missed: u64,
    last: Duration,
}

/// The sums over all sets at the end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) delivered: u64,
    pub(crate) expected: u64,
    pub(crate) duplicated: u64,
    /// Number of events that differ from those sent, or that returned to their sender.
    pub(crate) foreign: u64,
    /// Number of events that the readers report as missed.
    pub(crate) missed: u64,
    /// Number of batches that carried the events, over all nodes.
    pub(crate) batches: u64,
    pub(crate) took: Histogram,
    /// Time of the last delivery, by [`machine::monotonic`].
    pub(crate) last: Duration,
}

impl Tally {
    /// Of the nodes of these numbers, the first of the cluster being 0.
    pub(crate) fn new(plan: Plan, nodes: Range<usize>) -> Tally {
        let words = usize::try_from(plan.count.div_ceil(64)).unwrap_or(usize::MAX);
        let came = || Came {
            held: vec![0; words],
            took: Histogram::default(),
            batch: None,
            batches: 0,
            duplicated: 0,
            foreign: 0,
            missed: 0,
            last: Duration::ZERO,
        };
        Tally {
            expected: Tally::expected_of(&plan, nodes.clone()),
            nodes: nodes.map(|node| (node, Mutex::new(came()))).collect(),
            delivered: AtomicU64::new(0),
            plan,
        }
    }

    /// Deliveries that there must be: every event at every node but its publisher's.
    pub(crate) fn expected_of(plan: &Plan, nodes: Range<usize>) -> u64 {
        nodes.map(|node| plan.expected(node)).sum()
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Records a message at the `n`th of these nodes.
    pub(crate) fn came(&self, n: usize, message: &Message) {
        let now = machine::monotonic();
        let mut came = self.nodes[n]
            .1
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // An event that a publisher receives from itself is not an expected delivery.
        let to_come = |(number, _): &(u64, _)| self.plan.publisher(*number) != self.nodes[n].0;
        let Some((number, sent)) = self.plan.read(message).filter(to_come) else {
            came.foreign += 1;
            return;
        };
        if came.batch != Some(message.id) {
            came.batch = Some(message.id);
            came.batches += 1;
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if came.held[word] & bit != 0 {
            came.duplicated += 1;
            return;
        }
        came.held[word] |= bit;
        came.took.record(now.saturating_sub(sent));
        came.last = now;
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that the reader of node `n` missed this number of events.
    pub(crate) fn missed(&self, n: usize, events: u64) {
        let mut came = self.nodes[n]
            .1
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        came.missed += events;
    }

    /// Compares the deliveries with the events sent.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (node, came) in &self.nodes {
            let came = came.lock().unwrap_or_else(PoisonError::into_inner);
            let delivered = (0..self.plan.count)
                .filter(|number| self.plan.publisher(*number) != *node)
                .filter(|number| came.held[(number / 64) as usize] & (1 << (number % 64)) != 0)
                .count() as u64;
            totals.add(&Totals {
                delivered,
                expected: self.plan.expected(*node),
                duplicated: came.duplicated,
                foreign: came.foreign,
                missed: came.missed,
                batches: came.batches,
                took: came.took.clone(),
                last: came.last,
            });
        }
        totals
    }
}

impl Totals {
    /// Takes in those of other nodes.
    pub(crate) fn add(&mut self, other: &Totals) {
        self.delivered += other.delivered;
        self.expected += other.expected;
        self.duplicated += other.duplicated;
        self.foreign += other.foreign;
        self.missed += other.missed;
        self.batches += other.batches;
        self.took.merge(&other.took);
        self.last = self.last.max(other.last);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn plan() -> Plan {
        Plan {
            count: 100,
            size: 20,
            rooms: vec!["a".parse().unwrap(), "b".parse().unwrap()],
            publishers: vec![PeerId::random()],
        }
    }

    fn message(plan: &Plan, number: u64) -> Message {
        Message {
            id: BatchId([0; 32]),
            room: plan.room(number).clone(),
            author: plan.publishers[plan.publisher(number)],
            instance_id: [0; 16],
            seq: 1,
            name: String::new(),
            data: Bytes::from(plan.data(number)),
            sent_at_ms: 0,
            backfill: false,
        }
    }

    #[test]
    fn what_came_twice_does_not_stand_for_what_did_not_come() {
        let tally = Tally::new(plan(), 0..3);
        for number in (0..99).chain([7]) {
            tally.came(1, &message(tally.plan(), number));
        }
        let totals = tally.totals();
        assert_eq!(
            (totals.delivered, totals.expected, totals.duplicated),
            (99, 200, 1)
        );
    }

    #[test]
    fn tallies_of_one_node_each_add_up_to_that_of_all() {
        for (count, publishers) in [(1, 2), (7, 3), (100, 4)] {
            let mut plan = plan();
            plan.count = count;
            plan.publishers = (0..publishers).map(|_| PeerId::random()).collect();
            let all = Tally::new(plan.clone(), 0..5);
            assert_eq!(all.expected(), count * 4);
            let mut totals = Totals::default();
            for node in 0..5 {
                let tally = Tally::new(plan.clone(), node..node + 1);
                for number in (0..count).filter(|number| plan.publisher(*number) != node) {
                    tally.came(0, &message(&plan, number));
                    all.came(node, &message(&plan, number));
                }
                assert_eq!(tally.delivered(), tally.expected());
                totals.add(&tally.totals());
            }
            assert_eq!((totals.delivered, totals.expected), (count * 4, count * 4));
            assert_eq!(all.totals().delivered, totals.delivered);
        }
    }

    #[test]
    fn what_came_changed_or_in_another_room_was_not_delivered() {
        let tally = Tally::new(plan(), 0..2);
        let mut other_room = message(tally.plan(), 0);
        other_room.room = tally.plan().room(1).clone();
        let mut changed = message(tally.plan(), 2);
        let mut data = changed.data.to_vec();
        data[19] ^= 1;
        changed.data = data.into();
        tally.came(1, &other_room);
        tally.came(1, &changed);
        let totals = tally.totals();
        assert_eq!((totals.delivered, totals.foreign), (0, 2));
    }

    #[test]
    fn what_a_publisher_is_told_of_its_own_is_nothing_that_was_to_come() {
        let tally = Tally::new(plan(), 0..2);
        tally.came(0, &message(tally.plan(), 0));
        let totals = tally.totals();
        assert_eq!((tally.delivered(), totals.foreign), (0, 1));
    }
}
