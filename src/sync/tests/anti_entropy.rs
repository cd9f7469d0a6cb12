//! Tests of anti-entropy among several nodes: all differences are repaired, at a bounded price, and a neighbour that
//! breaks the rules is dropped.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::Time;
use crate::model::{Found, Id};
use crate::sync::message::{MAX_REQUEST, MAX_RESPONSE};
use crate::sync::{AntiEntropy, Checked, Config, Fault, Input, Output};

pub(super) type Name = u8;

/// Nodes with links, each with its batches. Messages take 10 ms.
pub(super) struct Net {
    pub(super) now: Time,
    pub(super) nodes: BTreeMap<Name, Node>,
    links: BTreeSet<(Name, Name)>,
    /// Inputs in flight, with their times of arrival.
    travelling: VecDeque<(Time, Name, Input<Name>)>,
    pub(super) checked: Vec<(Name, Checked<Name>)>,
    pub(super) dropped: Vec<(Name, Name, Fault)>,
    bytes: usize,
    requests: usize,
    /// Deliveries of announced batches: receiver, sender, batch.
    pub(super) delivered: Vec<(Name, Name, Id)>,
    /// Reported holders: the node that was notified, the holder, the batch.
    pub(super) holders: Vec<(Name, Name, Id)>,
    /// Requested batches: the node that was asked, the node that requested, the batch.
    pub(super) asked_for: Vec<(Name, Name, Id)>,
}

pub(super) struct Node {
    pub(super) anti_entropy: AntiEntropy<Name>,
    pub(super) held: BTreeMap<Id, Batch>,
    /// Batches that were removed under the retention limits.
    removed: BTreeMap<Id, Item>,
}

const WAY: Duration = Duration::from_millis(10);

impl Net {
    pub(super) fn new(nodes: impl IntoIterator<Item = Name>) -> Net {
        let mut net = Net {
            now: Time::from_millis(1000),
            nodes: BTreeMap::new(),
            links: BTreeSet::new(),
            travelling: VecDeque::new(),
            checked: Vec::new(),
            dropped: Vec::new(),
            bytes: 0,
            requests: 0,
            delivered: Vec::new(),
            holders: Vec::new(),
            asked_for: Vec::new(),
        };
        for name in nodes {
            let node = Node {
                anti_entropy: AntiEntropy::new(Config::default()),
                held: BTreeMap::new(),
                removed: BTreeMap::new(),
            };
            net.nodes.insert(name, node);
            net.tell(name, Input::Join("a".into()));
        }
        net
    }

    pub(super) fn give(&mut self, name: Name, batches: impl IntoIterator<Item = Batch>) {
        for batch in batches {
            let item = item_of(&batch);
            self.nodes
                .get_mut(&name)
                .unwrap()
                .held
                .insert(batch.0.id, batch);
            self.tell(
                name,
                Input::Stored {
                    room: "a".into(),
                    item,
                },
            );
        }
    }

    /// Removes these batches from `name`, under its retention limits.
    pub(super) fn remove(&mut self, name: Name, batches: impl IntoIterator<Item = Batch>) {
        let node = self.nodes.get_mut(&name).unwrap();
        for batch in batches {
            if node.held.remove(&batch.0.id).is_some() {
                node.removed.insert(batch.0.id, item_of(&batch));
            }
        }
        let removed = node.removed.len() as u64;
        self.tell(
            name,
            Input::Pruned {
                room: "a".into(),
                low_watermark_ms: 0,
                removed,
            },
        );
    }

    pub(super) fn link(&mut self, a: Name, b: Name) {
        self.links.extend([(a, b), (b, a)]);
        for (a, b) in [(a, b), (b, a)] {
            self.tell(a, Input::LinkUp(b));
            self.tell(a, Input::RoomsOf(b, vec!["a".into(), "not mine".into()]));
        }
    }

    /// Stores a large batch at `name`: its own, or one from `from`.
    pub(super) fn give_large(&mut self, name: Name, batch: Batch, from: Option<Name>) {
        let (item, bytes) = (item_of(&batch), batch.0.bytes.len());
        let node = self.nodes.get_mut(&name).unwrap();
        node.held.insert(batch.0.id, batch);
        let room = "a".into();
        self.tell(
            name,
            Input::Large {
                room,
                item,
                bytes,
                from,
            },
        );
    }

    pub(super) fn cut(&mut self, a: Name, b: Name) {
        for (a, b) in [(a, b), (b, a)] {
            self.links.remove(&(a, b));
            self.tell(a, Input::LinkDown(b));
        }
    }

    pub(super) fn unix_ms(&self) -> u64 {
        NOW_MS + 60_000 + self.now.since_start().as_millis() as u64
    }

    pub(super) fn tell(&mut self, name: Name, input: Input<Name>) {
        let unix_ms = self.unix_ms();
        let mut out = Vec::new();
        let Some(node) = self.nodes.get_mut(&name) else {
            return;
        };
        node.anti_entropy.handle(self.now, unix_ms, input, &mut out);
        for output in out {
            self.carry_out(name, output);
        }
    }

    fn carry_out(&mut self, name: Name, output: Output<Name>) {
        let at = self.now + WAY;
        let node = self.nodes.get_mut(&name).unwrap();
        match output {
            Output::Load(room, _) => {
                let items = node.held.values().map(item_of).collect();
                self.tell(name, Input::Loaded(room, 0, items));
            }
            Output::Request(to, token, bytes) => {
                assert!(bytes.len() <= MAX_REQUEST);
                self.bytes += bytes.len() + 1;
                self.requests += 1;
                let request = u64::from(name) << 32 | token;
                if self.links.contains(&(name, to)) && self.nodes.contains_key(&to) {
                    self.travelling.push_back((
                        at,
                        to,
                        Input::Request(name, request, bytes.into()),
                    ));
                } else {
                    self.travelling.push_back((at, name, Input::Failed(token)));
                }
            }
            Output::Respond(to, request, bytes) => {
                assert!(bytes.len() <= MAX_RESPONSE);
                self.bytes += bytes.len() + 1;
                let token = request & u64::from(u32::MAX);
                self.travelling
                    .push_back((at, name, Input::Sent(request, true)));
                if self.links.contains(&(name, to)) {
                    self.travelling
                        .push_back((at, to, Input::Response(token, bytes.into())));
                }
            }
            Output::Read {
                peer,
                request,
                room,
                ids,
                most,
            } => {
                assert_eq!(room, "a");
                let mut found = Found {
                    looked_at: 1,
                    ..Found::default()
                };
                let mut bytes = 0;
                self.asked_for
                    .extend(ids.iter().map(|id| (peer, name, *id)));
                for id in ids {
                    match node.held.get(&id) {
                        None if node.removed.contains_key(&id) => {
                            found.removed.push(node.removed[&id]);
                        }
                        None => found.missing.push(id),
                        Some(held) if bytes > 0 && bytes + held.0.bytes.len() > most => break,
                        Some(held) => {
                            bytes += held.0.bytes.len();
                            found.envelopes.push(held.0.bytes.clone());
                        }
                    }
                }
                self.tell(name, Input::Found(peer, request, found));
            }
            Output::Outstanding { .. } => {}
            Output::Holds(peer, id) => self.holders.push((name, peer, id)),
            Output::Fetched {
                peer,
                ticket,
                room,
                envelopes,
                announced,
            } => {
                assert_eq!(room, "a");
                let (mut stored, mut forged) = (0, 0);
                if let Some(id) = announced {
                    self.delivered.push((name, peer, id));
                }
                for envelope in envelopes {
                    match read_back(&envelope) {
                        Ok(batch) if !self.nodes[&name].held.contains_key(&batch.0.id) => {
                            match announced {
                                Some(_) => self.give_large(name, batch, Some(peer)),
                                None => self.give(name, [batch]),
                            }
                            stored += 1;
                        }
                        Ok(_) => {}
                        Err(_) => forged += 1,
                    }
                }
                self.travelling.push_back((
                    at,
                    name,
                    Input::Settled {
                        ticket,
                        stored,
                        forged,
                    },
                ));
            }
            Output::Checked(checked) => self.checked.push((name, checked)),
            Output::Drop(peer, fault) => {
                self.dropped.push((name, peer, fault));
                self.cut(name, peer);
            }
        }
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut steps = 0;
        loop {
            let due = self
                .nodes
                .values()
                .filter_map(|node| node.anti_entropy.deadline())
                .min();
            let next = self
                .travelling
                .front()
                .map(|(at, ..)| *at)
                .into_iter()
                .chain(due)
                .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            steps += 1;
            assert!(steps < 2_000_000, "nothing spins");
            self.now = self.now.max(next);
            match self.travelling.front() {
                Some((at, ..)) if *at <= self.now => {
                    let (_, to, input) = self.travelling.pop_front().unwrap();
                    self.tell(to, input);
                }
                _ => {
                    let names: Vec<Name> = self.nodes.keys().copied().collect();
                    for name in names {
                        if self.nodes[&name]
                            .anti_entropy
                            .deadline()
                            .is_some_and(|at| at <= self.now)
                        {
                            self.tell(name, Input::Tick);
                            let after = self.nodes[&name].anti_entropy.deadline();
                            assert!(
                                after.is_none_or(|at| at > self.now),
                                "{name} has done what was due"
                            );
                        }
                    }
                }
            }
        }
        self.now = end;
    }

    pub(super) fn equal(&self) -> bool {
        let mut sets = self
            .nodes
            .values()
            .map(|node| node.held.keys().collect::<Vec<_>>());
        let first = sets.next();
        sets.all(|set| Some(set) == first)
    }
}

pub(super) fn batches(range: std::ops::Range<u64>) -> Vec<Batch> {
    range.map(|n| batch((n % 5) as u8, n)).collect()
}

#[test]
fn agreement_costs_at_most_100_bytes_a_room_and_round() {
    let mut net = Net::new([1, 2]);
    net.give(1, batches(1..1000));
    net.give(2, batches(1..1000));
    net.link(1, 2);
    net.run(Duration::from_secs(58));
    assert!(
        net.checked.len() >= 12,
        "on link-up and at intervals: {}",
        net.checked.len()
    );
    for (_, checked) in &net.checked {
        assert!(
            checked.agreed && checked.repaired == 0 && checked.steps == 1,
            "{checked:?}"
        );
        assert!(checked.bytes <= 60, "{checked:?}");
    }
    assert_eq!(
        net.bytes as u64,
        net.checked
            .iter()
            .map(|(_, checked)| checked.bytes)
            .sum::<u64>()
    );
    let agreed = net.nodes[&1].anti_entropy.room("a").unwrap().agreed();
    assert_eq!(agreed.keys().collect::<Vec<_>>(), [&2]);
}

#[test]
fn a_node_that_was_away_has_everything_soon_after_its_first_link() {
    let mut net = Net::new([1, 2]);
    net.give(1, batches(1..3000));
    net.give(2, batches(1..2000));
    net.link(1, 2);
    net.run(Duration::from_millis(500));
    assert!(net.equal());
    let repaired: u64 = net
        .checked
        .iter()
        .map(|(_, checked)| checked.repaired)
        .sum();
    assert_eq!(repaired, 1000);
}

#[test]
fn both_get_what_they_lack_and_then_agree() {
    let mut net = Net::new([1, 2]);
    net.give(1, batches(1..1500));
    net.give(2, batches(1000..2500));
    net.link(1, 2);
    net.run(Duration::from_secs(12));
    assert!(net.equal());
    assert!(net.checked.last().unwrap().1.agreed);
    assert!(net.dropped.is_empty(), "{:?}", net.dropped);
}

#[test]
fn two_halves_are_equal_within_seconds_of_healing() {
    let mut net = Net::new(0..10);
    let chain = |net: &mut Net, nodes: std::ops::Range<Name>| {
        for name in nodes.clone().skip(1) {
            net.link(name - 1, name);
        }
    };
    chain(&mut net, 0..5);
    chain(&mut net, 5..10);
    for name in 0..10u8 {
        net.give(name, batches(if name < 5 { 1..500 } else { 400..900 }));
    }
    net.run(Duration::from_secs(60));
    // Sent just before, and so left out of the comparison of the neighbours.
    let last = batch_in("a", 1, 5000, 1, net.unix_ms());
    net.give(0, [last]);
    net.link(4, 5);
    net.run(Duration::from_secs(15));
    assert!(net.equal(), "ten in a chain");
}

#[test]
fn large_batches_travel_within_the_limits() {
    let mut net = Net::new([1, 2]);
    net.give(
        1,
        (1..12).map(|n| batch_of("a", 1, n, 1, NOW_MS + n, 1 << 20)),
    );
    net.give(
        1,
        (12..80).map(|n| batch_of("a", 1, n, 1, NOW_MS + n, 64 << 10)),
    );
    net.link(1, 2);
    net.run(Duration::from_secs(5));
    assert!(net.equal());
    assert!(net.requests < 100, "{} requests", net.requests);
}

#[test]
fn a_room_of_many_batches_is_caught_up_without_deferrals() {
    let n = if cfg!(debug_assertions) {
        10_000
    } else {
        100_000
    };
    let mut net = Net::new([1, 2]);
    net.give(1, batches(1..n));
    net.link(1, 2);
    let start = std::time::Instant::now();
    net.run(Duration::from_secs(30));
    println!(
        "{n} batches: {} requests, {} bytes, {:?}",
        net.requests,
        net.bytes,
        start.elapsed()
    );
    assert!(net.equal());
    assert!(net.dropped.is_empty());
}

#[test]
fn rooms_that_only_one_is_in_are_not_compared() {
    let mut net = Net::new([1, 2]);
    net.tell(1, Input::Join("mine alone".into()));
    net.link(1, 2);
    net.run(Duration::from_secs(30));
    assert!(net.checked.iter().all(|(_, checked)| checked.room == "a"));
}

#[test]
fn batches_that_a_neighbour_removed_are_neither_claimed_nor_requested() {
    // A low watermark is never within the last minutes.
    const AGO_MS: u64 = 3_600_000;
    let before = |range: std::ops::Range<u64>| {
        range.map(|n| batch_in("a", (n % 5) as u8, n, 1, NOW_MS - AGO_MS + n))
    };
    let mut net = Net::new([1, 2]);
    net.give(1, before(1..100));
    net.give(2, before(60..120));
    let low_watermark_ms = NOW_MS + 60 - AGO_MS;
    net.tell(
        2,
        Input::Pruned {
            room: "a".into(),
            low_watermark_ms,
            removed: 0,
        },
    );
    net.link(1, 2);
    net.run(Duration::from_secs(30));
    assert!(
        net.checked
            .iter()
            .rev()
            .take(4)
            .all(|(_, checked)| checked.agreed),
        "{:?}",
        net.checked
    );
    assert_eq!(
        (net.nodes[&1].held.len(), net.nodes[&2].held.len()),
        (119, 60)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_connected_nodes_end_equal(
        held in prop::collection::vec(prop::collection::btree_set(1u64..400, 0..200), 2..6),
        links in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
    ) {
        let mut net = Net::new(0..held.len() as u8);
        for (name, numbers) in held.iter().enumerate() {
            net.give(name as u8, numbers.iter().map(|n| batch(1, *n)));
        }
        for name in 1..held.len() as u8 {
            net.link(name - 1, name);
        }
        for (a, b) in links {
            let (a, b) = (a.index(held.len()) as u8, b.index(held.len()) as u8);
            if a != b && !net.links.contains(&(a, b)) {
                net.link(a, b);
            }
        }
        net.run(Duration::from_secs(60));
        prop_assert!(net.equal());
        prop_assert!(net.dropped.is_empty(), "{:?}", net.dropped);
    }
}
