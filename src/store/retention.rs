//! Retention: removes batches by age and, when the log is full, by the quotas of authors, and compacts the blob files.
//!
//! Entry point: [`Log::prune`]. The rules it keeps: one call takes a bounded time; a removed batch is not stored
//! again; removed batches leave no unused space behind; an author never loses batches because of one that holds more.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::blob_store;
use super::error::LogError;
use super::log::Log;
use super::quota::{EvictionReason, Owner, Usage, Victim};
use super::schema::{self, Sync};
use super::tombstones;
use super::write_buffer::WriteBuffer;
use crate::clock::UnixMs;
use crate::model::Id;

/// Maximum number of batches removed in one transaction: it takes about ten milliseconds, so that no append waits
/// long.
pub(super) const MAX_REMOVED_AT_ONCE: usize = 256;

/// Maximum number of bytes removed in one transaction: a larger one could take batches that neighbours are about to
/// fetch.
pub(super) const MAX_REMOVED_BYTES_AT_ONCE: usize = 4 << 20;

/// Minimum and maximum of the bytes removed in one transaction of a full log: a thousandth of the log within these
/// bounds, so that retention does not run for each batch.
const REMOVED_BYTES_BOUNDS: (u64, u64) = (32 << 10, 1 << 20);

/// Evicted batches that were stored within this time, in milliseconds, are reported as crowding. In a log that filled
/// up over weeks the oldest batches go too, which is no news.
const CROWDING_MS: u64 = 3600 * 1000;

/// Report that batches of a room were removed or its low watermark rose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The room.
    pub room: String,
    /// Low watermark in Unix milliseconds: older batches are neither stored nor compared.
    pub low_watermark_ms: u64,
    /// Number of removed batches.
    pub batches: u64,
    /// Number of tombstones of the room; anti-entropy counts them as held.
    pub removed: u64,
    /// Author that caused the removal by holding more than its share.
    pub crowding: Option<Crowding>,
}

/// An author or a link that fills the log faster than its share allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowding {
    /// Author of the removed batches (a libp2p `PublicKey`).
    pub author: Bytes,
    /// PeerId of the neighbour that delivered most of the author's batches; none if this node made them or it is
    /// unknown.
    pub link: Option<Bytes>,
    /// Whether the share exceeded is that of new authors, of which the link delivered the most.
    pub is_by_link: bool,
    /// Bytes in the log of the author, or of all new authors that the link delivered.
    pub bytes: u64,
    /// Bytes that it may hold while others hold less.
    pub share: u64,
    /// Number of batches removed just now from authors over their share.
    pub batches: u64,
}

/// A batch chosen for removal.
struct Candidate {
    n: i64,
    id: Id,
    room: i64,
    instance: i64,
    owner: Owner,
    sent_at_ms: u64,
    stored_at_ms: u64,
    bytes: u64,
}

/// Totals of one transaction of removals.
#[derive(Default)]
struct Removal {
    bytes: u64,
    /// Number of removed batches of each room.
    rooms: BTreeMap<i64, u64>,
    /// Instances of removed batches, with their authors.
    instances: BTreeSet<(i64, i64)>,
    /// The largest author over its share.
    crowding: Option<Crowding>,
}

impl Removal {
    fn batches(&self) -> u64 {
        self.rooms.values().sum()
    }
}

impl Log {
    /// Removes a bounded number of batches if the log is over its bounds. Returns a report for each room; none if the
    /// log is within its bounds.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the flush or the removal cannot be committed; nothing is removed.
    pub fn prune(&mut self, unix: impl Into<UnixMs>) -> Result<Vec<Pruned>, LogError> {
        self.flush()?;
        self.count_usage()
            .map_err(|error| LogError::from_sqlite(&self.path, error))?;
        let shared = self.write_buffer.clone();
        let mut buffer = shared.lock();
        self.enforce(&mut buffer, unix.into())
            .map_err(|error| self.undo(&mut buffer, error))
    }

    /// Counts the bytes of each author if the log is full and they are not counted yet. Reads an index with about 20
    /// bytes for each batch; later inserts and removals keep the count.
    fn count_usage(&mut self) -> rusqlite::Result<()> {
        if self.usage.is_some() || self.used()? <= self.keep.bytes {
            return Ok(());
        }
        let mut usage = Usage::default();
        let mut query = self.conn.prepare(
            "SELECT author, link, bytes, since_ms FROM batch INDEXED BY batch_by_author
             JOIN author ON author.n = batch.author ORDER BY author",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let owner = Owner {
                author: row.get(0)?,
                link: row.get(1)?,
            };
            let (bytes, since_ms): (i64, i64) = (row.get(2)?, row.get(3)?);
            usage.add(owner, bytes as u64, since_ms as u64);
        }
        self.usage = Some(usage);
        Ok(())
    }

    /// Flushes, then removes by age, by quota, or compacts. Holds the write buffer's lock: a batch acknowledged
    /// meanwhile could be below the room's new low watermark.
    fn enforce(&mut self, buffer: &mut WriteBuffer, unix: UnixMs) -> rusqlite::Result<Vec<Pruned>> {
        if !buffer.entries().is_empty() {
            self.begin(buffer)?;
            self.commit(buffer)?;
        }
        let mut pruned = self.remove_expired(buffer, unix)?;
        if pruned.is_empty() {
            pruned = self.evict(buffer, unix.now)?;
        }
        if pruned.is_empty() {
            self.compact_files(buffer)?;
        }
        Ok(pruned)
    }

    /// Compacts the blob file with the most unreferenced bytes, or returns free pages to the disk.
    fn compact_files(&mut self, buffer: &mut WriteBuffer) -> rusqlite::Result<()> {
        let Some(blobs) = &self.blobs else {
            return Ok(());
        };
        let Some(file) = blobs.sparsest_file(&self.conn)? else {
            return self.give_pages_back().map(drop);
        };
        // Envelopes and rows that had reached the disk must reach it again before the old file is removed.
        schema::set_sync(&self.conn, Sync::Full)?;
        let moved = self.compact(buffer, file);
        if moved.is_err() {
            self.roll_back(buffer)?;
        }
        schema::set_sync(&self.conn, self.keep.sync)?;
        moved?;
        match &mut self.blobs {
            Some(blobs) => blobs.remove_unreferenced(&self.conn),
            None => Ok(()),
        }
    }

    fn compact(&mut self, buffer: &mut WriteBuffer, file: i64) -> rusqlite::Result<()> {
        self.conn.execute_batch("BEGIN")?;
        if let Some(blobs) = &mut self.blobs {
            blobs.compact(&self.conn, file)?;
            blobs.sync().map_err(|error| blob_store::failure(&error))?;
        }
        self.commit(buffer)
    }

    /// Removes batches over the maximum age, of the room with the oldest one.
    fn remove_expired(
        &mut self,
        buffer: &mut WriteBuffer,
        unix: UnixMs,
    ) -> rusqlite::Result<Vec<Pruned>> {
        let before_ms = self.keep.oldest_ms(unix);
        let Some((room, n)) = self.room_before(before_ms)? else {
            return Ok(Vec::new());
        };
        self.begin_empty()?;
        let candidate = expired(&self.conn, n, before_ms)?;
        let is_all = candidate.len() < MAX_REMOVED_AT_ONCE;
        let last_ms = candidate
            .last()
            .map_or(before_ms, |candidate| candidate.sent_at_ms);
        let low_watermark_ms = if is_all { before_ms } else { last_ms };
        let mut removal = Removal::default();
        for candidate in candidate {
            self.remove(&candidate, &mut removal)?;
        }
        let forgotten = tombstones::drop_before(&self.conn, n, low_watermark_ms)?;
        self.names
            .set_low_watermark(&self.conn, &room, low_watermark_ms)?;
        if let Some(room) = self.names.rooms.get_mut(&room) {
            room.removed = room.removed.saturating_sub(forgotten);
        }
        self.forget_unused(&removal)?;
        self.commit(buffer)?;
        removal.rooms.entry(n).or_default();
        self.report(buffer, removal)
    }

    /// Removes batches of the authors that hold the most, if the log is full.
    fn evict(&mut self, buffer: &mut WriteBuffer, now_ms: u64) -> rusqlite::Result<Vec<Pruned>> {
        let over = self.used()?.saturating_sub(self.keep.bytes);
        let (Some(mut usage), true) = (self.usage.take(), over > 0) else {
            return Ok(Vec::new());
        };
        self.begin_empty()?;
        let removal = self.evict_candidates(&mut usage, over, now_ms)?;
        let forgotten =
            tombstones::enforce_bound(&self.conn, &mut self.names, self.keep.bytes, now_ms)?;
        self.forget_unused(&removal)?;
        self.commit(buffer)?;
        // If the counted authors have no batches, they are counted again.
        self.usage = Some(usage).filter(|_| removal.batches() > 0);
        let mut removal = removal;
        if let Some(room) = forgotten {
            removal.rooms.entry(room).or_default();
        }
        self.report(buffer, removal)
    }

    fn evict_candidates(
        &mut self,
        usage: &mut Usage,
        over: u64,
        now_ms: u64,
    ) -> rusqlite::Result<Removal> {
        let (least, most) = REMOVED_BYTES_BOUNDS;
        let need = over.max((self.keep.bytes / 1024).clamp(least, most));
        let need = need.min(MAX_REMOVED_BYTES_AT_ONCE as u64);
        let mut removal = Removal::default();
        while removal.bytes < need
            && let Some(left) = MAX_REMOVED_AT_ONCE.checked_sub(removal.batches() as usize)
            && left > 0
            && let Some(victim) = usage.victim(self.keep.bytes, now_ms)
        {
            let candidate = oldest_of(&self.conn, victim.author, left, victim.surplus.min(need))?;
            if candidate.is_empty() {
                break;
            }
            for candidate in candidate {
                if removal.bytes >= need {
                    break;
                }
                let is_recent = now_ms < candidate.stored_at_ms.saturating_add(CROWDING_MS);
                if is_recent && victim.reason != EvictionReason::Largest {
                    removal.crowding = match removal.crowding.take() {
                        None => crowding(&self.conn, victim)?,
                        known => known,
                    };
                    if let Some(crowding) = &mut removal.crowding {
                        crowding.batches += 1;
                    }
                }
                self.remove(&candidate, &mut removal)?;
                usage.remove(candidate.owner, candidate.bytes);
                self.add_tombstone(&candidate)?;
            }
        }
        Ok(removal)
    }

    fn remove(&self, candidate: &Candidate, removal: &mut Removal) -> rusqlite::Result<()> {
        self.conn
            .prepare_cached("DELETE FROM batch WHERE n = ?1")?
            .execute([candidate.n])?;
        removal.bytes += candidate.bytes;
        *removal.rooms.entry(candidate.room).or_default() += 1;
        removal
            .instances
            .insert((candidate.instance, candidate.owner.author));
        Ok(())
    }

    /// Adds a tombstone for a removed batch, unless it is below the low watermark.
    fn add_tombstone(&mut self, candidate: &Candidate) -> rusqlite::Result<()> {
        let mut rooms = self.names.rooms.values_mut();
        if let Some(room) = rooms.find(|room| room.n == candidate.room)
            && candidate.sent_at_ms >= room.low_watermark_ms
        {
            tombstones::add(
                &self.conn,
                candidate.room,
                candidate.sent_at_ms,
                &candidate.id,
            )?;
            room.removed += 1;
        }
        Ok(())
    }

    fn forget_unused(&mut self, removal: &Removal) -> rusqlite::Result<()> {
        let instances = removal.instances.iter().copied();
        self.names.forget_unused(&self.conn, instances)
    }

    /// After the commit: removes unreferenced blob files and returns the report of each room.
    fn report(
        &mut self,
        buffer: &mut WriteBuffer,
        removal: Removal,
    ) -> rusqlite::Result<Vec<Pruned>> {
        if removal.bytes > 0
            && let Some(blobs) = &mut self.blobs
        {
            blobs.remove_unreferenced(&self.conn)?;
        }
        let mut crowding = removal.crowding;
        let mut pruned = Vec::new();
        for (n, batches) in &removal.rooms {
            let Some(name) = self.names.room_name(*n).map(str::to_owned) else {
                continue;
            };
            let Some(room) = self.names.rooms.get(&name) else {
                continue;
            };
            buffer.set_low_watermark(&name, room.low_watermark_ms);
            pruned.push(Pruned {
                room: name,
                low_watermark_ms: room.low_watermark_ms,
                batches: *batches,
                removed: room.removed,
                crowding: crowding.take(),
            });
        }
        Ok(pruned)
    }

    /// Returns the room with the oldest batch sent before this time, if there is one.
    fn room_before(&self, before_ms: u64) -> rusqlite::Result<Option<(String, i64)>> {
        let mut oldest: Option<(&str, i64, u64)> = None;
        let mut query = self
            .conn
            .prepare_cached("SELECT min(sent_at_ms) FROM batch WHERE room = ?1")?;
        for (name, room) in &self.names.rooms {
            let first: Option<i64> = query.query_row([room.n], |row| row.get(0))?;
            if let Some(first) = first.map(|ms| ms as u64)
                && first < before_ms
                && oldest.is_none_or(|(.., ms)| first < ms)
            {
                oldest = Some((name, room.n, first));
            }
        }
        Ok(oldest.map(|(name, n, _)| (name.to_owned(), n)))
    }
}

/// Returns the oldest batches of a room sent before this time, as many as one transaction removes.
fn expired(conn: &Connection, room: i64, before_ms: u64) -> rusqlite::Result<Vec<Candidate>> {
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
