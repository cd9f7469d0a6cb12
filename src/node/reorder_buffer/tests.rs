//! Each batch is delivered once, in order where the one before has arrived, and none waits long.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Arrival, Delivery, GAP_TIMEOUT, IN_FLIGHT_TIMEOUT, ReorderBuffer};
use crate::clock::Time;
use crate::model::AuthorStream;

/// A batch: its author, its first number, and the number of its events.
type Delivered = Delivery<(u8, u64, u64)>;

fn stream(author: u8) -> AuthorStream {
    AuthorStream {
        room: "a".parse().unwrap(),
        author: vec![author].into(),
        instance: [author; 16],
    }
}

fn arrival(author: u8, first_seq: u64, follows: bool) -> Arrival<u64> {
    Arrival {
        stream: stream(author),
        first_seq,
        count: 1,
        follows,
        size: 100,
        item: first_seq,
    }
}

fn arrive(order: &mut ReorderBuffer<u64>, ms: u64, seq: u64, follows: bool) -> Vec<(u64, bool)> {
    let mut out = Vec::new();
    order.insert(Time::from_millis(ms), arrival(1, seq, follows), &mut out);
    out.into_iter()
        .map(|delivery| (delivery.item, delivery.late))
        .collect()
}

fn expire(order: &mut ReorderBuffer<u64>, now: Time) -> Vec<(u64, bool)> {
    let mut out = Vec::new();
    order.expire(now, &mut out);
    out.into_iter()
        .map(|delivery| (delivery.item, delivery.late))
        .collect()
}

#[test]
fn a_gap_is_waited_for_and_then_given_up() {
    let mut order = ReorderBuffer::new();
    assert_eq!(arrive(&mut order, 0, 1, true), [(1, false)]);
    assert_eq!(arrive(&mut order, 10, 3, false), []);
    assert_eq!(arrive(&mut order, 20, 4, true), []);
    assert_eq!(order.deadline(), Some(Time::from_millis(10) + GAP_TIMEOUT));
    assert_eq!(expire(&mut order, Time::from_millis(11)), []);
    assert_eq!(
        expire(&mut order, Time::from_millis(10) + GAP_TIMEOUT),
        [(3, false), (4, false)]
    );
    assert_eq!(order.deadline(), None);
    assert_eq!(
        arrive(&mut order, 900, 2, true),
        [(2, true)],
        "late is better than never"
    );
}

#[test]
fn a_gap_is_waited_for_longer_while_what_is_missing_may_be_coming_but_not_for_ever() {
    let mut order = ReorderBuffer::new();
    assert_eq!(arrive(&mut order, 0, 2, false), []);
    let expire_unless = |order: &mut ReorderBuffer<u64>, now, is_fetch_pending: bool| {
        let mut out = Vec::new();
        order.expire_unless(now, |seq| is_fetch_pending && *seq == 2, &mut out);
        out.into_iter()
            .map(|delivery| delivery.item)
            .collect::<Vec<_>>()
    };
    let mut now = Time::ZERO;
    while now + GAP_TIMEOUT < Time::ZERO + IN_FLIGHT_TIMEOUT {
        now = order.deadline().unwrap();
        assert_eq!(expire_unless(&mut order, now, true), [0; 0]);
        assert_eq!(
            order.deadline(),
            Some(now + GAP_TIMEOUT),
            "it does not spin"
        );
    }
    now = order.deadline().unwrap();
    assert_eq!(expire_unless(&mut order, now, true), [2]);

    assert_eq!(arrive(&mut order, 20_000, 4, false), []);
    assert_eq!(
        expire_unless(&mut order, Time::from_millis(20_300), false),
        [4]
    );
}

#[test]
fn what_fills_the_gap_releases_what_waits() {
    let mut order = ReorderBuffer::new();
    assert_eq!(arrive(&mut order, 0, 2, false), []);
    assert_eq!(arrive(&mut order, 1, 3, true), []);
    assert_eq!(
        arrive(&mut order, 2, 1, true),
        [(1, false), (2, false), (3, false)]
    );
    assert_eq!(order.deadline(), None);
}

#[test]
fn what_the_log_stored_in_order_is_delivered_in_order_even_when_its_news_are_not() {
    let mut order = ReorderBuffer::new();
    assert_eq!(arrive(&mut order, 0, 1, true), [(1, false)]);
    assert_eq!(arrive(&mut order, 1, 3, true), []);
    assert_eq!(arrive(&mut order, 2, 2, true), [(2, false), (3, false)]);
}

#[test]
fn after_a_restart_the_log_says_what_was_delivered() {
    let mut order = ReorderBuffer::new();
    assert_eq!(arrive(&mut order, 0, 12, false), []);
    assert_eq!(arrive(&mut order, 1, 11, true), [(11, false), (12, false)]);
    let mut order = ReorderBuffer::new();
    assert_eq!(arrive(&mut order, 0, 50, true), [(50, false)]);
    assert_eq!(arrive(&mut order, 0, 40, false), [(40, true)]);
}

#[test]
fn what_waits_is_bounded() {
    let mut order = ReorderBuffer::new();
    let mut out = Vec::new();
    let large = |author: u8| Arrival {
        size: 1 << 20,
        ..arrival(author, 5, false)
    };
    for author in 0..40 {
        order.insert(Time::ZERO, large(author), &mut out);
    }
    assert!(order.waiting() <= 16);
    let mut order = ReorderBuffer::new();
    for seq in 0..300 {
        order.insert(Time::ZERO, arrival(1, 10 + 2 * seq, false), &mut out);
    }
    assert!(order.waiting() <= 256);
    let mut order = ReorderBuffer::new();
    for n in 0..5000u64 {
        let stream = AuthorStream {
            instance: [(n >> 8) as u8; 16],
            author: vec![n as u8].into(),
            room: "a".parse().unwrap(),
        };
        order.insert(
            Time::ZERO,
            Arrival {
                stream,
                ..arrival(1, 5, false)
            },
            &mut out,
        );
    }
    assert!(order.waiting() <= 4096);
}

proptest! {
    #[test]
    fn each_is_delivered_once_and_in_order_when_the_one_before_is_there(
        // The author, the number of events, and the delay on the way; none when the batch was lost.
        batches in prop::collection::vec((0u8..3, 1u64..4, prop::option::weighted(0.95, 0u64..700)), 1..200),
        seen_before in 0u64..5,
    ) {
        let mut next = BTreeMap::from([(0, 1), (1, 1), (2, 1)]);
        let mut arrivals = Vec::new();
        let mut held: BTreeMap<u8, BTreeSet<u64>> = BTreeMap::new();
        for (sent_ms, (author, count, delay)) in batches.into_iter().enumerate() {
            let first = next[&author];
            next.insert(author, first + count);
            match delay {
                // The log had it when this process started.
                _ if first <= seen_before => {
                    held.entry(author).or_default().insert(first + count);
                }
                Some(delay) => arrivals.push((sent_ms as u64 * 5 + delay, author, first, count)),
                None => {}
            }
        }
        arrivals.sort();
        let mut order = ReorderBuffer::new();
        let mut arrived_at = BTreeMap::new();
        let mut delivered: Vec<(Time, Delivered)> = Vec::new();
        let mut out = Vec::new();
        for (ms, author, first, count) in &arrivals {
            let now = Time::from_millis(*ms);
            while let Some(at) = order.deadline().filter(|at| *at <= now) {
                order.expire(at, &mut out);
                delivered.extend(out.drain(..).map(|delivery| (at, delivery)));
            }
            let ends = held.entry(*author).or_default();
            let follows = *first == 1 || ends.contains(first);
            ends.insert(first + count);
            arrived_at.insert((*author, *first), now);
            let item = (*author, *first, *count);
            let (first_seq, count) = (*first, *count);
            order.insert(now, Arrival { stream: stream(*author), first_seq, count, follows, size: 1, item }, &mut out);
            delivered.extend(out.drain(..).map(|delivery| (now, delivery)));
        }
        while let Some(at) = order.deadline() {
            order.expire(at, &mut out);
            delivered.extend(out.drain(..).map(|delivery| (at, delivery)));
        }

        let once: BTreeSet<(u8, u64)> = delivered.iter().map(|(_, d)| (d.item.0, d.item.1)).collect();
        prop_assert_eq!(once.len(), delivered.len());
        prop_assert_eq!(once.len(), arrivals.len());
        let mut place = BTreeMap::new();
        let mut highest: BTreeMap<u8, u64> = BTreeMap::new();
        for (index, (at, Delivery { item: (author, first, count), late })) in delivered.iter().enumerate() {
            let arrived = arrived_at[&(*author, *first)];
            prop_assert!(*at >= arrived && *at <= arrived + GAP_TIMEOUT, "waited {:?}", *at - arrived);
            let highest = highest.entry(*author).or_default();
            prop_assert_eq!(*late, *first < *highest);
            *highest = (*highest).max(*first + count);
            place.insert((*author, *first), (index, *at));
        }
        // Whenever the one before had arrived when a batch was delivered, it was delivered before it.
        for ((author, first), (index, at)) in &place {
            let before = place.iter().find(|((a, f), _)| a == author && f < first
                && arrivals.iter().any(|(_, a2, f2, c)| a2 == author && f2 == f && f2 + c == *first));
            if let Some((key, (index_before, _))) = before && arrived_at[key] < *at {
                prop_assert!(index_before < index, "{key:?} after {first}");
            }
        }
    }
}
