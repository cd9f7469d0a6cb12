//! One transaction of removals: which batches go, and what is counted of them.
//!
//! Entry type: [`Removal`]. The rule it keeps: one transaction removes a bounded number of batches and bytes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::report::Crowding;
use crate::model::{Id, RoomName};
use crate::store::quota::{EvictionReason, Owner, Usage, Victim};
use crate::store::tables::Tables;
use crate::store::tombstones;

/// Maximum number of batches removed in one transaction: it takes about ten milliseconds, so that no append waits
/// long.
pub(in crate::store) const MAX_REMOVED_AT_ONCE: usize = 256;

/// Maximum number of bytes removed in one transaction: a larger one could take batches that neighbours are about to
/// fetch.
pub(in crate::store) const MAX_REMOVED_BYTES_AT_ONCE: usize = 4 << 20;

/// Minimum and maximum of the bytes removed in one transaction of a full log: a thousandth of the log within these
/// bounds, so that retention does not run for each batch.
const REMOVED_BYTES_BOUNDS: (u64, u64) = (32 << 10, 1 << 20);

/// Evicted batches that were stored within this time, in milliseconds, are reported as crowding. In a log that filled
/// up over weeks the oldest batches go too, which is no news.
const CROWDING_MS: u64 = 3600 * 1000;

/// A batch chosen for removal.
pub(super) struct Candidate {
    n: i64,
    id: Id,
    room: i64,
    instance: i64,
    owner: Owner,
    pub(super) sent_at_ms: u64,
    stored_at_ms: u64,
    bytes: u64,
}

impl Candidate {
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Candidate> {
        let number = |column: usize| row.get::<_, i64>(column).map(|value| value as u64);
        Ok(Candidate {
            n: row.get(0)?,
            id: row.get(1)?,
            room: row.get(2)?,
            instance: row.get(3)?,
            owner: Owner {
                author: row.get(4)?,
                link: row.get(5)?,
            },
            sent_at_ms: number(6)?,
            stored_at_ms: number(7)?,
            bytes: number(8)?,
        })
    }
}

/// Totals of one transaction of removals.
#[derive(Default)]
pub(super) struct Removal {
    pub(super) bytes: u64,
    /// Number of removed batches of each room.
    pub(super) rooms: BTreeMap<i64, u64>,
    /// Instances of removed batches, with their authors.
    instances: BTreeSet<(i64, i64)>,
    /// The largest author over its share.
    pub(super) crowding: Option<Crowding>,
}

impl Removal {
    pub(super) fn batches(&self) -> u64 {
        self.rooms.values().sum()
    }

    /// Removes the row of a batch.
    pub(super) fn remove(
        &mut self,
        tables: &Tables,
        candidate: &Candidate,
    ) -> rusqlite::Result<()> {
        tables
            .conn
            .prepare_cached("DELETE FROM batch WHERE n = ?1")?
            .execute([candidate.n])?;
        self.bytes += candidate.bytes;
        *self.rooms.entry(candidate.room).or_default() += 1;
        self.instances
            .insert((candidate.instance, candidate.owner.author));
        Ok(())
    }

    /// Removes the oldest batches of the authors that hold the most, in a log that is `over` its bound of `keep_bytes`, and
    /// leaves tombstones.
    pub(super) fn evict(
        tables: &mut Tables,
        usage: &mut Usage,
        keep_bytes: u64,
        over: u64,
        now_ms: u64,
    ) -> rusqlite::Result<Removal> {
        let (least, most) = REMOVED_BYTES_BOUNDS;
        let need = over.max((keep_bytes / 1024).clamp(least, most));
        let need = need.min(MAX_REMOVED_BYTES_AT_ONCE as u64);
        let mut removal = Removal::default();
        while removal.bytes < need
            && let Some(left) = MAX_REMOVED_AT_ONCE.checked_sub(removal.batches() as usize)
            && left > 0
            && let Some(victim) = usage.victim(keep_bytes, now_ms)
        {
            let candidates =
                oldest_of(&tables.conn, victim.author, left, victim.surplus.min(need))?;
            if candidates.is_empty() {
                break;
            }
            for candidate in candidates {
                if removal.bytes >= need {
                    break;
                }
                let is_recent = now_ms < candidate.stored_at_ms.saturating_add(CROWDING_MS);
                if is_recent && victim.reason != EvictionReason::Largest {
                    removal.note_crowding(tables, victim)?;
                }
                removal.remove(tables, &candidate)?;
                usage.remove(candidate.owner, candidate.bytes);
                add_tombstone(tables, &candidate)?;
            }
        }
        Ok(removal)
    }

    /// Counts a batch of an author over its quota for the report.
    fn note_crowding(&mut self, tables: &Tables, victim: Victim) -> rusqlite::Result<()> {
        if self.crowding.is_none() {
            self.crowding = crowding(&tables.conn, victim)?;
        }
        if let Some(crowding) = &mut self.crowding {
            crowding.batches += 1;
        }
        Ok(())
    }

    /// Removes the rows of instances and authors that have no batch left.
    pub(super) fn forget_unused(&self, tables: &mut Tables) -> rusqlite::Result<()> {
        let instances = self.instances.iter().copied();
        tables.names.forget_unused(&tables.conn, instances)
    }
}

/// Adds a tombstone for a removed batch, unless it is below the low watermark.
fn add_tombstone(tables: &mut Tables, candidate: &Candidate) -> rusqlite::Result<()> {
    let mut rooms = tables.names.rooms.values_mut();
    if let Some(room) = rooms.find(|room| room.n == candidate.room)
        && candidate.sent_at_ms >= room.low_watermark_ms
    {
        tombstones::add(
            &tables.conn,
            candidate.room,
            candidate.sent_at_ms,
            &candidate.id,
        )?;
        room.removed += 1;
    }
    Ok(())
}

/// Returns the room with the oldest batch sent before this time, if there is one.
pub(super) fn room_before(
    tables: &Tables,
    before_ms: u64,
) -> rusqlite::Result<Option<(RoomName, i64)>> {
    let mut oldest: Option<(&RoomName, i64, u64)> = None;
    let mut query = tables
        .conn
        .prepare_cached("SELECT min(sent_at_ms) FROM batch WHERE room = ?1")?;
    for (name, room) in &tables.names.rooms {
        let first: Option<i64> = query.query_row([room.n], |row| row.get(0))?;
        if let Some(first) = first.map(|ms| ms as u64)
            && first < before_ms
            && oldest.is_none_or(|(.., ms)| first < ms)
        {
            oldest = Some((name, room.n, first));
        }
    }
    Ok(oldest.map(|(name, n, _)| (name.clone(), n)))
}

/// Returns the oldest batches of a room sent before this time, as many as one transaction removes.
pub(super) fn expired(
    conn: &Connection,
    room: i64,
    before_ms: u64,
) -> rusqlite::Result<Vec<Candidate>> {
    let mut query = conn.prepare_cached(
        "SELECT n, id, room, instance, author, link, sent_at_ms, stored_at_ms, bytes FROM batch
         WHERE room = ?1 AND sent_at_ms < ?2 ORDER BY sent_at_ms, id LIMIT ?3",
    )?;
    let most = MAX_REMOVED_AT_ONCE as i64;
    let mut rows = query.query(params![room, before_ms as i64, most])?;
    let (mut candidate, mut bytes) = (Vec::new(), 0);
    while bytes < MAX_REMOVED_BYTES_AT_ONCE as u64
        && let Some(row) = rows.next()?
    {
        let next = Candidate::of(row)?;
        bytes += next.bytes;
        candidate.push(next);
    }
    Ok(candidate)
}

/// Returns the oldest batches of an author in all rooms: at most `most`, and one more than fits into `most_bytes`.
fn oldest_of(
    conn: &Connection,
    author: i64,
    most: usize,
    most_bytes: u64,
) -> rusqlite::Result<Vec<Candidate>> {
    let mut query = conn.prepare_cached(
        "SELECT n, id, room, instance, author, link, sent_at_ms, stored_at_ms, bytes FROM batch
         INDEXED BY batch_by_author WHERE author = ?1 ORDER BY sent_at_ms LIMIT ?2",
    )?;
    let mut rows = query.query(params![author, most as i64])?;
    let (mut candidate, mut bytes) = (Vec::new(), 0);
    while bytes < most_bytes
        && let Some(row) = rows.next()?
    {
        let next = Candidate::of(row)?;
        bytes += next.bytes;
        candidate.push(next);
    }
    Ok(candidate)
}

/// Looks up the author and the link of a victim for a report.
fn crowding(conn: &Connection, victim: Victim) -> rusqlite::Result<Option<Crowding>> {
    let bytes = |row: &rusqlite::Row<'_>| row.get::<_, Vec<u8>>(0).map(Bytes::from);
    let author = conn
        .prepare_cached("SELECT key FROM author WHERE n = ?1")?
        .query_row([victim.author], bytes)
        .optional()?;
    let link = conn
        .prepare_cached("SELECT peer FROM link WHERE n = ?1")?
        .query_row([victim.link], bytes)
        .optional()?;
    Ok(author.map(|author| Crowding {
        author,
        link,
        is_by_link: victim.reason == EvictionReason::Link,
        bytes: victim.bytes,
        share: victim.share,
        batches: 0,
    }))
}
