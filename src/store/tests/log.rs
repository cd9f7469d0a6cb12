//! Content of the log, and files that are damaged, foreign or inaccessible.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::store::{Cursor, FILE_NAME, Log, LogError, Query};

#[test]
fn a_batch_is_there_once_and_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let one = batch(1, 1);
    {
        let mut log = Log::open(dir.path(), policy()).unwrap();
        let twice = [one.clone(), one.clone()];
        assert_eq!(log.append(NOW_MS, &twice).unwrap(), [NEW, Outcome::Held]);
    }
    let mut log = Log::open(dir.path(), policy()).unwrap();
    assert_eq!(
        log.append(NOW_MS, std::slice::from_ref(&one)).unwrap(),
        [Outcome::Held]
    );
    let page = log.reader().page(&Query::default(), Cursor::Start).unwrap();
    assert_eq!(page.batches.len(), 1);
    assert_eq!(page.batches[0].record, one.0);
    assert_eq!(page.batches[0].stored_at_ms, NOW_MS);
}

#[test]
fn the_log_says_whether_the_batch_before_is_there() {
    let mut log = Log::ephemeral(policy()).unwrap();
    let outcomes = log.append(
        NOW_MS,
        &[batch(1, 2), batch(1, 1), batch(1, 3), batch(1, 5)],
    );
    let gap = Outcome::New { follows: false };
    assert_eq!(outcomes.unwrap(), [gap, NEW, NEW, gap]);
}

#[test]
fn numbers_given_twice_count_the_first_time_and_both_are_kept() {
    let mut log = Log::ephemeral(policy()).unwrap();
    let first = batch_in("a", 1, 1, 10, NOW_MS);
    let second = batch_in("a", 1, 10, 5, NOW_MS);
    let conflict = Outcome::Conflict { with: first.0.id };
    let outcomes = log
        .append(NOW_MS, &[first.clone(), second.clone(), second.clone()])
        .unwrap();
    assert_eq!(outcomes, [NEW, conflict, Outcome::Held]);
    // The same numbers in another room or of another instance are no conflict.
    assert_eq!(
        log.append(NOW_MS, &[batch_in("b", 1, 1, 3, NOW_MS), batch(2, 1)])
            .unwrap(),
        [NEW; 2]
    );

    let in_a = Query {
        room: Some("a".parse().unwrap()),
        author: Some(first.0.author.to_vec()),
        ..Query::default()
    };
    let page = log.reader().page(&in_a, Cursor::Start).unwrap();
    assert_eq!(
        page.batches.iter().map(|s| s.record.id).collect::<Vec<_>>(),
        [first.0.id]
    );
    let (_, items) = log.reader().items("a", 100).unwrap();
    assert!(
        items.contains(&item_of(&second)),
        "neighbours can be told of it"
    );
}

#[test]
fn numbers_beyond_the_columns_are_refused() {
    let mut log = Log::ephemeral(policy()).unwrap();
    let wild = [
        batch_in("a", 1, u64::MAX, 1, NOW_MS),
        batch_in("a", 1, 1, u64::MAX, NOW_MS),
        batch_in("a", 1, 0, 1, NOW_MS),
        batch_in("a", 1, 1, 0, NOW_MS),
        batch_in("a", 1, 1, 1, u64::MAX),
    ];
    assert_eq!(log.append(NOW_MS, &wild).unwrap(), [Outcome::OutOfRange; 5]);
}

#[test]
fn what_is_too_old_goes_and_does_not_come_back() {
    let mut log = Log::ephemeral(RetentionPolicy {
        age: Duration::from_secs(10),
        ..policy()
    })
    .unwrap();
    let old: Vec<Batch> = (1..=600).map(|n| batch_in("a", 1, n, 1, NOW_MS)).collect();
    let young = batch_in("a", 1, 601, 1, NOW_MS + 9_000);
    log.append(NOW_MS, &old).unwrap();
    log.append(NOW_MS, &[young]).unwrap();
    let later = NOW_MS + 11_000;
    let mut gone = 0;
    while let [pruned] = &log.prune(later).unwrap()[..] {
        assert!(pruned.low_watermark_ms >= NOW_MS && pruned.low_watermark_ms <= later - 10_000);
        gone += pruned.batches;
    }
    assert_eq!(gone, 600);
    assert_eq!(log.append(later, &old[..1]).unwrap(), [Outcome::TooOld]);
    assert_eq!(log.reader().rooms().unwrap()[0].batches, 1);
}

#[test]
fn the_bound_in_bytes_holds_and_the_oldest_go_first() {
    let bytes = 4 << 20;
    let mut log = Log::ephemeral(RetentionPolicy { bytes, ..policy() }).unwrap();
    for n in 1..=2000 {
        let room = if n % 3 == 0 { "b" } else { "a" };
        log.append(
            NOW_MS,
            &[batch_of(room, (n % 3) as u8, n, 1, NOW_MS + n, 8192)],
        )
        .unwrap();
        while !log.prune(NOW_MS).unwrap().is_empty() {}
        assert!(log.used_bytes().unwrap() <= bytes);
    }
    let mut oldest = u64::MAX;
    let mut left = 0;
    for room in log.reader().rooms().unwrap() {
        left += room.batches;
        let (first, _) = room.span_ms.unwrap();
        assert!(room.low_watermark_ms <= first);
        oldest = oldest.min(first);
    }
    assert!(left > 100, "no more goes than must: {left} are left");
    assert!(oldest > NOW_MS + 1000, "the young stay");
}

#[test]
fn of_large_batches_no_more_goes_at_once_than_must() {
    let bytes = 32 << 20;
    let mut log = Log::ephemeral(RetentionPolicy { bytes, ..policy() }).unwrap();
    for n in 1..=40 {
        let large = batch_of("a", 1, n, 1, NOW_MS + n, 1 << 20);
        log.append(NOW_MS, &[large]).unwrap();
        while !log.prune(NOW_MS).unwrap().is_empty() {}
        assert!(log.used_bytes().unwrap() <= bytes);
        if n > 30 {
            assert!(log.reader().rooms().unwrap()[0].batches >= 24);
        }
    }
}

#[test]
fn a_second_process_is_told_who_has_the_log_and_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    log.append(NOW_MS, &[batch(1, 1)]).unwrap();
    let error = Log::open(dir.path(), policy()).unwrap_err();
    assert!(
        matches!(error, LogError::InUse { by: Some(pid), .. } if pid == std::process::id()),
        "{error}"
    );
    let mut out = Vec::new();
    assert_eq!(
        crate::store::export(dir.path(), Query::default(), &mut out).unwrap(),
        1
    );
}

#[test]
fn files_of_others_and_of_later_versions_are_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let of_later = |conn: &rusqlite::Connection| {
        conn.execute_batch(
            "PRAGMA application_id = 0x64696174; PRAGMA user_version = 99; CREATE TABLE x (y)",
        )
        .unwrap();
    };
    let of_others = |conn: &rusqlite::Connection| conn.execute_batch("CREATE TABLE x (y)").unwrap();
    for later in [true, false] {
        let _ = fs::remove_file(&path);
        let conn = rusqlite::Connection::open(&path).unwrap();
        if later {
            of_later(&conn)
        } else {
            of_others(&conn)
        }
        drop(conn);
        let before = fs::read(&path).unwrap();
        let error = Log::open(dir.path(), policy()).unwrap_err();
        let expected = match error {
            LogError::Newer { found, known, .. } => later && (found, known) == (99, 3),
            LogError::Foreign { .. } => !later,
            _ => false,
        };
        assert!(expected, "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    fs::write(
        &path,
        b"no database at all, but somebody's text".repeat(100),
    )
    .unwrap();
    let before = fs::read(&path).unwrap();
    let error = Log::open(dir.path(), policy()).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(Log::open(dir.path(), policy()).unwrap());
    let set_mode =
        |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o500);
    // Root may write everywhere: for it another directory is used.
    let forbidden = fs::write(dir.path().join("x"), b"").is_err();
    let place = if forbidden {
        dir.path()
    } else {
        std::path::Path::new("/sys/kernel")
    };
    let error = Log::open(place, policy()).unwrap_err();
    set_mode(0o700);
    assert!(matches!(error, LogError::ReadOnly { .. }), "{error}");
}

#[test]
fn an_absent_log_is_not_made_by_reading_it() {
    let dir = tempfile::tempdir().unwrap();
    let error = crate::store::export(dir.path(), Query::default(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, LogError::Absent { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_empty_file_left_by_a_crash_becomes_a_log() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE_NAME), b"").unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    assert_eq!(log.append(NOW_MS, &[batch(1, 1)]).unwrap(), [NEW]);
}

#[test]
fn the_file_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    log.append(
        NOW_MS,
        &[batch(1, 1), batch_of("a", 2, 1, 1, NOW_MS, 1 << 20)],
    )
    .unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} is open to others", entry.file_name());
    }
}

#[test]
fn a_full_disk_is_named_and_later_batches_are_stored_when_there_is_room_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    log.append(NOW_MS, &[batch(1, 1)]).unwrap();
    log.limit_pages(Some(40)).unwrap();
    let large = batch_of("b", 2, 1, 1, NOW_MS, 1 << 20);
    let error = log
        .append(NOW_MS, &[batch(1, 2), large.clone()])
        .unwrap_err();
    assert!(matches!(error, LogError::Full { .. }), "{error}");
    assert_eq!(
        log.append(NOW_MS, &[batch(1, 2)]).unwrap(),
        [NEW],
        "none of the two was stored"
    );
    log.limit_pages(None).unwrap();
    assert_eq!(log.append(NOW_MS, &[large]).unwrap(), [NEW]);
}

#[test]
fn a_person_can_read_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    log.append(NOW_MS, &[batch(7, 1)]).unwrap();
    let conn = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
    let row: (String, String, String) = conn
        .query_row("SELECT room, author, sent_at FROM readable", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(row.0, "a");
    assert!(
        row.1.starts_with("12D3KooW") && row.1.len() == 52,
        "{}",
        row.1
    );
    assert_eq!(row.2, "2026-01-01 00:00:00.001");
}
