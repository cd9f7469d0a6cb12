//! The writer: acknowledgements, backpressure, and the checkpoint of an idle log.

use std::fs;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::clock::Clock;
use crate::store::{FILE_NAME, Log, Writer};

#[test]
fn the_writer_acknowledges_each_append_with_its_own_outcomes() {
    for ephemeral in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let log = if ephemeral {
            Log::ephemeral(policy())
        } else {
            Log::open(dir.path(), policy())
        };
        let writer = Writer::start(log.unwrap(), Clock::start(), |_| {}).unwrap();
        let (sender, receiver) = mpsc::channel();
        let now_ms = Clock::start().unix_millis();
        for n in 1..=100 {
            let batches = [
                batch_in("a", 1, n, 1, now_ms),
                batch_in("b", 1, n, 1, now_ms),
            ];
            let sender = sender.clone();
            writer
                .append(&batches, move |done| {
                    sender.send((n, done.unwrap())).unwrap()
                })
                .unwrap();
        }
        let sender_of_read = sender.clone();
        for n in 1..=100 {
            assert_eq!(receiver.recv().unwrap(), (n, vec![NEW, NEW]));
        }
        writer.read(move |reader| {
            let last = batch_in("a", 1, 100, 1, now_ms).0.id;
            let held = reader.holds(&last).unwrap();
            sender_of_read.send((u64::from(held), vec![])).unwrap();
        });
        assert_eq!(
            receiver.recv().unwrap().0,
            1,
            "it sees what was acknowledged"
        );
    }
}

#[test]
fn what_was_stored_is_moved_into_the_file_in_the_next_pause() {
    const BATCHES: u64 = 12 * 32;
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), policy()).unwrap();
    let writer = Writer::start(log, Clock::start(), |_| {}).unwrap();
    let (sender, receiver) = mpsc::channel();
    let now_ms = Clock::start().unix_millis();
    for n in 1..=BATCHES {
        let sender = sender.clone();
        let batch = batch_of("a", 1, n, 1, now_ms, 32 << 10);
        writer
            .append(&[batch], move |done| sender.send(done.unwrap()).unwrap())
            .unwrap();
        assert_eq!(receiver.recv().unwrap(), [NEW]);
    }
    let file = dir.path().join(FILE_NAME);
    let since = Instant::now();
    while fs::metadata(&file).unwrap().len() < BATCHES << 15 {
        assert!(since.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_full_queue_is_said_and_nothing_of_it_is_lost() {
    let writer = Writer::start(Log::ephemeral(policy()).unwrap(), Clock::start(), |_| {}).unwrap();
    let (sender, receiver) = mpsc::channel();
    let now_ms = Clock::start().unix_millis();
    let batches: Vec<Batch> = (1..=40)
        .map(|n| batch_of("a", 1, n, 1, now_ms, 1 << 20))
        .collect();
    // A log in memory reads on the writer's thread: this blocks it.
    let (go_on, wait) = mpsc::channel::<()>();
    writer.read(move |_| wait.recv().unwrap());
    let mut taken = 0;
    let mut refused = 0;
    for batch in batches {
        let sender = sender.clone();
        match writer.append(&[batch], move |done| sender.send(done.unwrap()).unwrap()) {
            Ok(()) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    go_on.send(()).unwrap();
    drop(writer);
    drop(sender);
    assert_eq!(receiver.iter().count(), taken);
    assert!(refused > 0, "the queue has a bound");
}
