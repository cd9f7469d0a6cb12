//! Disk usage of all the log's files while batches are stored and removed.

use std::path::Path;
use std::sync::mpsc;

use super::*;
use crate::clock::Clock;
use crate::store::{Log, RetentionPolicy, Writer};

/// Returns the size of the log's files in `dir`, in total and of each.
fn on_disk(dir: &Path) -> (u64, Vec<String>) {
    let (mut total, mut each) = (0, Vec::new());
    for file in std::fs::read_dir(dir).unwrap().filter_map(Result::ok) {
        // The file has just been removed.
        let Ok(metadata) = file.metadata() else {
            continue;
        };
        total += metadata.len();
        each.push(format!("{:?}: {}", file.file_name(), metadata.len()));
    }
    (total, each)
}

/// Returns batches of `bytes` each, by `authors` authors in turn, in the order of their numbers from `from` on.
fn in_turn(authors: u8, from: u64, rounds: u64, bytes: usize) -> impl Iterator<Item = Batch> {
    let now_ms = Clock::start().unix_millis();
    (from..from + rounds).flat_map(move |seq| {
        (1..=authors).map(move |author| batch_of("a", author, seq, 1, now_ms + seq, bytes))
    })
}

/// Stores `batches` with a limited number in flight, and returns the maximum of the files' size meanwhile.
fn store(writer: &Writer, dir: &Path, batches: impl Iterator<Item = Batch>) -> (u64, Vec<String>) {
    let (done, stored) = mpsc::channel();
    let (mut waiting, mut most) = (0, (0, Vec::new()));
    for batch in batches {
        let done = done.clone();
        let mut next = Some(batch);
        while let Some(batch) = next.take() {
            let answer = done.clone();
            let told = move |appended: crate::store::Appended| {
                answer.send(appended.is_ok()).unwrap();
            };
            match writer.append(std::slice::from_ref(&batch), told) {
                Ok(()) => waiting += 1,
                Err(_) => next = Some(batch),
            }
            while waiting > 64 {
                assert!(stored.recv().unwrap(), "it is stored");
                waiting -= 1;
            }
        }
        most = most.max(on_disk(dir));
    }
    for _ in 0..waiting {
        assert!(stored.recv().unwrap(), "it is stored");
    }
    most.max(on_disk(dir))
}

#[test]
fn all_files_of_a_small_log_stay_within_its_bound_and_a_constant_under_any_load_and_after_it() {
    for (mib, sync) in [(5, Sync::Normal), (5, Sync::Full)] {
        let policy = RetentionPolicy {
            bytes: mib << 20,
            sync,
            ..policy()
        };
        assert!(policy.most_on_disk() < policy.bytes + (18 << 20));
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), policy).unwrap();
        let writer = Writer::start(log, Clock::start(), |_| {}).unwrap();
        let floods = [
            (3, 1, 4000, 400),
            (3, 10_000, 1500, 6000),
            (2, 20_000, 100, 200_000),
        ];
        for (authors, from, rounds, bytes) in floods {
            let rounds = if sync == Sync::Full {
                rounds / 10
            } else {
                rounds
            };
            let (most, each) = store(&writer, dir.path(), in_turn(authors, from, rounds, bytes));
            assert!(
                most <= policy.most_on_disk(),
                "{most} of {} with {bytes} bytes each: {each:?}",
                policy.most_on_disk()
            );
        }
        drop(writer);
        let (rest, each) = on_disk(dir.path());
        assert!(
            rest <= policy.most_on_disk() - (8 << 20),
            "{rest} at rest: {each:?}"
        );
        let wal = std::fs::metadata(dir.path().join("log.sqlite3-wal"));
        assert_eq!(wal.map_or(0, |wal| wal.len()), 0, "all is in the file");
    }
}

#[test]
fn pages_that_small_batches_leave_are_given_back_when_large_ones_take_their_room() {
    let policy = RetentionPolicy {
        bytes: 16 << 20,
        ..policy()
    };
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), policy).unwrap();
    let writer = Writer::start(log, Clock::start(), |_| {}).unwrap();
    let file = || {
        std::fs::metadata(dir.path().join("log.sqlite3"))
            .unwrap()
            .len()
    };
    store(&writer, dir.path(), in_turn(1, 1, 6000, 3000));
    drop(writer);
    let full = file();
    assert!(full > 12 << 20, "{full}");
    let log = Log::open(dir.path(), policy).unwrap();
    let writer = Writer::start(log, Clock::start(), |_| {}).unwrap();
    store(&writer, dir.path(), in_turn(1, 10_000, 200, 200_000));
    drop(writer);
    let left = file();
    assert!(left < full / 2, "{left} of {full}");
}
