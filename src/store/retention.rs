//! Retention: removes batches by age and, when the log is full, by the quotas of authors, and compacts the blob files.
//!
//! Entry point: [`Log::prune`]. The rules it keeps: one call takes a bounded time; a removed batch is not stored
//! again; removed batches leave no unused space behind; an author never loses batches because of one that holds more.

mod removal;
mod report;

pub(super) use self::removal::{MAX_REMOVED_AT_ONCE, MAX_REMOVED_BYTES_AT_ONCE};
use self::removal::{Removal, expired, room_before};
pub use self::report::{Crowding, Pruned};
use super::blob_store;
use super::error::LogError;
use super::log::Log;
use super::names;
use super::retention_policy::Sync;
use super::schema;
use super::tables::Tables;
use super::tombstones;
use super::write_buffer::WriteBuffer;
use crate::clock::UnixMs;

impl Log {
    /// Removes a bounded number of batches if the log is over its bounds. Returns a report for each room; none if the
    /// log is within its bounds.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the flush or the removal cannot be committed; nothing is removed.
    pub fn prune(&mut self, unix: impl Into<UnixMs>) -> Result<Vec<Pruned>, LogError> {
        self.flush()?;
        self.count_usage_if_full()
            .map_err(|error| LogError::from_sqlite(&self.path, error))?;
        let shared = self.write_buffer.clone();
        let mut buffer = shared.lock();
        self.enforce(&mut buffer, unix.into())
            .map_err(|error| self.undo(&mut buffer, error))
    }

    fn count_usage_if_full(&mut self) -> rusqlite::Result<()> {
        if self.tables.usage.is_none() && self.tables.used()? > self.policy.bytes {
            self.tables.count_usage()?;
        }
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
        let Some(blobs) = &self.tables.blobs else {
            return Ok(());
        };
        let Some(file) = blobs.sparsest_file(&self.tables.conn)? else {
            return self.tables.give_pages_back().map(drop);
        };
        // Envelopes and rows that had reached the disk must reach it again before the old file is removed.
        schema::set_sync(&self.tables.conn, Sync::Full)?;
        let moved = self.compact(buffer, file);
        if moved.is_err() {
            self.roll_back(buffer)?;
        }
        schema::set_sync(&self.tables.conn, self.policy.sync)?;
        moved?;
        match &mut self.tables.blobs {
            Some(blobs) => blobs.remove_unreferenced(&self.tables.conn),
            None => Ok(()),
        }
    }

    fn compact(&mut self, buffer: &mut WriteBuffer, file: i64) -> rusqlite::Result<()> {
        self.tables.conn.execute_batch("BEGIN")?;
        if let Some(blobs) = &mut self.tables.blobs {
            blobs.compact(&self.tables.conn, file)?;
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
        let before_ms = self.policy.oldest_ms(unix);
        let Some((room, n)) = room_before(&self.tables, before_ms)? else {
            return Ok(Vec::new());
        };
        self.tables.begin()?;
        let candidates = expired(&self.tables.conn, n, before_ms)?;
        let is_all = candidates.len() < MAX_REMOVED_AT_ONCE;
        let last_ms = candidates
            .last()
            .map_or(before_ms, |candidate| candidate.sent_at_ms);
        let low_watermark_ms = if is_all { before_ms } else { last_ms };
        let mut removal = Removal::default();
        for candidate in candidates {
            removal.remove(&self.tables, &candidate)?;
        }
        let forgotten = tombstones::drop_before(&self.tables.conn, n, low_watermark_ms)?;
        self.tables
            .names
            .set_low_watermark(&self.tables.conn, &room, low_watermark_ms)?;
        if let Some(room) = self.tables.names.rooms.get_mut(&room) {
            room.removed = room.removed.saturating_sub(forgotten);
        }
        removal.forget_unused(&mut self.tables)?;
        self.commit(buffer)?;
        removal.rooms.entry(n).or_default();
        report(&mut self.tables, buffer, removal)
    }

    /// Removes batches of the authors that hold the most, if the log is full.
    fn evict(&mut self, buffer: &mut WriteBuffer, now_ms: u64) -> rusqlite::Result<Vec<Pruned>> {
        let over = self.tables.used()?.saturating_sub(self.policy.bytes);
        let (Some(mut usage), true) = (self.tables.usage.take(), over > 0) else {
            return Ok(Vec::new());
        };
        self.tables.begin()?;
        let removal = Removal::evict(
            &mut self.tables,
            &mut usage,
            self.policy.bytes,
            over,
            now_ms,
        )?;
        let forgotten = names::enforce_bound(
            &self.tables.conn,
            &mut self.tables.names,
            self.policy.bytes,
            now_ms,
        )?;
        removal.forget_unused(&mut self.tables)?;
        self.commit(buffer)?;
        // If the counted authors have no batches, they are counted again.
        self.tables.usage = Some(usage).filter(|_| removal.batches() > 0);
        let mut removal = removal;
        if let Some(room) = forgotten {
            removal.rooms.entry(room).or_default();
        }
        report(&mut self.tables, buffer, removal)
    }
}

/// After the commit: removes unreferenced blob files and returns the report of each room.
fn report(
    tables: &mut Tables,
    buffer: &mut WriteBuffer,
    removal: Removal,
) -> rusqlite::Result<Vec<Pruned>> {
    if removal.bytes > 0
        && let Some(blobs) = &mut tables.blobs
    {
        blobs.remove_unreferenced(&tables.conn)?;
    }
    let mut crowding = removal.crowding;
    let mut pruned = Vec::new();
    for (n, batches) in &removal.rooms {
        let Some(name) = tables.names.room_name(*n).cloned() else {
            continue;
        };
        let Some(room) = tables.names.rooms.get(&name) else {
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
