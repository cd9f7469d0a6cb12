//! Order, turns and memory of a backlog.

use bytes::Bytes;

use super::*;
use crate::model::BatchId;

fn author(n: u8) -> PeerId {
    crate::identity::Identity::from_seed(&[n; 32]).peer_id()
}

fn message(author: PeerId, process: u64, seq: u64) -> Message {
    Message {
        id: BatchId([0; 32]),
        room: "lobby".parse().unwrap(),
        author,
        instance_id: u128::from(process).to_be_bytes(),
        seq,
        name: String::new(),
        data: Bytes::new(),
        sent_at_ms: 0,
        backfill: false,
    }
}

#[test]
fn messages_in_a_row_are_one_stretch_whichever_end_they_come_at() {
    let mut backlog = Backlog::default();
    let who = author(1);
    for seq in [10, 11, 9, 20, 8, 12] {
        assert!(backlog.add(&message(who, 1, seq)));
    }
    assert_eq!(backlog.stretches, 2);
    for seq in 13..20 {
        backlog.add(&message(who, 1, seq));
    }
    assert_eq!(backlog.stretches, 1);
    backlog.set_due(&who);
    let stretch = backlog.begin().unwrap();
    assert_eq!((stretch.first, stretch.last), (8, 20));
}

#[test]
fn what_came_live_and_what_did_not_are_told_apart() {
    let mut backlog = Backlog::default();
    let who = author(1);
    for seq in 1..=9 {
        let backfill = (4..=6).contains(&seq);
        backlog.add(&Message {
            backfill,
            ..message(who, 1, seq)
        });
    }
    let mut read = Vec::new();
    backlog.set_due(&who);
    while let Some(stretch) = backlog.begin() {
        read.push((stretch.first, stretch.last, stretch.backfill));
        backlog.end(None);
    }
    assert_eq!(read, [(1, 3, false), (4, 6, true), (7, 9, false)]);
    assert!(backlog.is_empty());
}

#[test]
fn authors_take_turns_and_so_do_the_processes_of_one() {
    let mut backlog = Backlog::default();
    for (who, process) in [(1, 1), (1, 2), (2, 1)] {
        for seq in 1..=100 {
            backlog.add(&message(author(who), process, seq));
        }
        backlog.set_due(&author(who));
    }
    let mut turns = Vec::new();
    for _ in 0..6 {
        let stretch = backlog.begin().unwrap();
        turns.push((stretch.author, stretch.instance_id[15], stretch.first));
        assert!(backlog.begin().is_none(), "one at a time");
        let first = stretch.first + 10;
        backlog.end(Some(Stretch { first, ..stretch }));
    }
    let (a, b) = (author(1), author(2));
    assert_eq!(
        turns,
        [
            (a, 1, 1),
            (b, 1, 1),
            (a, 2, 1),
            (b, 1, 11),
            (a, 1, 11),
            (b, 1, 21)
        ]
    );
}

#[test]
fn an_author_is_held_until_its_last_stretch_is_read() {
    let mut backlog = Backlog::default();
    let who = author(1);
    backlog.add(&message(who, 1, 1));
    backlog.set_due(&who);
    backlog.begin().unwrap();
    assert!(backlog.holds(&who) && !backlog.is_empty());
    // Newer messages are read after it.
    backlog.add(&message(who, 1, 2));
    backlog.set_due(&who);
    backlog.end(None);
    assert_eq!(backlog.begin().unwrap().first, 2);
    backlog.end(None);
    assert!(!backlog.holds(&who) && backlog.is_empty());
}

#[test]
fn a_new_process_for_each_message_makes_no_memory_grow() {
    let mut backlog = Backlog::default();
    let who = author(1);
    let processes = MAX_STRETCHES as u64;
    for process in 0..processes {
        assert!(backlog.add(&message(who, process, 1)));
    }
    assert!(!backlog.add(&message(who, processes, 1)));
    // What goes on costs nothing.
    assert!(backlog.add(&message(who, 7, 2)));
    assert_eq!(backlog.stretches, MAX_STRETCHES);
    let given_up: Vec<_> = backlog.give_up().collect();
    assert_eq!(given_up, [(who, processes + 1)]);
}
