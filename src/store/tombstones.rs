//! Tombstones: ids of batches that retention evicted, so that anti-entropy does not fetch them again.
//!
//! Entry points: [`add`], [`exists`]. The rules it keeps: anti-entropy counts a tombstone as held, so that neighbours
//! with logs of different sizes agree; their number is bounded by dropping the oldest, which raises the room's low
//! watermark, but never into the last minutes.

use rusqlite::{Connection, params};

use crate::model::{Id, MAX_ITEMS};

/// Maximum number of tombstones: a quarter of the items compared of a room.
const MAX_TOMBSTONES: u64 = MAX_ITEMS as u64 / 4;

/// Bytes of the log charged for a tombstone: its row and its index entry.
const TOMBSTONE_BYTES: u64 = 128;

/// Divisor of the log's size that gives the maximum size of its tombstones.
const TOMBSTONES_DIVISOR: u64 = 16;

/// Maximum number of tombstones of the smallest log.
const MIN_TOMBSTONES: u64 = 256;

/// Returns the maximum number of tombstones in a log of `log_bytes`.
pub(super) fn max_count(log_bytes: u64) -> u64 {
    (log_bytes / TOMBSTONES_DIVISOR / TOMBSTONE_BYTES).clamp(MIN_TOMBSTONES, MAX_TOMBSTONES)
}

/// Returns whether the batch has a tombstone.
pub(super) fn exists(conn: &Connection, id: &Id) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM removed WHERE id = ?1")?
        .exists([id])
}

/// Adds the tombstone of a batch.
pub(super) fn add(conn: &Connection, room: i64, sent_at_ms: u64, id: &Id) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO removed (id, room, sent_at_ms) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING",
    )?
    .execute(params![id, room, sent_at_ms as i64])
    .map(drop)
}

/// Counts the tombstones of each room, by its row number.
pub(super) fn count(conn: &Connection) -> rusqlite::Result<Vec<(i64, u64)>> {
    conn.prepare("SELECT room, count(*) FROM removed GROUP BY room")?
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?
        .collect()
}

/// Drops the tombstones of a room for batches sent before `before_ms`. Returns their number.
pub(super) fn drop_before(conn: &Connection, room: i64, before_ms: u64) -> rusqlite::Result<u64> {
    let before_ms = i64::try_from(before_ms).unwrap_or(i64::MAX);
    let gone = conn
        .prepare_cached("DELETE FROM removed WHERE room = ?1 AND sent_at_ms < ?2")?
        .execute(params![room, before_ms])?;
    Ok(gone as u64)
}
