//! Tests of announcements: each large batch is fetched once, from one of the nodes that announced it, and rounds repair
//! failed announcements.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::anti_entropy::{Name, Net, batches};
use super::played::{Played, fetch_of, large, larges};
use super::*;
use crate::sync::message::{Request, Response};
use crate::sync::{Fault, Input};

#[test]
fn a_batch_that_several_announce_is_fetched_from_the_first_and_announced_to_the_others() {
    let mut played = Played::new([2, 3, 4]);
    let batch = large(1);
    played.announce(2, std::slice::from_ref(&batch));
    played.announce(3, std::slice::from_ref(&batch));
    assert_eq!(played.fetches(), [(2, batch.0.id)]);
    assert_eq!(played.responses, vec![Response::Ack(Vec::new()); 2]);
    played.bring(2, &batch);
    played.settle(&batch, 0);
    assert!(played.fetches().is_empty());
    assert_eq!(
        played.announcements(),
        [(4, 1)],
        "at once to who may lack it"
    );
    assert_eq!(played.outstanding, [(4, 1 << 20)]);
    played.wait(Duration::from_millis(500));
    let announcements = played.announcements();
    assert_eq!(
        announcements,
        [(4, 1), (2, 1), (3, 1)],
        "and later to who has it"
    );
    // Batches that are held are not fetched again.
    played.announce(4, std::slice::from_ref(&batch));
    assert!(played.fetches().is_empty());
    assert_eq!(played.outstanding[1..], [(4, 0)]);
    let held = Response::Ack(vec![batch.0.id]);
    assert_eq!(played.responses.last(), Some(&held));
}

#[test]
fn who_has_it_from_elsewhere_is_not_waited_for() {
    let mut played = Played::new([2, 3]);
    let batch = large(1);
    played.store(&batch, None);
    let is_announcement = |request: &Request| matches!(request, Request::Announce { .. });
    played.answer(2, is_announcement, &Response::Ack(vec![batch.0.id]));
    assert_eq!(played.outstanding, [(2, 1 << 20), (3, 1 << 20), (2, 0)]);

    played.answer(
        3,
        is_announcement,
        &Response::RetryAfter(Duration::from_secs(1)),
    );
    assert_eq!(
        played.outstanding.last(),
        Some(&(3, 0)),
        "it compares later"
    );

    // It does not wait for us: the announced batches arrive by gossip or by a round.
    let another = large(2);
    played.announce(3, std::slice::from_ref(&another));
    let (room, item) = ("a".into(), item_of(&another));
    played.tell(Input::Stored { room, item });
    played.wait(Duration::from_millis(300));
    assert_eq!(played.announcements(), [(3, 1)]);
}

#[test]
fn announcements_to_one_neighbour_in_quick_succession_travel_together() {
    let mut played = Played::new([2]);
    for batch in larges(1..6) {
        played.store(&batch, None);
    }
    assert_eq!(played.announcements(), [(2, 1)]);
    let is_announcement = |request: &Request| matches!(request, Request::Announce { .. });
    played.answer(2, is_announcement, &Response::Ack(Vec::new()));
    assert!(played.announcements().is_empty());
    played.wait(Duration::from_millis(60));
    assert_eq!(played.announcements(), [(2, 4)]);
}

#[test]
fn a_neighbour_without_support_gets_no_announcements() {
    let mut played = Played::new([]);
    played.tell(Input::LinkUp(2));
    played.tell(Input::RoomsOf(2, vec!["a".into()]));
    played.asked.clear();
    played.store(&large(1), None);
    played.wait(Duration::from_secs(1));
    assert!(played.announcements().is_empty() && played.outstanding.is_empty());
}

#[test]
fn a_neighbour_that_lacks_an_announced_batch_is_replaced_by_another() {
    let mut played = Played::new([2, 3]);
    let batch = large(1);
    for name in [2, 3] {
        played.announce(name, std::slice::from_ref(&batch));
    }
    let missing = Response::Batches {
        envelopes: Vec::new(),
        missing: vec![batch.0.id],
        removed: vec![],
    };
    played.answer(2, fetch_of(&batch), &missing);
    assert_eq!(played.fetches(), [(3, batch.0.id)]);
    played.tell(Input::LinkDown(3));
    // No source is left: a round with the other neighbours begins.
    let compares = |request: &Request| matches!(request, Request::Compare { .. });
    assert!(played.position(compares).is_some());
    assert!(played.faults.is_empty());
}

#[test]
fn a_neighbour_that_announces_much_and_holds_nothing_is_dropped() {
    let mut played = Played::new([2]);
    let mut asked = 0;
    for n in 0..10_000 {
        let batch = batch(1, n);
        played.announce(2, std::slice::from_ref(&batch));
        let missing = Response::Batches {
            envelopes: Vec::new(),
            missing: vec![batch.0.id],
            removed: vec![],
        };
        played
            .asked
            .retain(|(.., r)| matches!(r, Request::Fetch { .. }));
        played.answer(2, fetch_of(&batch), &missing);
        asked += 1;
        if !played.faults.is_empty() {
            break;
        }
    }
    assert_eq!(played.faults, [(2, Fault::FalseClaim)]);
    assert!(asked <= 5000);
}

#[test]
fn a_forged_batch_is_fetched_from_another_source() {
    let mut played = Played::new([2, 3]);
    let batch = large(1);
    for name in [2, 3] {
        played.announce(name, std::slice::from_ref(&batch));
    }
    played.bring(2, &batch);
    played.settle(&batch, 1);
    assert_eq!(played.faults, [(2, Fault::Forged)]);
    assert_eq!(played.fetches().last(), Some(&(3, batch.0.id)));
    played.bring(3, &batch);
    played.settle(&batch, 1);
    assert_eq!(
        played.net.nodes[&1].anti_entropy.pending_fetch_count(),
        0,
        "nobody is left"
    );
}

#[test]
fn what_does_not_verify_or_was_not_asked_for_ends_the_link() {
    let (batch, another) = (large(1), large(2));
    let mut played = Played::new([2]);
    played.announce(2, std::slice::from_ref(&batch));
    played.bring(2, &batch);
    played.settle(&batch, 1);
    assert_eq!(played.faults, [(2, Fault::Forged)]);

    let mut played = Played::new([2]);
    played.announce(2, std::slice::from_ref(&batch));
    let two = Response::Batches {
        envelopes: vec![batch.0.bytes.clone(), another.0.bytes.clone()],
        missing: Vec::new(),
        removed: vec![],
    };
    played.answer(2, fetch_of(&batch), &two);
    assert_eq!(played.faults, [(2, Fault::Unsolicited)]);

    let mut played = Played::new([2]);
    played.announce(2, std::slice::from_ref(&batch));
    let none = Response::Batches {
        envelopes: Vec::new(),
        missing: Vec::new(),
        removed: vec![],
    };
    played.answer(2, fetch_of(&batch), &none);
    assert_eq!(played.faults, [(2, Fault::Withholding)]);
}

#[test]
fn a_slow_neighbour_is_helped_out_by_another_after_a_while() {
    let mut played = Played::new([2, 3]);
    let batch = large(1);
    for name in [2, 3] {
        played.announce(name, std::slice::from_ref(&batch));
    }
    played.wait(Duration::from_secs(4));
    assert_eq!(played.fetches(), [(2, batch.0.id)]);
    played.wait(Duration::from_secs(2));
    assert_eq!(played.fetches(), [(2, batch.0.id), (3, batch.0.id)]);
    played.bring(3, &batch);
    played.settle(&batch, 0);
    // The slow neighbour sends it after all: it is ignored.
    played.bring(2, &batch);
    assert!(played.fetched.is_empty() && played.faults.is_empty());
}

#[test]
fn who_says_later_is_asked_later() {
    let mut played = Played::new([2]);
    let batch = large(1);
    played.announce(2, std::slice::from_ref(&batch));
    let later = Response::RetryAfter(Duration::from_millis(700));
    played.answer(2, fetch_of(&batch), &later);
    played.wait(Duration::from_millis(600));
    assert!(played.fetches().is_empty());
    played.wait(Duration::from_millis(200));
    assert_eq!(played.fetches(), [(2, batch.0.id)]);
}

#[test]
fn few_fetches_are_in_flight_for_any_number_of_announcements() {
    let mut played = Played::new(2..8);
    for name in 2..8 {
        let from = u64::from(name) * 10_000;
        played.announce(
            name,
            &(from..from + 2_000)
                .map(|n| batch(1, n))
                .collect::<Vec<_>>(),
        );
    }
    let fetches = played.fetches();
    assert!(fetches.len() <= 8, "{}", fetches.len());
    for name in 2..8 {
        assert!(fetches.iter().filter(|(of, _)| *of == name).count() <= 2);
    }
    // Batches past the bound are not remembered, but found by rounds.
    assert!(played.net.nodes[&1].anti_entropy.pending_fetch_count() <= 6 * 256);
    assert!(played.faults.is_empty());
}

#[test]
fn announced_batches_may_be_fetched_once_beyond_the_quota() {
    let mut played = Played::new([2]);
    let served = |played: &mut Played, batch: &Batch| {
        let (room, ids) = ("a".into(), vec![batch.0.id]);
        let id = played.request(2, &Request::Fetch { room, ids });
        let found = crate::model::Found {
            envelopes: vec![vec![0; 1 << 20].into()],
            looked_at: 1,
            ..Default::default()
        };
        let deferred = matches!(played.responses.last(), Some(Response::RetryAfter(_)));
        played.responses.clear();
        if !deferred {
            played.tell(Input::Found(2, id, found));
            played.tell(Input::Sent(id, true));
            played.responses.clear();
        }
        !deferred
    };
    // More than the quota allows at full speed.
    for batch in batches(1..1100) {
        played.store(&batch, None);
        played.wait(Duration::from_millis(60));
        let is_announcement = |request: &Request| matches!(request, Request::Announce { .. });
        played.answer(2, is_announcement, &Response::Ack(Vec::new()));
        assert!(served(&mut played, &batch));
    }
    let again: Vec<bool> = batches(1..1100)
        .iter()
        .map(|b| served(&mut played, b))
        .collect();
    let first = again.iter().position(|served| !served);
    assert_eq!(first, Some(1024), "a second time it counts");
}

#[test]
fn backpressure_waits_for_a_lagging_neighbour_while_it_makes_progress() {
    let mut played = Played::new([2, 3]);
    for batch in larges(1..18) {
        played.store(&batch, None);
    }
    let batch = large(100);
    // Both lag by 17 MiB.
    played.announce(2, std::slice::from_ref(&batch));
    assert!(played.fetches().is_empty());
    for name in [2, 3] {
        played.serve(name, &large(1));
    }
    played.wait(Duration::from_millis(1));
    assert_eq!(played.fetches(), [(2, batch.0.id)], "they have caught up");

    let mut played = Played::new([2, 3]);
    for batch in larges(1..18) {
        played.store(&batch, None);
    }
    played.announce(2, std::slice::from_ref(&batch));
    played.wait(Duration::from_millis(900));
    assert!(played.fetches().is_empty());
    played.wait(Duration::from_millis(200));
    assert_eq!(played.fetches(), [(2, batch.0.id)], "they stand still");
}

#[test]
fn all_is_taken_when_each_has_said_that_it_holds_it() {
    let mut played = Played::new([2, 3]);
    let batch = large(1);
    let is_all_confirmed = |played: &Played| {
        let now = played.net.now;
        played.net.nodes[&1].anti_entropy.is_all_confirmed(now)
    };
    assert!(is_all_confirmed(&played));
    played.store(&batch, None);
    played.announce(3, std::slice::from_ref(&batch));
    assert!(!is_all_confirmed(&played), "2 has not fetched it");
    let (room, ids) = ("a".into(), vec![batch.0.id]);
    played.request(2, &Request::Fetch { room, ids });
    assert!(!is_all_confirmed(&played), "it may be on its way");
    played.announce(2, std::slice::from_ref(&batch));
    assert!(is_all_confirmed(&played));
}

#[test]
fn a_neighbour_that_left_the_room_gets_no_announcements_and_no_fetches() {
    let mut played = Played::new([2, 3]);
    played.announce(2, &[large(1)]);
    played.store(&large(2), None);
    played.tell(Input::RoomsOf(2, Vec::new()));
    assert_eq!(played.outstanding.last(), Some(&(2, 0)));
    assert_eq!(played.net.nodes[&1].anti_entropy.pending_fetch_count(), 0);
    played.tell(Input::Leave("a".into()));
    assert_eq!(played.outstanding.last(), Some(&(3, 0)));
    played.announce(3, &[large(3)]);
    assert_eq!(played.responses.last(), Some(&Response::NotSubscribed));
}

/// Returns a connected network of nodes that support announcements.
fn net(nodes: Name, more_links: &[(Name, Name)]) -> Net {
    let mut net = Net::new(0..nodes);
    let chain = (1..nodes).map(|name| (name - 1, name));
    let links: BTreeSet<(Name, Name)> = chain
        .chain(more_links.iter().map(|(a, b)| (a % nodes, b % nodes)))
        .filter(|(a, b)| a != b)
        .map(|(a, b)| (a.min(b), a.max(b)))
        .collect();
    for (a, b) in links {
        net.link(a, b);
        net.tell(a, Input::SupportsAnnouncements(b));
        net.tell(b, Input::SupportsAnnouncements(a));
    }
    net.run(Duration::from_secs(1));
    net
}

proptest! {
    #[test]
    fn in_any_net_each_batch_comes_to_each_node_once_and_without_a_comparison(
        nodes in 2..9u8,
        more_links in proptest::collection::vec((0..9u8, 0..9u8), 0..12),
        said in proptest::collection::vec((0..9u8, 0..200u64), 1..20),
    ) {
        let mut net = net(nodes, &more_links);
        let mut said: Vec<(Name, u64)> = said.into_iter().map(|(name, ms)| (name % nodes, ms)).collect();
        said.sort_by_key(|(_, ms)| *ms);
        let mut ms_before = 0;
        for (n, (name, ms)) in said.iter().enumerate() {
            net.run(Duration::from_millis(ms - ms_before));
            ms_before = *ms;
            let sent_at_ms = net.unix_ms();
            net.give_large(*name, batch_of("a", *name, n as u64 + 1, 1, sent_at_ms, 1_000), None);
        }
        net.run(Duration::from_millis(2_500));
        prop_assert!(net.equal());
        prop_assert_eq!(net.delivered.len(), said.len() * usize::from(nodes - 1));
        prop_assert!(net.dropped.is_empty());
        prop_assert!(net.checked.iter().all(|(_, checked)| checked.repaired == 0));
    }

    #[test]
    fn whatever_links_end_meanwhile_everybody_has_everything_soon_after(
        more_links in proptest::collection::vec((0..7u8, 0..7u8), 4..12),
        cut in proptest::collection::vec((0..7u8, 0..7u8, 0..100u64), 0..6),
    ) {
        let nodes = 7;
        let mut net = net(nodes, &more_links);
        for n in 1..=10 {
            let sent_at_ms = net.unix_ms();
            net.give_large(0, batch_of("a", 0, n, 1, sent_at_ms, 1_000), None);
        }
        for (a, b, ms) in cut {
            net.run(Duration::from_millis(ms));
            // The chain stays, so that no node is isolated.
            if a.abs_diff(b) > 1 {
                net.cut(a, b);
            }
        }
        net.run(Duration::from_secs(30));
        prop_assert!(net.equal());
        prop_assert!(net.dropped.is_empty(), "{:?}", net.dropped);
    }
}
