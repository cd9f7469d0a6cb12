//! Batches that made room: what is remembered of them, so that they are not fetched again.
//!
//! Entry types: [`Removed`], how many there are, and [`remember`]. The rules they keep: when rooms are compared a batch
//! that made room counts as held, so that neighbours whose logs are of different sizes agree; what is remembered is
//! bounded, by the oldest of it, and a room's horizon then rises, but never to what was sent in the last minutes.

use rusqlite::{Connection, OptionalExtension, params};

use super::insert::Names;
use crate::model::{Id, MAX_ITEMS, low_watermark_at};

/// The most that are remembered: a quarter of what is compared of a room.
const MAX_REMOVED: u64 = MAX_ITEMS as u64 / 4;

/// What one of them counts for, in bytes of the log: itself, and its place in the order of sending.
const REMOVED_BYTES: u64 = 128;

/// They take at most this part of the log.
const REMOVED_SHARE: u64 = 16;

/// As many are remembered in the smallest log.
const MIN_REMOVED: u64 = 256;

/// How many are forgotten at once when there are too many.
const FORGOTTEN_AT_ONCE: u64 = 64;

/// How many batches of `log_bytes` that made room are remembered.
pub(super) fn most(log_bytes: u64) -> u64 {
    (log_bytes / REMOVED_SHARE / REMOVED_BYTES).clamp(MIN_REMOVED, MAX_REMOVED)
}

/// Whether the batch was held and made room.
pub(super) fn is_removed(conn: &Connection, id: &Id) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM removed WHERE id = ?1")?
        .exists([id])
}

/// Remembers that a batch made room.
pub(super) fn remember(
    conn: &Connection,
    room: i64,
    sent_at_ms: u64,
    id: &Id,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO removed (id, room, sent_at_ms) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING",
    )?
    .execute(params![id, room, sent_at_ms as i64])
    .map(drop)
}

/// How many are remembered of each room, by its number in the file.
pub(super) fn count(conn: &Connection) -> rusqlite::Result<Vec<(i64, u64)>> {
    conn.prepare("SELECT room, count(*) FROM removed GROUP BY room")?
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?
        .collect()
}

/// Forgets those of a room that were sent before `before_ms`; how many.
pub(super) fn forget_before(conn: &Connection, room: i64, before_ms: u64) -> rusqlite::Result<u64> {
    let before_ms = i64::try_from(before_ms).unwrap_or(i64::MAX);
    let gone = conn
        .prepare_cached("DELETE FROM removed WHERE room = ?1 AND sent_at_ms < ?2")?
        .execute(params![room, before_ms])?;
    Ok(gone as u64)
}

/// Forgets the oldest of the room with the most, while more are remembered than a log of this size does. What was
/// sent before them is neither taken nor compared any more; what of it is held stays. Returns the room's number.
pub(super) fn keep_bound(
    conn: &Connection,
    names: &mut Names,
    log_bytes: u64,
    now_ms: u64,
) -> rusqlite::Result<Option<i64>> {
    let all: u64 = names.rooms.values().map(|room| room.removed).sum();
    let Some(surplus) = all.checked_sub(most(log_bytes)).filter(|more| *more > 0) else {
        return Ok(None);
    };
    let most = names.rooms.iter_mut().max_by_key(|(_, room)| room.removed);
    let Some((name, room)) = most else {
        return Ok(None);
    };
    let count = surplus.max(FORGOTTEN_AT_ONCE).min(room.removed);
    let last_ms: Option<i64> = conn
        .prepare_cached(
            "SELECT sent_at_ms FROM removed WHERE room = ?1 ORDER BY sent_at_ms LIMIT 1 OFFSET ?2",
        )?
        .query_row(params![room.n, count.saturating_sub(1) as i64], |row| {
            row.get(0)
        })
        .optional()?;
    let Some(before_ms) = last_ms.map(|ms| ms as u64 + 1) else {
        return Ok(None);
    };
    let (n, name) = (room.n, name.clone());
    room.removed -= forget_before(conn, n, before_ms)?.min(room.removed);
    names.set_low_watermark(conn, &name, low_watermark_at(before_ms, now_ms))?;
    Ok(Some(n))
}
