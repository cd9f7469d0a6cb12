//! Large envelopes in the blob files are as safe as those in the log's file.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::model::Found;
use crate::store::{self, Archive, FILE_NAME, Log, LogError, Query, RetentionPolicy, Sync};

const MIB: usize = 1 << 20;

fn large(n: u64) -> Batch {
    batch_of("a", 1, n, 1, NOW_MS + n, MIB)
}

fn filled(dir: &Path, numbers: std::ops::RangeInclusive<u64>) -> Vec<Batch> {
    let batches: Vec<Batch> = numbers.map(large).collect();
    let mut log = Log::open(dir, policy()).unwrap();
    log.append(NOW_MS, &batches).unwrap();
    batches
}

/// Returns the blob files of the log `name`, and their sizes.
fn files(dir: &Path, name: &str) -> Vec<(PathBuf, u64)> {
    let prefix = format!("{name}-large-");
    let all = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let ours = all.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    let mut files: Vec<_> = ours
        .map(|entry| (entry.path(), entry.metadata().unwrap().len()))
        .collect();
    files.sort();
    files
}

fn holds(log: &Log, batches: &[Batch]) -> Vec<bool> {
    let holds = |batch: &Batch| log.reader().holds(&batch.0.id).unwrap();
    batches.iter().map(holds).collect()
}

fn fetch(log: &Log, batches: &[Batch]) -> Found {
    let ids: Vec<_> = batches.iter().map(|batch| batch.0.id).collect();
    log.reader().fetch("a", &ids, 64 * MIB).unwrap()
}

fn overwrite(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at..at + 3].copy_from_slice(b"!!!");
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_large_envelope_is_read_in_every_way_and_is_not_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut batches = filled(dir.path(), 1..=3);
    let mut log = Log::open(dir.path(), policy()).unwrap();
    batches.push(batch(1, 4));
    log.append(NOW_MS, &batches).unwrap();
    let found = fetch(&log, &batches);
    let bytes = |batch: &Batch| batch.0.bytes.clone();
    assert_eq!(
        found.envelopes,
        batches.iter().map(bytes).collect::<Vec<_>>()
    );
    // The answer ends before the first envelope that does not fit.
    let ids: Vec<_> = batches.iter().map(|batch| batch.0.id).collect();
    let some = log.reader().fetch("a", &ids, 2 * MIB + 10).unwrap();
    assert_eq!((some.envelopes.len(), some.looked_at), (2, 2));
    drop(log);

    let archive = Archive::open(dir.path()).unwrap();
    let pages = archive.reader().history(Query::default());
    let read: Vec<_> = pages.flat_map(|page| page.unwrap()).collect();
    let read: Vec<_> = read.into_iter().map(|stored| stored.record.bytes).collect();
    assert_eq!(read, batches.iter().map(bytes).collect::<Vec<_>>());
    let report = store::check(dir.path()).unwrap();
    assert!(report.is_sound() && report.whole == 4, "{report:?}");
    let conn = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
    let readable: i64 = conn
        .query_row("SELECT sum(bytes) FROM readable", [], |row| row.get(0))
        .unwrap();
    let sum: usize = batches.iter().map(|batch| batch.0.bytes.len()).sum();
    assert_eq!(readable, sum as i64);
    assert!(fs::metadata(dir.path().join(FILE_NAME)).unwrap().len() < MIB as u64);
}

#[test]
fn a_log_in_memory_has_no_files() {
    let mut log = Log::ephemeral(policy()).unwrap();
    log.append(NOW_MS, &[large(1)]).unwrap();
    assert_eq!(fetch(&log, &[large(1)]).envelopes, [large(1).0.bytes]);
}

#[test]
fn what_did_not_reach_the_disk_before_a_power_cut_is_not_held_and_can_come_again() {
    // Cuts off the end, changes the middle, or removes the whole file.
    let cuts: [fn(&Path); 3] = [
        |path| {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(2 * MIB as u64 + 7).unwrap();
        },
        |path| overwrite(path, 2 * MIB + 7),
        |path| fs::remove_file(path).unwrap(),
    ];
    let held = [[true, true, false], [true, true, false], [false; 3]];
    for (cut, held) in cuts.into_iter().zip(held) {
        let dir = tempfile::tempdir().unwrap();
        let batches = filled(dir.path(), 1..=3);
        cut(&files(dir.path(), FILE_NAME)[0].0);
        let mut log = Log::open(dir.path(), policy()).unwrap();
        assert_eq!(holds(&log, &batches), held);
        log.append(NOW_MS, &batches).unwrap();
        assert_eq!(fetch(&log, &batches).envelopes.len(), 3);
    }
}

#[test]
fn an_altered_envelope_is_not_served_and_the_check_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let batches = filled(dir.path(), 1..=2);
    let log = Log::open(dir.path(), policy()).unwrap();
    overwrite(&files(dir.path(), FILE_NAME)[0].0, 7);
    let found = fetch(&log, &batches);
    assert_eq!(found.missing, [batches[0].0.id], "nobody is sent a forgery");
    assert_eq!(found.envelopes, [batches[1].0.bytes.clone()]);
    let report = store::check(dir.path()).unwrap();
    assert_eq!((report.whole, report.altered), (1, 1));
}

#[test]
fn files_go_with_their_batches_and_all_that_is_kept_stays_within_the_bound() {
    for bytes in [32 << 20, 6 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let bound = RetentionPolicy { bytes, ..policy() };
        let mut log = Log::open(dir.path(), bound).unwrap();
        for n in 1..=60 {
            log.append(NOW_MS, &[large(n)]).unwrap();
            while !log.prune(NOW_MS).unwrap().is_empty() {}
            let used = log.used_bytes().unwrap();
            let lie: u64 = files(dir.path(), FILE_NAME)
                .iter()
                .map(|(_, len)| len)
                .sum();
            assert!(used <= bytes, "{used}");
            assert!(lie <= bytes + bytes / 4 + 4 * (bytes / 8), "{lie}");
            if n > 40 {
                let kept = log.reader().rooms().unwrap()[0].batches;
                // One transaction may remove four mebibytes.
                assert!((kept + 4) << 20 >= bytes / 2, "{kept} of {bytes}");
            }
        }
    }
}

#[test]
fn what_was_not_committed_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    log.refuse_writes(true).unwrap();
    assert!(log.append(NOW_MS, &[large(1)]).is_err());
    log.refuse_writes(false).unwrap();
    assert_eq!(holds(&log, &[large(1)]), [false]);
    drop(log);
    drop(Log::open(dir.path(), policy()).unwrap());
    assert!(files(dir.path(), FILE_NAME).is_empty());
}

#[test]
fn with_full_sync_a_large_batch_is_stored_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let full = RetentionPolicy {
        sync: Sync::Full,
        ..policy()
    };
    let batches: Vec<Batch> = (1..=40).map(large).collect();
    let mut log = Log::open(dir.path(), full).unwrap();
    for batch in &batches {
        log.append(NOW_MS, std::slice::from_ref(batch)).unwrap();
    }
    assert_eq!(files(dir.path(), FILE_NAME).len(), 2, "one is full");
    assert_eq!(fetch(&log, &batches).envelopes, {
        let bytes = |batch: &Batch| batch.0.bytes.clone();
        batches.iter().map(bytes).collect::<Vec<_>>()
    });
}

#[test]
fn a_log_of_an_earlier_schema_is_named_and_left_alone_until_it_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let batches: Vec<Batch> = (1..=5).map(|n| batch(1, n)).collect();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    log.append(NOW_MS, &batches).unwrap();
    drop(log);
    let conn = rusqlite::Connection::open(&path).unwrap();
    let earlier = "DROP TABLE network; PRAGMA user_version = 2";
    conn.execute_batch(earlier).unwrap();
    drop(conn);
    let before = fs::read(&path).unwrap();
    let errors = [
        Log::open(dir.path(), policy()).map(drop).unwrap_err(),
        Archive::open(dir.path()).map(drop).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, LogError::Older { found: 2, .. }), "{error}");
        assert!(error.to_string().contains("log repair"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    // Its batches were signed for no network: none of them verifies.
    let refuse = |_: &[u8]| Err::<Batch, _>("no batch".to_owned());
    let repaired = store::repair(dir.path(), policy(), NOW_MS, refuse).unwrap();
    assert_eq!((repaired.saved, repaired.refused), (0, 5));
    assert!(repaired.kept.exists());
    assert_eq!(
        holds(&Log::open(dir.path(), policy()).unwrap(), &batches),
        [false; 5]
    );
}

#[test]
fn repairing_takes_the_large_ones_along_and_keeps_the_old_files() {
    let dir = tempfile::tempdir().unwrap();
    let batches = filled(dir.path(), 1..=3);
    let before: Vec<u64> = files(dir.path(), FILE_NAME)
        .iter()
        .map(|(_, len)| *len)
        .collect();
    let repaired = store::repair(dir.path(), policy(), NOW_MS, read_back).unwrap();
    assert_eq!((repaired.saved, repaired.refused), (3, 0));
    let kept = repaired.kept.file_name().unwrap().to_str().unwrap();
    let old: Vec<u64> = files(dir.path(), kept)
        .iter()
        .map(|(_, len)| *len)
        .collect();
    assert_eq!(old, before);
    let log = Log::open(dir.path(), policy()).unwrap();
    assert_eq!(fetch(&log, &batches).envelopes.len(), 3);
}

#[test]
fn what_is_old_goes_and_the_rest_stays_also_where_both_are_in_the_same_files() {
    let bytes = 32 << 20;
    let dir = tempfile::tempdir().unwrap();
    let bound = RetentionPolicy { bytes, ..policy() };
    let mut log = Log::open(dir.path(), bound).unwrap();
    // Alternates an old batch that is fetched with a new one that is broadcast.
    for n in 1..=60 {
        let old = batch_of("a", 1, 1_000 + n, 1, NOW_MS - 1_000_000 + n, MIB);
        log.append(NOW_MS, &[old, large(n)]).unwrap();
        while !log.prune(NOW_MS).unwrap().is_empty() {}
        let used = log.used_bytes().unwrap();
        assert!(
            used <= bytes && (n < 20 || used + (6 << 20) > bytes),
            "{used}"
        );
        let lie: u64 = files(dir.path(), FILE_NAME)
            .iter()
            .map(|(_, len)| len)
            .sum();
        // The bound of unreferenced bytes is a quarter, plus files that are not full yet.
        assert!(lie <= bytes + bytes / 4 + 3 * (bytes / 8), "{lie}");
    }
    let newest: Vec<Batch> = (40..=60).map(large).collect();
    assert_eq!(fetch(&log, &newest).envelopes.len(), 21);
    assert!(store::check(dir.path()).unwrap().is_sound());
}

#[test]
fn a_transaction_that_failed_leaves_nothing_in_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    log.append(NOW_MS, &[large(1)]).unwrap();
    let before = files(dir.path(), FILE_NAME);
    log.refuse_writes(true).unwrap();
    for _ in 0..3 {
        let many: Vec<Batch> = (2..50).map(large).collect();
        assert!(log.append(NOW_MS, &many).is_err());
        assert_eq!(files(dir.path(), FILE_NAME), before);
    }
    log.refuse_writes(false).unwrap();
    log.append(NOW_MS, &[large(2)]).unwrap();
    assert_eq!(fetch(&log, &[large(1), large(2)]).envelopes.len(), 2);
}

#[test]
fn files_of_a_log_that_another_one_has_replaced_are_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 1..=3);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(dir.path().join(format!("{FILE_NAME}{suffix}")));
    }
    let refused = Log::open(dir.path(), policy());
    assert!(
        matches!(refused, Err(LogError::Orphaned { .. })),
        "{refused:?}"
    );

    let empty = tempfile::tempdir().unwrap();
    drop(Log::open(empty.path(), policy()).unwrap());
    fs::copy(empty.path().join(FILE_NAME), dir.path().join(FILE_NAME)).unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    log.append(NOW_MS, &[large(9)]).unwrap();
    let aside = files(dir.path(), &format!("{FILE_NAME}.orphaned"));
    assert!(
        aside.len() == 1 && aside[0].1 >= 3 * MIB as u64,
        "{aside:?}"
    );
}
