//! A full log evicts batches of the authors that hold the most, and nobody can push out another's history.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::store::{Cursor, Log, Pruned, Query};

/// A log of this size holds a few hundred batches of the tests.
const LOG_BYTES: u64 = 4 << 20;

/// Minimum age of a room's low watermark.
const MINUTES_MS: u64 = 600_000;

const A_DAY_MS: u64 = 24 * 3600 * 1000;

fn small() -> RetentionPolicy {
    RetentionPolicy {
        bytes: LOG_BYTES,
        ..policy()
    }
}

fn prune(log: &mut Log, now_ms: u64) -> Vec<Pruned> {
    let mut all = Vec::new();
    loop {
        let pruned = log.prune(now_ms).unwrap();
        if pruned.is_empty() {
            return all;
        }
        all.extend(pruned);
    }
}

fn append(log: &mut Log, now_ms: u64, batches: &[Batch]) -> Vec<Pruned> {
    let stored = log.append(now_ms, batches).unwrap();
    assert!(stored.iter().all(Outcome::is_held), "{stored:?}");
    prune(log, now_ms)
}

/// Returns the number of batches of an author in the log.
fn held_of(log: &Log, author: u8) -> usize {
    let query = Query {
        author: Some(batch(author, 1).0.author.to_vec()),
        conflicts: true,
        ..Query::default()
    };
    let (mut count, mut cursor) = (0, Cursor::Start);
    loop {
        let page = log.reader().page(&query, cursor).unwrap();
        count += page.batches.len();
        match page.next {
            Some(next) => cursor = next,
            None => return count,
        }
    }
}

#[test]
fn a_flood_dated_ahead_leaves_the_others_their_history_and_their_future() {
    let mut log = Log::ephemeral(small()).unwrap();
    for n in 1..=100 {
        append(&mut log, NOW_MS, &[batch_in("a", 1, n, 1, NOW_MS + n)]);
    }
    let ahead_ms = NOW_MS + 290_000;
    let mut told = Vec::new();
    for n in 1..=600 {
        let flood = brought_by(1, batch_of("a", 2, n, 1, ahead_ms, 32 << 10));
        told.extend(append(&mut log, NOW_MS, &[flood]));
    }
    assert_eq!(held_of(&log, 1), 100);
    assert!(log.used_bytes().unwrap() <= LOG_BYTES);
    assert!(held_of(&log, 2) > 20, "what fits of it is held as well");
    assert!(log.low_watermark_ms("a") <= NOW_MS - MINUTES_MS);
    assert!(
        told.iter()
            .all(|pruned| pruned.low_watermark_ms <= NOW_MS - MINUTES_MS)
    );
    // A batch sent now is stored in any case.
    assert_eq!(
        log.append(NOW_MS, &[batch_in("a", 1, 101, 1, NOW_MS)])
            .unwrap(),
        [NEW]
    );
    let crowding = told.iter().filter_map(|pruned| pruned.crowding.as_ref());
    let crowding = crowding.last().expect("it is said who");
    assert_eq!(crowding.author, batch(2, 1).0.author);
    assert_eq!(crowding.link.as_deref(), Some(&[1; 38][..]));
    assert!(!crowding.is_by_link && crowding.bytes > crowding.share);
    assert_eq!(crowding.share, LOG_BYTES / 16);
}

#[test]
fn a_log_that_filled_up_over_weeks_accuses_nobody() {
    let mut log = Log::ephemeral(small()).unwrap();
    let mut told = Vec::new();
    for n in 1..=400 {
        let now_ms = NOW_MS + n * 3_600_000;
        told.extend(append(
            &mut log,
            now_ms,
            &[batch_of("a", 1, n, 1, now_ms, 32 << 10)],
        ));
    }
    assert!(!told.is_empty());
    assert!(told.iter().all(|pruned| pruned.crowding.is_none()));
}

#[test]
fn a_thousand_keys_of_one_link_leave_those_who_were_here_before_their_history() {
    let mut log = Log::ephemeral(small()).unwrap();
    for n in 1..=40 {
        for author in 1..=5 {
            append(&mut log, NOW_MS, &[batch_in("a", author, n, 1, NOW_MS + n)]);
        }
    }
    let now_ms = NOW_MS + A_DAY_MS + 1_000;
    let mut told = Vec::new();
    for n in 0..1000u64 {
        let mut flood = brought_by(1, batch_of("a", 100, n + 1, 1, now_ms, 16 << 10));
        let key = [&n.to_be_bytes()[..], &[9; 28]].concat();
        flood.0.author = key.into();
        told.extend(append(&mut log, now_ms, &[flood]));
    }
    for author in 1..=5 {
        assert_eq!(held_of(&log, author), 40);
    }
    let crowding = told.iter().filter_map(|pruned| pruned.crowding.as_ref());
    let crowding = crowding.last().expect("it is said who");
    assert!(crowding.is_by_link && crowding.link.as_deref() == Some(&[1; 38][..]));
    // Authors without batches leave no rows behind.
    let authors: i64 = log
        .tables
        .conn
        .query_row("SELECT count(*) FROM author", [], |row| row.get(0))
        .unwrap();
    assert!(authors < 300, "{authors}");
}

#[test]
fn what_made_room_does_not_come_back_and_is_said_to_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path(), small()).unwrap();
    let flood: Vec<Batch> = (1..=200)
        .map(|n| batch_of("a", 2, n, 1, NOW_MS + n, 32 << 10))
        .collect();
    append(&mut log, NOW_MS, &flood);
    for _ in 0..2 {
        let held = held_of(&log, 2);
        assert!(held < 200);
        let gone = flood.len() - held;
        assert_eq!(log.append(NOW_MS, &flood[..1]).unwrap(), [Outcome::Held]);
        let found = log.reader().fetch("a", &[flood[0].0.id], 1 << 20).unwrap();
        assert_eq!(found.removed, [item_of(&flood[0])]);
        assert!(found.missing.is_empty() && found.envelopes.is_empty());
        assert_eq!(log.reader().removed_in("a").unwrap(), gone as u64);
        let (_, items) = log.reader().items("a", 1 << 20).unwrap();
        assert_eq!(items, flood.iter().map(item_of).collect::<Vec<_>>());
        // The state is the same after a restart.
        drop(log);
        log = Log::open(dir.path(), small()).unwrap();
        prune(&mut log, NOW_MS);
    }
    // Tombstones over the maximum age are dropped.
    let later = NOW_MS + RetentionPolicy::default().age.as_millis() as u64 + 1_000;
    prune(&mut log, later);
    assert_eq!(log.reader().removed_in("a").unwrap(), 0);
    assert_eq!(log.append(later, &flood[..1]).unwrap(), [Outcome::TooOld]);
}

#[test]
fn what_is_remembered_of_what_made_room_is_bounded_and_the_rest_does_not_come_back() {
    let mut log = Log::ephemeral(small()).unwrap();
    // The batches span three hours.
    let sent_at_ms = |n: u64| NOW_MS + n * 1_000;
    let honest = batch_in("a", 1, 1, 1, NOW_MS + 5);
    let now_ms = sent_at_ms(10_800);
    append(&mut log, now_ms, std::slice::from_ref(&honest));
    for n in 1..=10_000 {
        log.append(now_ms, &[batch_of("a", 2, n, 1, sent_at_ms(n), 2048)])
            .unwrap();
        if n % 50 == 0 {
            prune(&mut log, now_ms);
        }
    }
    let removed = log.reader().removed_in("a").unwrap();
    assert!((1_000..=2_048).contains(&removed), "{removed}");
    let low_watermark_ms = log.low_watermark_ms("a");
    assert!(
        low_watermark_ms > NOW_MS && low_watermark_ms <= now_ms - MINUTES_MS,
        "{low_watermark_ms}"
    );
    // Held batches below the low watermark stay.
    assert_eq!(held_of(&log, 1), 1);
    let forgotten = batch_of("a", 2, 1, 1, sent_at_ms(1), 2048);
    assert_eq!(log.append(now_ms, &[forgotten]).unwrap(), [Outcome::TooOld]);
    let remembered = batch_of("a", 2, 9_000, 1, sent_at_ms(9_000), 2048);
    assert_eq!(log.append(now_ms, &[remembered]).unwrap(), [Outcome::Held]);
}

#[test]
fn a_clock_that_was_wrong_does_not_keep_the_log_from_taking_what_is_said() {
    let mut log = Log::ephemeral(RetentionPolicy {
        age: Duration::from_secs(3600),
        ..policy()
    })
    .unwrap();
    let later = NOW_MS + 400 * A_DAY_MS;
    log.append(NOW_MS, &[batch_in("a", 1, 1, 1, NOW_MS)])
        .unwrap();
    prune(&mut log, later);
    assert!(log.low_watermark_ms("a") > NOW_MS + 399 * A_DAY_MS);
    assert_eq!(
        log.append(NOW_MS, &[batch_in("a", 1, 2, 1, NOW_MS)])
            .unwrap()
            .len(),
        1
    );
    assert!(
        log.append(NOW_MS, &[batch_in("a", 1, 3, 1, NOW_MS)])
            .unwrap()[0]
            .is_held()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// One author or one link, with any order and dates, never pushes out batches of others within their share.
    #[test]
    fn nobody_within_its_share_loses_anything(
        flood in prop::collection::vec((1usize..60_000, 0u64..580_000, any::<bool>(), 0u8..4), 100..250),
        others in prop::collection::vec((1u8..6, 100usize..4_000), 50..100),
    ) {
        let mut log = Log::ephemeral(small()).unwrap();
        let mut seqs = [0u64; 256];
        let mut sizes = [0usize; 256];
        let mut kept = [0usize; 256];
        let mut next = |author: u8| {
            seqs[usize::from(author)] += 1;
            seqs[usize::from(author)]
        };
        let mut honest = others.into_iter();
        for (size, ahead_ms, is_conflict, link) in flood {
            if let Some((author, size)) = honest.next() {
                let share = LOG_BYTES as usize / 16 - 8_000;
                if sizes[usize::from(author)] + size + 512 <= share {
                    sizes[usize::from(author)] += size + 512;
                    kept[usize::from(author)] += 1;
                    let batch = batch_of("a", author, next(author), 1, NOW_MS, size);
                    append(&mut log, NOW_MS, &[batch]);
                }
            }
            let seq = if is_conflict { 1 } else { next(9) };
            let batch = batch_of("a", 9, seq, 1, NOW_MS - 290_000 + ahead_ms, size + 64);
            append(&mut log, NOW_MS, &[brought_by(link, batch)]);
        }
        for author in 1..6u8 {
            prop_assert_eq!(held_of(&log, author), kept[usize::from(author)]);
        }
        prop_assert!(log.used_bytes().unwrap() <= LOG_BYTES);
    }

    /// The counted bytes match the stored batches after inserts and removals.
    #[test]
    fn what_is_counted_is_what_is_held(
        sent in prop::collection::vec((1u8..8, 1usize..40_000, 0u8..3), 100..300),
    ) {
        let mut log = Log::ephemeral(small()).unwrap();
        let mut seqs = [0u64; 8];
        for (author, size, link) in sent {
            seqs[usize::from(author)] += 1;
            let seq = seqs[usize::from(author)];
            append(&mut log, NOW_MS, &[brought_by(link, batch_of("a", author, seq, 1, NOW_MS, size))]);
            let Some(usage) = &log.tables.usage else { continue };
            let mut query = log.tables.conn.prepare("SELECT author, sum(bytes) FROM batch GROUP BY author").unwrap();
            let mut rows = query.query([]).unwrap();
            let mut total = 0;
            while let Some(row) = rows.next().unwrap() {
                let (author, bytes): (i64, i64) = (row.get(0).unwrap(), row.get(1).unwrap());
                prop_assert_eq!(usage.of(author), bytes as u64);
                total += bytes as u64;
            }
            prop_assert_eq!(usage.total(), total);
        }
    }
}
