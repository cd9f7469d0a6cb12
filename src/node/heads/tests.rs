//! Tests of the heads.

use super::*;
use crate::gossip::{Author, Event};
use crate::identity::{Identity, NetworkId};

const THIS: [u8; 16] = [1; 16];

fn identity() -> Identity {
    Identity::from_seed(&[7; 32])
}

fn room() -> RoomName {
    "lobby".parse().unwrap()
}

fn heads() -> Heads {
    Heads::new(identity().peer_id(), THIS)
}

fn batch(identity: Identity, instance: u8, seq: u64, prev: &[BatchId]) -> VerifiedBatch {
    let author = Author::new(identity, NetworkId::OPEN, [instance; 16]);
    let events = vec![Event::new("chat", "")];
    let sealed = author.seal(&room(), seq, 1000 + seq, prev, events);
    sealed.unwrap().into()
}

fn other(instance: u8, seq: u64, prev: &[BatchId]) -> VerifiedBatch {
    batch(identity(), instance, seq, prev)
}

fn left(id: u8, is_last: bool, prev: &[u8]) -> EarlierBatch {
    EarlierBatch {
        id: BatchId([id; 32]),
        sent_at_ms: u64::from(id),
        is_last,
        prev: prev.iter().map(|id| BatchId([*id; 32])).collect(),
    }
}

fn ids(heads: &Heads) -> Vec<u8> {
    heads.next(&room()).iter().map(|id| id.0[0]).collect()
}

#[test]
fn the_first_batch_of_a_run_follows_the_heads_in_the_log_the_newest_four() {
    let heads = heads();
    assert!(heads.needs_earlier(&room()));
    heads.add_earlier(
        &room(),
        vec![
            left(5, true, &[4, 2]),
            left(4, false, &[]),
            left(2, true, &[]),
            left(3, true, &[]),
        ],
    );
    assert!(!heads.needs_earlier(&room()));
    // 5 follows 2, and 4 is not the last of its run.
    assert_eq!(ids(&heads), [5, 3]);
    heads.add_earlier(&room(), (10..20).map(|id| left(id, true, &[])).collect());
    assert_eq!(ids(&heads), [19, 18, 17, 16]);
}

#[test]
fn later_ones_follow_the_batch_before_and_what_other_runs_have_sent_meanwhile_once() {
    let heads = heads();
    heads.add_earlier(&room(), vec![left(9, true, &[])]);
    let first = BatchId([100; 32]);
    let prev = heads.next(&room());
    heads.record_sent(&room(), &prev, first);
    assert_eq!(heads.next(&room()), [first]);

    let theirs = other(2, 1, &[]);
    heads.add_stored(&theirs);
    heads.add_stored(&theirs);
    assert_eq!(heads.next(&room()), [first, theirs.id()]);
    let next = other(2, 2, &[theirs.id()]);
    heads.add_stored(&next);
    assert_eq!(heads.next(&room()), [first, next.id()]);
    let second = BatchId([101; 32]);
    heads.record_sent(&room(), &[first, next.id()], second);
    assert_eq!(heads.next(&room()), [second]);
    // It is named already, even if it arrives late.
    heads.add_stored(&theirs);
    assert_eq!(heads.next(&room()), [second]);
}

#[test]
fn what_was_not_named_stays_for_the_next_and_there_are_four_at_most() {
    let heads = heads();
    let last = BatchId([100; 32]);
    heads.record_sent(&room(), &[], last);
    let others: Vec<_> = (0..9)
        .map(|n| other(10 + n, u64::from(n) + 1, &[]))
        .collect();
    for batch in &others {
        heads.add_stored(batch);
    }
    let next = heads.next(&room());
    assert_eq!(next, [last, others[8].id(), others[7].id(), others[6].id()]);
    heads.record_sent(&room(), &next, BatchId([101; 32]));
    assert_eq!(heads.next(&room())[1..], [others[5].id()]);
}

#[test]
fn batches_of_others_and_of_this_run_are_none_of_its_business() {
    let heads = heads();
    heads.add_stored(&batch(Identity::from_seed(&[8; 32]), 2, 1, &[]));
    heads.add_stored(&batch(identity(), 1, 1, &[]));
    assert_eq!(heads.next(&room()), []);
}
