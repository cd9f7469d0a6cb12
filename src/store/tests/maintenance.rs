//! Damage is detected, the readable batches are saved, and the damaged file is kept.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use unsigned_varint::encode;

use super::*;
use crate::store::{self, FILE_NAME, Log, LogError, Query};

fn filled(dir: &std::path::Path, count: u64) -> Vec<Batch> {
    let batches: Vec<Batch> = (1..=count)
        .map(|n| batch_of("a", 1, n, 1, NOW_MS + n, 300))
        .collect();
    Log::open(dir, policy())
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
    let report = store::check(dir.path()).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.whole, report.rooms[0].batches), (1000, 1000));
}

#[test]
fn a_damaged_log_is_repaired_and_the_old_file_kept() {
    let dir = tempfile::tempdir().unwrap();
    let batches = filled(dir.path(), 1000);
    damage(dir.path());
    assert!(!store::check(dir.path()).unwrap().is_sound());
    let damaged = fs::read(dir.path().join(FILE_NAME)).unwrap();

    let repaired = store::repair(dir.path(), policy(), NOW_MS, read_back).unwrap();
    assert!(repaired.saved > 500, "{repaired:?}");
    assert_eq!(fs::read(&repaired.kept).unwrap(), damaged);
    let report = store::check(dir.path()).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.whole, repaired.saved);
    let mut log = Log::open(dir.path(), policy()).unwrap();
    log.append(NOW_MS, &batches).unwrap();
    assert_eq!(
        log.reader().rooms().unwrap()[0].batches,
        1000,
        "neighbours bring the rest"
    );
}

/// Returns the pages of the log's file in `dir` whose name and kind `which` accepts, from the schema's page on.
fn pages(dir: &std::path::Path, which: impl Fn(&str, &str) -> bool) -> Vec<usize> {
    let conn = rusqlite::Connection::open(dir.join(FILE_NAME)).unwrap();
    let mut query = conn
        .prepare("SELECT pageno, name, pagetype FROM dbstat")
        .unwrap();
    let pages = query.query_map([], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, String>(1)?,
            row.get::<_, String>(2)?,
        ))
    });
    let pages = pages.unwrap().map(Result::unwrap);
    let pages = pages.filter(|(_, name, kind)| which(name, kind));
    pages.map(|(number, ..)| number as usize).collect()
}

/// Returns a copy of the log in `dir` with these pages overwritten.
fn with_damaged(dir: &std::path::Path, pages: &[usize]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let path = copy.path().join(FILE_NAME);
    let mut bytes = fs::read(&path).unwrap();
    for page in pages {
        bytes[(page - 1) * 32768..page * 32768].fill(0x5a);
    }
    fs::write(&path, bytes).unwrap();
    copy
}

#[test]
fn one_damaged_page_takes_what_is_in_it_which_is_counted_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 1000);
    let rows = pages(dir.path(), |name, kind| name == "batch" && kind == "leaf");
    let all = fs::metadata(dir.path().join(FILE_NAME)).unwrap().len() as usize / 32768;
    assert!(rows.len() > 5 && all > rows.len() + 10, "{rows:?} of {all}");
    for page in 1..=all {
        let copy = with_damaged(dir.path(), &[page]);
        let repaired = store::repair(copy.path(), policy(), NOW_MS, read_back).unwrap();
        assert_eq!(
            repaired.saved + repaired.lost,
            1000,
            "page {page}: {repaired:?}"
        );
        assert_eq!(
            rows.contains(&page),
            repaired.lost > 0,
            "page {page}: {repaired:?}"
        );
        assert_eq!(repaired.refused, 0, "page {page}");
        assert_eq!(
            repaired.is_whole(),
            repaired.lost == 0,
            "page {page}: {repaired:?}"
        );
        assert!(store::check(copy.path()).unwrap().is_sound(), "page {page}");
    }
}

#[test]
fn where_more_may_be_lost_than_can_be_counted_the_repair_says_so() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 1000);
    let damaged = pages(dir.path(), |name, kind| {
        kind == "leaf" && name.starts_with("batch")
    });
    let copy = with_damaged(dir.path(), &damaged);
    let repaired = store::repair(copy.path(), policy(), NOW_MS, read_back).unwrap();
    assert!(
        !repaired.is_lost_known && !repaired.is_whole(),
        "{repaired:?}"
    );
}

#[test]
fn what_is_in_the_wal_and_the_journal_alone_is_saved_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    let batches: Vec<Batch> = (1..=500)
        .map(|n| batch_of("a", 1, n, 1, NOW_MS + n, 300))
        .collect();
    log.append(NOW_MS, &batches).unwrap();
    let last: Vec<Record> = (501..=510).map(|n| batch(1, n).0).collect();
    log.append_buffered(NOW_MS, &last.iter().collect::<Vec<_>>())
        .unwrap();
    // This is the state that a killed process leaves.
    let copy = with_damaged(dir.path(), &[1]);
    let repaired = store::repair(copy.path(), policy(), NOW_MS, read_back).unwrap();
    assert_eq!((repaired.saved, repaired.lost), (510, 0), "{repaired:?}");

    // Without a valid first page SQLite reads nothing, not even the WAL.
    let copy = with_damaged(dir.path(), &[1]);
    let wal = copy.path().join(format!("{FILE_NAME}-wal"));
    let mut bytes = fs::read(&wal).unwrap();
    let mut firsts = 0;
    for frame in bytes[32..].chunks_exact_mut(24 + 32768) {
        if frame[..4] == [0, 0, 0, 1] {
            frame[24..].fill(0x5a);
            firsts += 1;
        }
    }
    fs::write(&wal, bytes).unwrap();
    assert!(firsts > 0, "the first page is in the WAL");
    let repaired = store::repair(copy.path(), policy(), NOW_MS, read_back).unwrap();
    assert_eq!((repaired.saved, repaired.lost), (510, 0), "{repaired:?}");
}

/// Returns the batch in the form of an envelope: a body, and a signature of 64 bytes.
fn in_envelope(batch: &Batch) -> Batch {
    let mut body = &batch.0.bytes[..];
    let mut bytes = vec![0x0a];
    bytes.extend(encode::usize(body.len(), &mut encode::usize_buffer()));
    std::io::Read::read_to_end(&mut body, &mut bytes).unwrap();
    bytes.extend([0x12, 0x40]);
    bytes.extend([7; 64]);
    read_envelope(&bytes).unwrap()
}

fn read_envelope(bytes: &[u8]) -> Result<Batch, String> {
    let begin = bytes
        .iter()
        .position(|byte| *byte == b'[')
        .ok_or("no body")?;
    let end = bytes.len().checked_sub(66).ok_or("too short")?;
    let Batch(record) = read_back(bytes.get(begin..end).ok_or("too short")?)?;
    Ok(Batch(Record {
        id: crate::wire::envelope::id_in_room("a", bytes),
        bytes: bytes::Bytes::copy_from_slice(bytes),
        ..record
    }))
}

#[test]
fn large_messages_whose_rows_are_lost_are_found_in_their_files_and_removed_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let of = |n: u64| in_envelope(&batch_of("a", 1, n, 1, NOW_MS + n, 100_000 + n as usize));
    let batches: Vec<Batch> = (1..=6).map(of).collect();
    Log::open(dir.path(), policy())
        .unwrap()
        .append(NOW_MS, &batches)
        .unwrap();
    let conn = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
    conn.execute("DELETE FROM batch WHERE first_seq = 2", [])
        .unwrap();
    drop(conn);
    let rows = pages(dir.path(), |name, kind| name == "batch" && kind == "leaf");
    let copy = with_damaged(dir.path(), &rows);
    let repaired = store::repair(copy.path(), policy(), NOW_MS, read_envelope).unwrap();
    assert_eq!((repaired.saved, repaired.lost), (5, 0), "{repaired:?}");
    let log = Log::open(copy.path(), policy()).unwrap();
    assert!(!log.reader().holds(&batches[1].0.id).unwrap());
}

#[test]
fn a_file_beyond_reading_is_replaced_by_an_empty_log_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE_NAME), [0x5a; 50_000]).unwrap();
    let repaired = store::repair(dir.path(), policy(), NOW_MS, read_back).unwrap();
    assert_eq!(repaired.saved, 0);
    assert_eq!(fs::read(&repaired.kept).unwrap(), [0x5a; 50_000]);
    Log::open(dir.path(), policy()).unwrap();
}

#[test]
fn what_is_exported_can_be_imported_once() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(from.path(), 1500);
    let mut lines = Vec::new();
    assert_eq!(
        store::export(from.path(), Query::default(), &mut lines).unwrap(),
        1500
    );
    let import = || {
        store::import(
            Log::open(to.path(), policy()).unwrap(),
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
    store::export(dir.path(), Query::default(), &mut lines).unwrap();
    lines.extend_from_slice(b"{\"room\": 1}\n");
    let to = tempfile::tempdir().unwrap();
    let error = store::import(
        Log::open(to.path(), policy()).unwrap(),
        NOW_MS,
        &mut &lines[..],
        read_back,
    )
    .unwrap_err();
    assert!(matches!(error, LogError::Import { line: 4, .. }), "{error}");
    assert_eq!(
        Log::open(to.path(), policy())
            .unwrap()
            .reader()
            .rooms()
            .unwrap()[0]
            .batches,
        3
    );
    // A batch that does not verify is not imported either.
    let refuse = |_: &[u8]| Err::<Batch, _>("forged".to_owned());
    assert!(
        store::import(
            Log::open(to.path(), policy()).unwrap(),
            NOW_MS,
            &mut &lines[..],
            refuse
        )
        .is_err()
    );
}
