//! Tests of slow links: ours, a source's, a receiver's.

use std::time::Duration;

use super::anti_entropy::Name;
use super::played::{Played, fetch_of, large, larges};
use super::*;
use crate::model::Found;
use crate::sync::message::{Request, Response};
use crate::sync::{Input, OwnPending};

/// Returns node 1, the author, with links that take four seconds per mebibyte; the first neighbour has the first batch.
fn slow_author(neighbours: impl IntoIterator<Item = Name>) -> Played {
    let mut played = Played::new(neighbours);
    for batch in larges(1..4) {
        played.store(&batch, None);
    }
    let request = fetch(&mut played, 2, &large(1));
    played.wait(Duration::from_secs(4));
    played.tell(Input::Sent(request, true));
    played
}

/// A neighbour fetches a batch. The log is read if the fetch is not deferred.
fn fetch(played: &mut Played, from: Name, batch: &Batch) -> u64 {
    let (room, ids) = ("a".into(), vec![batch.0.id]);
    played.responses.clear();
    let request = played.request(from, &Request::Fetch { room, ids });
    if played.responses.is_empty() {
        let found = Found {
            envelopes: vec![batch.0.bytes.clone()],
            looked_at: 1,
            ..Found::default()
        };
        played.tell(Input::Found(from, request, found));
    }
    request
}

fn is_deferred(played: &Played) -> bool {
    matches!(played.responses[..], [Response::RetryAfter(_)])
}

#[test]
fn over_a_slow_line_one_batch_goes_after_the_other_and_each_to_somebody_else() {
    let mut played = slow_author([2, 3, 4]);
    fetch(&mut played, 3, &large(1));
    assert!(is_deferred(&played), "the first neighbour passes it on");
    let second = fetch(&mut played, 3, &large(2));
    assert!(!is_deferred(&played));
    fetch(&mut played, 4, &large(3));
    assert!(is_deferred(&played), "one at a time");
    played.tell(Input::Sent(second, true));
    fetch(&mut played, 4, &large(3));
    assert!(!is_deferred(&played));
    assert!(played.faults.is_empty());
}

#[test]
fn a_round_is_deferred_too_when_it_fetches_a_large_batch_over_a_slow_link() {
    let mut played = slow_author([2, 3]);
    let (room, item) = ("a".into(), item_of(&batch(1, 99)));
    played.tell(Input::Stored { room, item });
    fetch(&mut played, 3, &large(2));
    // The neighbour got no announcement of these, or has fetched them before.
    fetch(&mut played, 2, &large(1));
    assert!(is_deferred(&played));
    fetch(&mut played, 2, &batch(1, 99));
    assert!(!is_deferred(&played), "what is small is not");
}

#[test]
fn ignored_deferrals_are_a_flood_and_obeyed_ones_are_not() {
    for (wait, faults) in [(1_000, 0), (1, 1)] {
        let mut played = slow_author([2, 3]);
        fetch(&mut played, 2, &large(2));
        for _ in 0..70 {
            fetch(&mut played, 3, &large(3));
            played.wait(Duration::from_millis(wait));
            if !played.faults.is_empty() {
                break;
            }
        }
        assert_eq!(played.faults.len(), faults, "{wait} ms");
    }
}

#[test]
fn deferred_batches_give_way_to_others() {
    let mut played = Played::new([2]);
    let [one, two, three] = [large(1), large(2), large(3)];
    played.announce(2, &[one.clone(), two.clone(), three.clone()]);
    assert_eq!(played.fetches(), [(2, one.0.id), (2, two.0.id)]);
    let later = Response::RetryAfter(Duration::from_millis(500));
    played.answer(2, fetch_of(&one), &later);
    assert_eq!(played.fetches(), [(2, two.0.id)]);
    played.wait(Duration::from_millis(500));
    assert_eq!(played.fetches(), [(2, two.0.id), (2, three.0.id)]);
    played.bring(2, &two);
    played.settle(&two, 0);
    assert_eq!(played.fetches(), [(2, three.0.id), (2, one.0.id)]);
}

#[test]
fn while_a_fetch_takes_long_its_neighbour_is_asked_for_nothing_else_and_others_are() {
    let mut played = Played::new([2, 3]);
    let [one, two] = [large(1), large(2)];
    played.announce(2, std::slice::from_ref(&one));
    played.wait(Duration::from_secs(1));
    played.announce(2, std::slice::from_ref(&two));
    assert_eq!(played.fetches(), [(2, one.0.id)]);
    played.announce(3, std::slice::from_ref(&two));
    assert_eq!(played.fetches(), [(2, one.0.id), (3, two.0.id)]);
}

#[test]
fn where_fetches_take_long_a_second_neighbour_is_asked_later() {
    let mut played = Played::new([2, 3]);
    let [one, two] = [large(1), large(2)];
    for name in [2, 3] {
        played.announce(name, std::slice::from_ref(&one));
    }
    played.wait(Duration::from_millis(4_500));
    played.bring(2, &one);
    played.settle(&one, 0);
    for name in [2, 3] {
        played.announce(name, std::slice::from_ref(&two));
    }
    played.wait(Duration::from_millis(8_900));
    assert_eq!(played.fetches(), [(2, two.0.id)]);
    played.wait(Duration::from_millis(200));
    assert_eq!(played.fetches(), [(2, two.0.id), (3, two.0.id)]);
}

#[test]
fn later_batches_wait_for_the_first_holder_and_not_for_slow_neighbours() {
    let mut played = Played::new([2, 3]);
    played.store(&large(1), None);
    assert_eq!(played.own_pending[&2], OwnPending::Announced);
    let request = fetch(&mut played, 2, &large(1));
    assert!(
        matches!(played.own_pending[&2], OwnPending::WaitAtMost(time) if time > Duration::from_secs(5))
    );
    played.wait(Duration::from_secs(4));
    played.tell(Input::Sent(request, true));
    assert_eq!(played.own_pending[&2], OwnPending::Nothing);
    assert_eq!(
        played.own_pending[&3],
        OwnPending::WaitAtMost(Duration::from_secs(1))
    );

    // Another batch, which 3 fetches slowly and 2 has from elsewhere.
    played.store(&large(2), None);
    fetch(&mut played, 3, &large(2));
    assert!(
        matches!(played.own_pending[&3], OwnPending::WaitAtMost(time) if time > Duration::from_secs(5))
    );
    played.announce(2, &[large(2)]);
    assert_eq!(
        played.own_pending[&3],
        OwnPending::WaitAtMost(Duration::from_secs(1))
    );
}

#[test]
fn a_failed_upload_is_neither_measured_nor_counted_as_replicated() {
    let mut played = slow_author([2, 3]);
    let request = fetch(&mut played, 2, &large(2));
    played.tell(Input::Sent(request, false));
    fetch(&mut played, 3, &large(2));
    assert!(!is_deferred(&played), "3 may have it at once");
    let first = Duration::from_secs(5);
    assert!(
        matches!(played.own_pending[&3], OwnPending::WaitAtMost(time) if time > first),
        "as the first"
    );
    fetch(&mut played, 2, &large(3));
    assert!(is_deferred(&played), "the line is as slow as before");
}

#[test]
fn a_neighbour_that_takes_no_response_gets_no_other_and_delays_others_briefly() {
    let mut played = slow_author([2, 3]);
    fetch(&mut played, 2, &large(2));
    played.wait(Duration::from_secs(13));
    fetch(&mut played, 2, &large(3));
    assert!(is_deferred(&played));
    fetch(&mut played, 3, &large(3));
    assert!(!is_deferred(&played));
}

#[test]
fn fetches_without_end_do_not_block_other_neighbours() {
    let mut played = Played::new([2, 3]);
    played.announce(2, &larges(1..3));
    played.announce(3, &larges(3..4));
    assert_eq!(played.fetches(), [(2, large(1).0.id), (2, large(2).0.id)]);
    played.wait(Duration::from_millis(5_100));
    assert_eq!(played.fetches().last(), Some(&(3, large(3).0.id)));
}

#[test]
fn while_something_arrives_from_a_neighbour_no_other_is_asked_for_the_same() {
    let mut played = Played::new([2, 3]);
    for name in [2, 3] {
        played.announce(name, &[large(1)]);
    }
    played.tell(Input::Arriving([2].into()));
    played.wait(Duration::from_secs(39));
    assert_eq!(played.fetches(), [(2, large(1).0.id)]);
    played.tell(Input::Arriving([].into()));
    played.tell(Input::Tick);
    assert_eq!(played.fetches().last(), Some(&(3, large(1).0.id)));
}
