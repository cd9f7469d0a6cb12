//! Tests of retention: neighbours that removed different batches agree, and send no batch twice.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::anti_entropy::{Name, Net, batches};
use super::played::Played;
use super::*;
use crate::model::{Found, Id};
use crate::sync::message::{Request, Response};
use crate::sync::{Fault, Input, reconcile::Window};

const A_MINUTE: Duration = Duration::from_secs(60);

fn ids(batches: &[Batch]) -> BTreeSet<Id> {
    batches.iter().map(|batch| batch.0.id).collect()
}

/// Returns whether no node requested the same batch twice from the same neighbour.
fn is_asked_once(net: &Net) -> bool {
    let asked: BTreeSet<_> = net.asked_for.iter().collect();
    asked.len() == net.asked_for.len()
}

#[test]
fn removed_batches_are_requested_once_and_then_both_agree() {
    let all = batches(1..200);
    let mut net = Net::new([1, 2]);
    net.give(1, all.clone());
    net.remove(1, all[..80].to_vec());
    net.give(2, all[40..].to_vec());
    net.link(1, 2);
    net.run(A_MINUTE);
    // Node 2 lacks the first forty, which node 1 has removed; it keeps those that only node 1 removed.
    assert_eq!(net.nodes[&2].held.len(), 159);
    assert_eq!(net.nodes[&1].held.len(), 119);
    assert!(is_asked_once(&net));
    let of_removed: BTreeSet<Id> = net.asked_for.iter().map(|(.., id)| *id).collect();
    assert_eq!(of_removed, ids(&all[..40]));
    let (last, before) = (&net.checked[net.checked.len() - 1], net.checked.len() - 2);
    for (_, checked) in [last, &net.checked[before]] {
        assert!(
            checked.agreed && checked.steps == 1 && checked.bytes <= 60,
            "{checked:?}"
        );
    }
    assert_eq!(net.nodes[&1].anti_entropy.room("a").unwrap().held(), 119);
}

#[test]
fn another_neighbour_still_gives_what_the_first_one_removed() {
    let all = batches(1..200);
    let mut net = Net::new([1, 2, 3]);
    net.give(1, all.clone());
    net.remove(1, all[..80].to_vec());
    net.give(3, all.clone());
    net.link(1, 2);
    net.run(A_MINUTE);
    assert_eq!(net.nodes[&2].held.len(), 119);
    net.link(2, 3);
    net.run(A_MINUTE);
    assert_eq!(net.nodes[&2].held.len(), 199);
    assert_eq!(net.nodes[&1].held.len(), 119, "it does not take them back");
    assert!(is_asked_once(&net));
    assert!(net.dropped.is_empty(), "{:?}", net.dropped);
    assert!(net.checked.last().unwrap().1.agreed);
}

#[test]
fn more_than_can_be_remembered_ends_as_well() {
    let all = batches(1..2000);
    let mut net = Net::new([1, 2]);
    net.give(1, all.clone());
    net.remove(1, all[..1500].to_vec());
    net.link(1, 2);
    net.run(A_MINUTE);
    assert!(is_asked_once(&net));
    assert_eq!(net.nodes[&2].held.len(), 499);
    let sent_at_ms = net.unix_ms();
    net.give(1, (2000..2010).map(|n| batch_in("a", 1, n, 1, sent_at_ms)));
    net.run(A_MINUTE);
    assert_eq!(
        net.nodes[&2].held.len(),
        509,
        "what is sent later is compared"
    );
    assert!(net.checked.last().unwrap().1.agreed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Nodes that removed different batches give the others to their neighbours, unless those removed them too. No
    /// batch is requested twice from the same node, none is dropped, and in the end all rounds agree.
    #[test]
    fn nodes_that_made_room_differently_settle(
        held in prop::collection::vec(prop::collection::btree_map(1u64..120, any::<bool>(), 0..80), 2..5),
    ) {
        let mut net = Net::new(0..held.len() as u8);
        for (name, numbers) in held.iter().enumerate() {
            let all: Vec<Batch> = numbers.keys().map(|n| batch(1, *n)).collect();
            let gone = numbers.iter().filter(|(_, gone)| **gone).map(|(n, _)| batch(1, *n));
            net.give(name as Name, all);
            net.remove(name as Name, gone);
        }
        for name in 1..held.len() as u8 {
            net.link(name - 1, name);
        }
        net.run(2 * A_MINUTE);
        prop_assert!(is_asked_once(&net));
        prop_assert!(net.dropped.is_empty(), "{:?}", net.dropped);
        let last = net.checked.len().saturating_sub(2 * (held.len() - 1));
        prop_assert!(net.checked[last..].iter().all(|(_, checked)| checked.agreed), "{:?}", &net.checked[last..]);
        let held_by = |name: usize, n: u64| net.nodes[&(name as Name)].held.contains_key(&batch(1, n).0.id);
        for n in 1..120 {
            for name in 1..held.len() {
                let is_gone = |name: usize| held[name].get(&n) == Some(&true);
                let one_has = held_by(name - 1, n) != held_by(name, n);
                prop_assert!(!one_has || is_gone(name - 1) || is_gone(name), "{n} between {} and {name}", name - 1);
            }
        }
    }
}

#[test]
fn removed_batches_are_no_false_claims_and_must_have_been_requested() {
    let compare = |played: &mut Played| {
        played.tell(Input::RoomsOf(2, vec![]));
        played.tell(Input::RoomsOf(2, vec!["a".into()]));
        let (_, token, _) = played.asked.pop().expect("a comparison");
        token
    };
    let claim = |ids: &[Id]| {
        let count = [(ids.len() >> 7) as u8 | 0x80, ids.len() as u8 & 0x7f];
        let frame = [&[0x61, 0, 0, 2][..], &count, &ids.concat()].concat();
        Response::Ranges(frame.into())
    };
    let gone: Vec<Item> = batches(1..6000).iter().map(item_of).collect();
    let all: Vec<Id> = gone.iter().map(|item| item.id).collect();
    let mut played = Played::new([2]);
    let token = compare(&mut played);
    played.tell(Input::Response(token, claim(&all).encode().into()));
    while let Some((_, token, request)) = played.asked.pop() {
        let Request::Fetch { ids, .. } = request else {
            panic!("{request:?}")
        };
        let of = |id: &Id| *gone.iter().find(|item| item.id == *id).expect("asked for");
        let removed = Response::Batches {
            envelopes: vec![],
            missing: vec![],
            removed: ids.iter().map(of).collect(),
        };
        played.tell(Input::Response(token, removed.encode().into()));
    }
    assert_eq!(played.faults, []);

    let mut played = Played::new([2]);
    let token = compare(&mut played);
    played.tell(Input::Response(token, claim(&all[..1]).encode().into()));
    let (_, token, _) = played.asked.pop().expect("a fetch");
    let other = Response::Batches {
        envelopes: vec![],
        missing: vec![],
        removed: vec![gone[7]],
    };
    played.tell(Input::Response(token, other.encode().into()));
    assert_eq!(played.faults, [(2, Fault::Unsolicited)]);
}

#[test]
fn a_neighbour_that_says_no_times_is_not_asked_for_the_same_again() {
    let gone: Vec<Item> = batches(1..4)
        .iter()
        .map(|batch| Item {
            sent_at_ms: 0,
            ..item_of(batch)
        })
        .collect();
    let ids: Vec<Id> = gone.iter().map(|item| item.id).collect();
    let frame = [&[0x61, 0, 0, 2, 3][..], &ids.concat()].concat();
    let mut played = Played::new([2]);
    let mut fetches = 0;
    for _ in 0..3 {
        played.tell(Input::RoomsOf(2, vec![]));
        played.tell(Input::RoomsOf(2, vec!["a".into()]));
        while let Some((_, token, request)) = played.asked.pop() {
            let response = match request {
                Request::Compare { .. } => Response::Ranges(frame.clone().into()),
                Request::Fetch { ids, .. } => {
                    fetches += ids.len();
                    Response::Batches {
                        envelopes: vec![],
                        missing: vec![],
                        removed: gone.clone(),
                    }
                }
                other => panic!("{other:?}"),
            };
            played.tell(Input::Response(token, response.encode().into()));
        }
    }
    assert_eq!((fetches, played.faults.len()), (3, 0));
}

#[test]
fn batches_under_the_retention_limits_are_served_as_removed() {
    let mut played = Played::new([2]);
    let item = item_of(&batch(1, 1));
    let (room, ids) = ("a".to_owned(), vec![item.id]);
    let request = played.request(2, &Request::Fetch { room, ids });
    let found = Found {
        removed: vec![item],
        looked_at: 1,
        ..Found::default()
    };
    played.tell(Input::Found(2, request, found));
    let expected = Response::Batches {
        envelopes: vec![],
        missing: vec![],
        removed: vec![item],
    };
    assert_eq!(played.responses, [expected]);
    // Every comparison finds nothing lacking.
    let window = Window {
        since_ms: NOW_MS,
        until_ms: u64::MAX,
    };
    assert!(window.since_ms < item.sent_at_ms);
}
