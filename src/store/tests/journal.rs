//! A batch acknowledged before its commit survives every failure.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::store::journal::{self, Journal, MAX_JOURNAL_BYTES};
use crate::store::{self, Archive, FILE_NAME, Log, LogError, Query, Reader, Sync, schema};

fn records(numbers: std::ops::RangeInclusive<u64>, size: usize) -> Vec<Record> {
    let one = |n| batch_of("a", 1, n, 1, NOW_MS + n, size).0;
    numbers.map(one).collect()
}

fn soon(log: &mut Log, batches: &[Batch]) -> Result<Vec<Outcome>, LogError> {
    let records: Vec<&Record> = batches.iter().map(|batch| &batch.0).collect();
    log.append_buffered(NOW_MS, &records)
}

/// Returns a copy of the log in `dir` as a kill at this moment would leave it.
fn killed(dir: &Path) -> tempfile::TempDir {
    let left = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal", "-tail"] {
        let name = format!("{FILE_NAME}{suffix}");
        fs::copy(dir.join(&name), left.path().join(&name)).unwrap();
    }
    left
}

/// Returns whether a reader of the file alone sees the batch.
fn is_in_the_file(dir: &Path, batch: &Batch) -> bool {
    let path = dir.join(FILE_NAME);
    let conn = schema::open_to_read(&path).unwrap();
    Reader::new(&conn, &path).holds(&batch.0.id).unwrap()
}

fn is_read(dir: &Path, batch: &Batch) -> bool {
    let archive = Archive::open(dir).unwrap();
    archive.reader().holds(&batch.0.id).unwrap()
}

#[test]
fn what_was_acknowledged_before_its_commit_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    assert_eq!(soon(&mut log, &[batch(1, 1)]).unwrap(), [NEW]);
    log.flush().unwrap();
    assert_eq!(
        soon(&mut log, &[batch(1, 2), batch(1, 1)]).unwrap(),
        [NEW, Outcome::Held]
    );
    assert_eq!(soon(&mut log, &[batch(1, 2)]).unwrap(), [Outcome::Held]);
    assert!(log.has_uncommitted());
    assert!(
        !is_in_the_file(dir.path(), &batch(1, 2)),
        "it is not committed"
    );

    let left = killed(dir.path());
    for _ in 0..2 {
        let mut log = Log::open(left.path(), policy()).unwrap();
        assert!(!log.has_uncommitted());
        for n in [1, 2] {
            assert!(is_in_the_file(left.path(), &batch(1, n)));
            assert_eq!(log.append(NOW_MS, &[batch(1, n)]).unwrap(), [Outcome::Held]);
        }
    }
    assert!(
        !left.path().join("log.sqlite3-tail").exists(),
        "a log that was closed has none"
    );
}

#[test]
fn whoever_reads_the_log_of_a_killed_process_sees_all_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    soon(&mut log, &[batch(1, 1)]).unwrap();
    assert!(is_read(killed(dir.path()).path(), &batch(1, 1)));
    let report = store::check(killed(dir.path()).path()).unwrap();
    assert_eq!((report.whole, report.is_sound()), (1, true));
    let mut out = Vec::new();
    let left = killed(dir.path());
    assert_eq!(
        store::export(left.path(), Query::default(), &mut out).unwrap(),
        1
    );
}

#[test]
fn whoever_reads_the_log_of_a_running_process_waits_for_what_it_has_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    soon(&mut log, &[batch(1, 1)]).unwrap();
    let path = dir.path().to_owned();
    let (sender, read) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || sender.send(is_read(&path, &batch(1, 1))).unwrap());
    // A reader that does not wait would answer within this time.
    let early = read.recv_timeout(std::time::Duration::from_millis(200));
    assert!(early.is_err(), "it has not waited");
    log.flush().unwrap();
    assert!(read.recv().unwrap());
    reading.join().unwrap();
}

#[test]
fn with_full_sync_nothing_is_put_off_and_what_was_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    soon(&mut log, &[batch(1, 1)]).unwrap();
    let left = killed(dir.path());
    let full = RetentionPolicy {
        sync: Sync::Full,
        ..policy()
    };
    let mut log = Log::open(left.path(), full).unwrap();
    assert!(is_in_the_file(left.path(), &batch(1, 1)));
    soon(&mut log, &[batch(1, 2)]).unwrap();
    assert!(is_in_the_file(left.path(), &batch(1, 2)));
}

#[test]
fn an_append_that_fails_takes_nothing_acknowledged_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    soon(&mut log, &[batch(1, 1)]).unwrap();
    log.limit_pages(Some(40)).unwrap();
    let large = batch_of("b", 2, 1, 1, NOW_MS, 1 << 20);
    let error = soon(&mut log, &[batch(1, 2), large.clone()]).unwrap_err();
    assert!(matches!(error, LogError::Full { .. }), "{error}");
    assert!(is_in_the_file(dir.path(), &batch(1, 1)));
    assert!(!log.reader().holds(&batch(1, 2).0.id).unwrap());
    assert_eq!(soon(&mut log, &[batch(1, 2)]).unwrap(), [NEW]);
    log.limit_pages(None).unwrap();
    assert_eq!(soon(&mut log, &[large]).unwrap(), [NEW]);
    assert!(is_in_the_file(dir.path(), &batch(1, 2)));
}

#[test]
fn what_cannot_be_committed_is_kept_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    log.append(NOW_MS, &[batch(1, 1)]).unwrap();
    let acknowledged = batch(1, 2);
    soon(&mut log, std::slice::from_ref(&acknowledged)).unwrap();
    let left = killed(dir.path());
    log.refuse_writes(true).unwrap();
    for _ in 0..2 {
        let error = soon(&mut log, &[batch(1, 3)]).unwrap_err();
        assert!(matches!(error, LogError::ReadOnly { .. }), "{error}");
    }
    assert!(log.has_uncommitted(), "it is still owed");
    assert!(matches!(log.flush(), Err(LogError::ReadOnly { .. })));
    // The batch survives a kill now and a kill before.
    for left in [left, killed(dir.path())] {
        assert!(is_read(left.path(), &acknowledged));
    }
    log.refuse_writes(false).unwrap();
    assert_eq!(soon(&mut log, &[batch(2, 1)]).unwrap(), [NEW]);
    log.flush().unwrap();
    assert!(is_in_the_file(dir.path(), &acknowledged));
}

#[test]
fn the_journal_takes_all_of_what_is_handed_to_it_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut journal = Journal::create(path.clone()).unwrap();
    let mut taken = Vec::new();
    for n in 1.. {
        let three = records(3 * n..=3 * n + 2, 10_000);
        if !journal.append(7, &three).unwrap() {
            break;
        }
        taken.extend(three.into_iter().map(|record| (7, record)));
    }
    assert_eq!(journal::read(&path).unwrap(), taken);
    assert!(fs::metadata(&path).unwrap().len() <= MAX_JOURNAL_BYTES as u64);
    assert!(taken.len() > 20);
}

proptest! {
    /// A crash may cut the last frame short, and a damaged disk may change any byte.
    #[test]
    fn reading_ends_before_the_first_frame_that_is_not_whole(
        earlier in 0u64..20, kept in 0u64..20, size in 64usize..2000, cut in 0usize..60_000, flip in 0usize..60_000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::create(path.clone()).unwrap();
        prop_assert!(journal.append(1, &records(1..=earlier, 300)).unwrap());
        journal.clear().unwrap();
        let second = records(101..=100 + kept, size);
        prop_assert!(journal.append(2, &second).unwrap());
        let read = journal::read(&path).unwrap();
        if kept > 0 {
            let expected: Vec<_> = second.iter().cloned().map(|record| (2, record)).collect();
            prop_assert_eq!(&read, &expected, "what an earlier round left behind is not read");
        }

        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..cut.min(whole.len())]).unwrap();
        prop_assert!(read.starts_with(&journal::read(&path).unwrap()));
        let mut damaged = whole;
        if let Some(byte) = damaged.get_mut(flip) {
            *byte ^= 1;
        }
        fs::write(&path, damaged).unwrap();
        prop_assert!(read.starts_with(&journal::read(&path).unwrap()));
    }
}
