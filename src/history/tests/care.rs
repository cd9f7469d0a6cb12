//! A damaged log is seen, saved from, and kept.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use super::*;
use crate::history::{self, FILE_NAME, Log, LogError, Query};

fn filled(dir: &std::path::Path, count: u64) -> Vec<Batch> {
    let batches: Vec<Batch> = (1..=count)
        .map(|n| batch_of("a", 1, n, 1, NOW_MS + n, 300))
        .collect();
    Log::open(dir, keep())
        .unwrap()
        .append(NOW_MS, &batches)
        .unwrap();
    batches
}

fn damage(dir: &std::path::Path) {
    let path = dir.join(FILE_NAME);
    let len = fs::metadata(&path).unwrap().len();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(len / 2)).unwrap();
    file.write_all(&[0x5a; 3 * 8192]).unwrap();
}

#[test]
fn a_sound_log_checks_as_sound() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 1000);
    let report = history::check(dir.path()).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.whole, report.rooms[0].batches), (1000, 1000));
}

#[test]
fn a_damaged_log_is_repaired_and_the_old_file_kept() {
    let dir = tempfile::tempdir().unwrap();
    let batches = filled(dir.path(), 1000);
    damage(dir.path());
    assert!(!history::check(dir.path()).unwrap().is_sound());
    let damaged = fs::read(dir.path().join(FILE_NAME)).unwrap();

    let repaired = history::repair(dir.path(), keep(), NOW_MS, read_back).unwrap();
    assert!(repaired.saved > 500, "{repaired:?}");
    assert_eq!(fs::read(&repaired.kept).unwrap(), damaged);
    let report = history::check(dir.path()).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.whole, repaired.saved);
    let mut log = Log::open(dir.path(), keep()).unwrap();
    log.append(NOW_MS, &batches).unwrap();
    assert_eq!(
        log.reader().rooms().unwrap()[0].batches,
        1000,
        "neighbours bring the rest"
    );
}

#[test]
fn a_file_beyond_reading_is_replaced_by_an_empty_log_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE_NAME), [0x5a; 50_000]).unwrap();
    let repaired = history::repair(dir.path(), keep(), NOW_MS, read_back).unwrap();
    assert_eq!(repaired.saved, 0);
    assert_eq!(fs::read(&repaired.kept).unwrap(), [0x5a; 50_000]);
    Log::open(dir.path(), keep()).unwrap();
}

#[test]
fn what_is_exported_can_be_imported_once() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(from.path(), 1500);
    let mut lines = Vec::new();
    assert_eq!(
        history::export(from.path(), Query::default(), &mut lines).unwrap(),
        1500
    );
    let import = || {
        history::import(
            Log::open(to.path(), keep()).unwrap(),
            NOW_MS,
            &mut &lines[..],
            read_back,
        )
        .unwrap()
    };
    assert_eq!(import().stored, 1500);
    assert_eq!(import().held, 1500);
}

#[test]
fn an_import_names_the_line_that_it_cannot_take() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 3);
    let mut lines = Vec::new();
    history::export(dir.path(), Query::default(), &mut lines).unwrap();
    lines.extend_from_slice(b"{\"room\": 1}\n");
    let to = tempfile::tempdir().unwrap();
    let error = history::import(
        Log::open(to.path(), keep()).unwrap(),
        NOW_MS,
        &mut &lines[..],
        read_back,
    )
    .unwrap_err();
    assert!(matches!(error, LogError::Import { line: 4, .. }), "{error}");
    assert_eq!(
        Log::open(to.path(), keep())
            .unwrap()
            .reader()
            .rooms()
            .unwrap()[0]
            .batches,
        3
    );
    // What does not verify does not get in either.
    let refuse = |_: &[u8]| Err::<Batch, _>("forged".to_owned());
    assert!(
        history::import(
            Log::open(to.path(), keep()).unwrap(),
            NOW_MS,
            &mut &lines[..],
            refuse
        )
        .is_err()
    );
}
