//! Tests of reconciliation: any two sets reconcile, with bytes that grow with the difference; no bytes do harm.

use std::collections::BTreeSet;

use negentropy::{Negentropy, NegentropyStorageVector};
use proptest::prelude::*;

use crate::model::{Id, Item};
use crate::sync::Items;
use crate::sync::reconcile::{Difference, Window, advance, answer, opening};

const ALL: Window = Window {
    since_ms: 0,
    until_ms: u64::MAX,
};

/// Runs a comparison to its end. Returns the opener's difference, the bytes in both directions, and the steps.
fn compare(
    ours: &Items,
    theirs: &Items,
    window: Window,
    limits: (usize, usize),
) -> (Difference, usize, usize) {
    let mut difference = Difference::default();
    let mut frame = opening(ours, window);
    let (mut bytes, mut steps) = (0, 0);
    loop {
        let reply = answer(theirs, window, &frame, limits.1).unwrap();
        bytes += frame.len() + reply.len();
        steps += 1;
        assert!(frame.len() <= limits.0.max(4096) && reply.len() <= limits.1.max(4096));
        assert!(steps < 20_000, "comes to an end");
        match advance(ours, window, &reply, limits.0, &mut difference).unwrap() {
            Some(next) => frame = next,
            None => return (difference, bytes, steps),
        }
    }
}

fn items_of(set: &BTreeSet<Item>) -> Items {
    set.iter().copied().collect()
}

/// Generates a set of items with few different times and bytes, so that bounds get long.
fn sets(most: usize) -> impl Strategy<Value = BTreeSet<Item>> {
    let id = prop_oneof![
        any::<Id>(),
        (0u8..4, 0u8..4).prop_map(|(first, last)| {
            let mut id = [first; 32];
            id[31] = last;
            id
        })
    ];
    let item = (0u64..50, id).prop_map(|(sent_at_ms, id)| Item { sent_at_ms, id });
    prop::collection::btree_set(item, 0..most)
}

/// Generates two sets with much in common.
fn pairs(most: usize) -> impl Strategy<Value = (BTreeSet<Item>, BTreeSet<Item>)> {
    (sets(most), sets(most / 8), sets(most / 8))
        .prop_map(|(common, mine, theirs)| (&common | &mine, &common | &theirs))
}

fn ids(items: impl IntoIterator<Item = Item>) -> BTreeSet<Id> {
    items.into_iter().map(|item| item.id).collect()
}

proptest! {
    #[test]
    fn any_two_sets_reconcile(
        (mine, theirs) in prop_oneof![pairs(600), (sets(300), sets(300))],
        request in 4096usize..9000,
        response in 4096usize..20_000,
    ) {
        let (difference, ..) = compare(&items_of(&mine), &items_of(&theirs), ALL, (request, response));
        let lacking: BTreeSet<Id> = difference.lacking.iter().copied().collect();
        // One id never has two times in practice, because batches are signed. Here it can, and then the item is known.
        prop_assert!(lacking.is_superset(&(&ids(theirs.clone()) - &ids(mine.clone()))));
        prop_assert!(lacking.is_subset(&ids(theirs.difference(&mine).copied())));
        let alone = (&ids(mine.clone()) - &ids(theirs.clone())).len() as u64;
        prop_assert!(difference.ahead >= alone);
        let is_agreed = lacking.is_empty() && difference.ahead == 0;
        prop_assert!(is_agreed || mine != theirs);
        prop_assert!(!is_agreed || ids(mine) == ids(theirs));
    }

    #[test]
    fn only_the_window_is_compared((mine, theirs) in pairs(300), since_ms in 0u64..50, span in 0u64..50) {
        let window = Window { since_ms, until_ms: since_ms + span };
        let inside = |set: &BTreeSet<Item>| -> BTreeSet<Item> {
            set.iter().copied().filter(|i| (since_ms..since_ms + span).contains(&i.sent_at_ms)).collect()
        };
        let (difference, ..) = compare(&items_of(&mine), &items_of(&theirs), window, (4096, 4096));
        let cut = compare(&items_of(&inside(&mine)), &items_of(&inside(&theirs)), ALL, (4096, 4096)).0;
        prop_assert_eq!(ids_of(&difference), ids_of(&cut));
        prop_assert_eq!(difference.ahead, cut.ahead);
    }

    /// The reference crate understands our frames, on either side.
    #[test]
    fn the_reference_reconciles_with_us((mine, theirs) in pairs(600), limit in 4096usize..20_000) {
        // The reference expects each id at one time only, as for batches.
        let mut seen = BTreeSet::new();
        let once: BTreeSet<Item> = (&mine | &theirs).into_iter().filter(|i| seen.insert(i.id)).collect();
        let (mine, theirs) = (&mine & &once, &theirs & &once);
        let (ours, reference) = (items_of(&mine), storage_of(&theirs));

        let mut difference = Difference::default();
        let mut frame = opening(&ours, ALL);
        let mut answerer = Negentropy::borrowed(&reference, limit as u64).unwrap();
        for step in 0.. {
            assert!(step < 1000);
            let reply = answerer.reconcile(&frame).unwrap();
            match advance(&ours, ALL, &reply, limit, &mut difference).unwrap() {
                Some(next) => frame = next,
                None => break,
            }
        }
        prop_assert_eq!(ids_of(&difference), &ids(theirs.clone()) - &ids(mine.clone()));
        prop_assert_eq!(difference.ahead, mine.difference(&theirs).count() as u64);

        let mut opener = Negentropy::borrowed(&reference, limit as u64).unwrap();
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let mut frame = opener.initiate().unwrap();
        for step in 0.. {
            assert!(step < 1000);
            let reply = answer(&ours, ALL, &frame, limit).unwrap();
            match opener.reconcile_with_ids(&reply, &mut have, &mut need).unwrap() {
                Some(next) => frame = next,
                None => break,
            }
        }
        let set = |ids: Vec<negentropy::Id>| ids.into_iter().map(|id| id.to_bytes()).collect::<BTreeSet<_>>();
        prop_assert_eq!(set(need), &ids(mine.clone()) - &ids(theirs.clone()));
        prop_assert_eq!(set(have), &ids(theirs) - &ids(mine));
    }

    #[test]
    fn arbitrary_bytes_never_panic_nor_grow(
        mine in sets(600),
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        version in any::<bool>(),
    ) {
        harmless(&items_of(&mine), bytes, version);
    }

    #[test]
    fn frames_with_bytes_changed_never_panic_nor_grow(
        (mine, theirs) in pairs(600),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let (ours, theirs) = (items_of(&mine), items_of(&theirs));
        let mut frame = answer(&theirs, ALL, &opening(&ours, ALL), 8192).unwrap();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        harmless(&ours, frame, false);
    }

    #[test]
    fn sums_and_places_are_those_of_a_plain_list(
        all in prop::collection::vec((0u64..300, 0u8..=255), 0..3000),
        cut in 0u64..300,
        gone in prop::collection::vec(0u64..256, 0..40),
        (from, to) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
    ) {
        let all = all.into_iter().chain((0..256).step_by(3).map(|ms| (ms, ms as u8)));
        let all: Vec<Item> = all.map(|(ms, byte)| Item { sent_at_ms: ms, id: [byte; 32] }).collect();
        let mut items: Items = all.iter().copied().collect();
        let mut plain: BTreeSet<Item> = all.into_iter().collect();
        items.remove_before(Item::at(cut));
        plain.retain(|item| item.sent_at_ms >= cut);
        for gone in gone {
            let item = Item { sent_at_ms: gone, id: [gone as u8; 32] };
            prop_assert_eq!(items.remove(&item), plain.remove(&item));
        }
        let plain: Vec<Item> = plain.into_iter().collect();
        prop_assert_eq!(items.iter_from(0).copied().collect::<Vec<_>>(), plain.clone());
        prop_assert_eq!(items.len(), plain.len());
        let (from, to) = (from.index(plain.len() + 1), to.index(plain.len() + 1));
        let (from, to) = (from.min(to), from.max(to));
        let part: Items = plain[from..to].iter().copied().collect();
        prop_assert_eq!(items.sum(from, to), part.sum(0, to - from));
        for item in plain.iter().step_by(97) {
            prop_assert_eq!(items.index_of(item), plain.partition_point(|other| other < item));
            prop_assert!(items.contains(item));
        }
    }
}

fn ids_of(difference: &Difference) -> BTreeSet<Id> {
    difference.lacking.iter().copied().collect()
}

fn storage_of(set: &BTreeSet<Item>) -> NegentropyStorageVector {
    let mut storage = NegentropyStorageVector::new();
    for item in set {
        storage
            .insert(item.sent_at_ms, negentropy::Id::from_byte_array(item.id))
            .unwrap();
    }
    storage.seal().unwrap();
    storage
}

/// Asserts that any bytes leave both sides within their limits, and the findings within the bytes.
fn harmless(items: &Items, mut bytes: Vec<u8>, version: bool) {
    if version && let Some(first) = bytes.first_mut() {
        *first = 0x61;
    }
    if let Ok(reply) = answer(items, ALL, &bytes, 4096) {
        assert!(reply.len() <= 4096);
    }
    let mut difference = Difference::default();
    if let Ok(Some(next)) = advance(items, ALL, &bytes, 4096, &mut difference) {
        assert!(next.len() <= 4096);
    }
    assert!(difference.lacking.len() <= bytes.len() / 32);
    assert!(difference.ahead <= items.len() as u64);
}

#[test]
fn agreement_takes_21_bytes() {
    let items: Items = (0..5000)
        .map(|n| Item {
            sent_at_ms: n,
            id: [n as u8; 32],
        })
        .collect();
    let (difference, bytes, steps) = compare(&items, &items, ALL, (60_000, 250_000));
    assert_eq!((difference, bytes, steps), (Difference::default(), 21, 1));
}

/// `cargo test --release growth -- --nocapture` prints the figures for 100,000 items.
#[test]
fn growth_is_with_the_difference_and_not_with_the_set() {
    let n: u64 = if cfg!(debug_assertions) {
        10_000
    } else {
        100_000
    };
    let id =
        |seed: u64| -> Id { <sha2::Sha256 as sha2::Digest>::digest(seed.to_le_bytes()).into() };
    let all: Items = (0..n)
        .map(|k| Item {
            sent_at_ms: 1_767_225_600_000 + 17 * k,
            id: id(k),
        })
        .collect();
    let mut before = 0;
    for d in [0, 1, 10, 100, 1000] {
        let mine: Items = all
            .iter_from(0)
            .enumerate()
            .filter(|(k, _)| d == 0 || (k * 7919 + 13) as u64 % n >= d)
            .map(|(_, item)| *item)
            .collect();
        let start = std::time::Instant::now();
        let (difference, bytes, steps) = compare(&mine, &all, ALL, (60 << 10, 256 << 10));
        println!(
            "n = {n}, d = {d}: {bytes} bytes, {steps} steps, {:?}",
            start.elapsed()
        );
        assert_eq!(difference.lacking.len() as u64, d);
        // Each difference costs at most its path down the tree: fingerprints of 16 parts at each level.
        assert!(
            bytes as u64 <= 21 + d * 2 * 5 * 16 * 26,
            "{bytes} bytes for {d}"
        );
        assert!(bytes >= before);
        before = bytes;
    }
}

/// Returns the number of steps on the tree that `work` takes.
fn steps_of<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = crate::sync::items::work::steps();
    let result = work();
    (result, crate::sync::items::work::steps() - before)
}

/// Returns the maximum number of items that are compared, or a sixteenth of it in a build without optimisation.
fn many() -> Items {
    let n = crate::model::MAX_ITEMS as u64 / if cfg!(debug_assertions) { 16 } else { 1 };
    let item = |k: u64| Item {
        sent_at_ms: 1_767_225_600_000 + k,
        id: <sha2::Sha256 as sha2::Digest>::digest(k.to_le_bytes()).into(),
    };
    (0..n).map(item).collect()
}

/// Returns a frame of ranges that end at every `step`-th item, each with the content `range`.
fn frame_of(items: &Items, ranges: usize, step: usize, range: &[u8]) -> Vec<u8> {
    let number = |out: &mut Vec<u8>, value: u64| {
        let groups = (64 - (value | 1).leading_zeros()).div_ceil(7);
        for group in (0..groups).rev() {
            out.push((value >> (7 * group)) as u8 & 0x7f | if group > 0 { 0x80 } else { 0 });
        }
    };
    let mut frame = vec![0x61];
    let mut last_ms = 0;
    for item in items.iter_from(0).step_by(step).take(ranges) {
        number(&mut frame, item.sent_at_ms - last_ms + 1);
        frame.push(0);
        frame.extend(range);
        last_ms = item.sent_at_ms;
    }
    frame
}

/// Number of levels of the tree times the maximum cost of a lookup in one of its nodes, doubled.
const STEPS_A_LOOK: u64 = 400;

#[test]
fn the_cost_of_a_frame_grows_with_its_length_and_hardly_with_the_room() {
    let items = many();
    let window = Window { since_ms: 5, ..ALL };
    // The shortest ranges, as many as fit: different fingerprints, empty lists, skipped ranges.
    let fingerprint = [&[1][..], &[7; 16]].concat();
    for (range, length) in [(&fingerprint[..], 19), (&[2, 0], 4), (&[0], 3)] {
        let ranges = (60 << 10) / length;
        let step = (items.len() / ranges).max(1);
        let frame = frame_of(&items, ranges, step, range);
        let looks = frame.len() as u64 / length as u64;
        let (reply, steps) = steps_of(|| answer(&items, window, &frame, 256 << 10).unwrap());
        let parts = reply.len() as u64 / 19;
        assert!(
            steps <= (2 * looks + 3 * parts + 4) * STEPS_A_LOOK,
            "{steps} steps for {looks} ranges and {} bytes of an answer",
            reply.len()
        );
    }
    // One range over all items costs no more than any other.
    let frame = [
        0x61, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
    ];
    let (_, steps) = steps_of(|| answer(&items, ALL, &frame, 256 << 10).unwrap());
    assert!(steps <= 60 * STEPS_A_LOOK, "{steps}");
}

#[test]
fn an_answer_of_few_bytes_does_not_have_the_opener_go_through_a_room() {
    let items = many();
    let everything = |ids: u8| [&[0x61, 0, 0, 2, ids][..], &[7; 32].repeat(ids.into())].concat();
    for ids in 0..3 {
        let mut difference = Difference::default();
        let (next, steps) =
            steps_of(|| advance(&items, ALL, &everything(ids), 60 << 10, &mut difference).unwrap());
        assert!(steps <= 60 * STEPS_A_LOOK, "{steps} steps for {ids} ids");
        match ids {
            // The neighbour holds nothing there: that needs no lookup.
            0 => assert_eq!((next, difference.ahead), (None, items.len() as u64)),
            _ => assert!(next.is_some() && difference == Difference::default()),
        }
    }
}

#[test]
fn a_large_room_and_a_small_one_find_each_other_s_batches() {
    let large = many();
    let mut small: Items = large.iter_from(0).step_by(5000).copied().collect();
    let own = Item {
        sent_at_ms: 1_767_225_600_777,
        id: [9; 32],
    };
    small.insert(own);
    let (difference, ..) = compare(&large, &small, ALL, (60 << 10, 256 << 10));
    assert_eq!(difference.lacking, [own.id]);
    assert_eq!(difference.ahead as usize, large.len() - (small.len() - 1));
}
