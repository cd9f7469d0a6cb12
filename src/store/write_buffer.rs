//! Write buffer (memtable) of the log: acknowledged batches that are not committed yet, and the last sequence number
//! of each author. With it a small batch is stored without the tables.
//!
//! Entry type: [`WriteBuffer`], shared by the log's thread and its callers as [`SharedWriteBuffer`]. The rule it
//! keeps: each entry is in the journal; the buffer alone accepts only the next batch of an author's stream, which
//! cannot be in a table or in conflict with a batch there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::journal::{Journal, JournalEntry};
use crate::model::{AuthorStream, Record, RoomName, low_watermark_at};

/// Maximum size in bytes of a group of batches that goes through the buffer; a larger group is written to the tables
/// directly.
pub(super) const MAX_BUFFERED_BYTES: usize = 16 << 10;

/// Maximum number of streams whose last number is cached; beyond it the cache is cleared. Small in the tests, so that
/// this happens.
const MAX_STREAMS: usize = if cfg!(test) { 3 } else { 4096 };

/// Duration from which a write to the journal counts as slow. It usually goes to the system's memory and takes
/// microseconds; a slow one had to wait for the disk.
const SLOW_WRITE: Duration = Duration::from_millis(5);

/// For this long after a slow write, callers hand their batches to the log's thread, so that they do not wait for the
/// disk.
const SLOW_FOR: Duration = Duration::from_secs(10);

/// A write buffer shared by the log's thread and its callers.
#[derive(Clone, Debug)]
pub(super) struct SharedWriteBuffer(Arc<Mutex<WriteBuffer>>);

impl SharedWriteBuffer {
    pub(super) fn new(buffer: WriteBuffer) -> SharedWriteBuffer {
        SharedWriteBuffer(Arc::new(Mutex::new(buffer)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, WriteBuffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the buffer; none if another thread has locked it.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, WriteBuffer>> {
        self.0.try_lock().ok()
    }
}

/// Acknowledged entries, and the state that accepting the next batch needs.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    /// The journal; none in [`Sync::Full`](super::Sync::Full), in which each commit waits for the disk.
    journal: Option<Journal>,
    /// Entries in the journal, oldest first.
    entries: Vec<JournalEntry>,
    /// Number of entries, from the first on, that are in the open transaction.
    inserted: usize,
    /// Whether there is any entry: readers of the file do not see it.
    is_behind: Arc<AtomicBool>,
    /// Sequence number after the last stored event of each stream.
    heads: HashMap<AuthorStream, u64>,
    /// Low watermark of each room: older batches are refused.
    low_watermarks: HashMap<RoomName, u64>,
    /// Number and bytes of the batches accepted since the last call of [`WriteBuffer::take_accepted`].
    accepted: (usize, usize),
    slow_until: Option<Instant>,
    /// Whether the log's files were replaced: entries in the journal would be in no log.
    is_displaced: bool,
}

impl WriteBuffer {
    /// Restores the entries that recovery read from the journal of an earlier process.
    pub(super) fn restore(&mut self, entries: Vec<JournalEntry>) {
        self.entries = entries;
    }

    pub(super) fn set_journal(&mut self, journal: Journal) {
        self.journal = Some(journal);
    }

    /// Sets whether the log's files are displaced. While they are, the buffer accepts nothing.
    pub(super) fn set_displaced(&mut self, is_displaced: bool) {
        self.is_displaced = is_displaced;
    }

    pub(super) fn take_journal(&mut self) -> Option<Journal> {
        self.journal.take()
    }

    /// Returns a flag that is true while there are entries that readers of the file do not see.
    pub(super) fn behind_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_behind)
    }

    /// Returns the entries that are acknowledged and not committed.
    pub(super) fn entries(&self) -> &[JournalEntry] {
        &self.entries
    }

    /// Returns the number of entries in the open transaction.
    pub(super) fn inserted(&self) -> usize {
        self.inserted
    }

    /// Returns the entries that are in no transaction.
    pub(super) fn pending(&self) -> &[JournalEntry] {
        self.entries.get(self.inserted..).unwrap_or_default()
    }

    /// Records that `count` more entries are in the open transaction.
    pub(super) fn note_inserted(&mut self, count: usize) {
        self.inserted += count;
    }

    /// Records that the open transaction was rolled back.
    pub(super) fn note_rollback(&mut self) {
        self.inserted = 0;
    }

    /// Records that the open transaction was committed, and clears the journal if no entry is left.
    pub(super) fn note_commit(&mut self) {
        self.entries.drain(..std::mem::take(&mut self.inserted));
        if !self.entries.is_empty() {
            return;
        }
        self.is_behind.store(false, Ordering::Release);
        if let Some(Err(error)) = self.journal.as_mut().map(Journal::clear) {
            // The journal then fills up and is no longer used.
            tracing::warn!(%error, "the log's journal could not be begun anew");
        }
    }

    /// Accepts `records`, all or none, if they are small and each is the next of its stream. Runs on the caller's
    /// thread: nothing waits for the disk, and after a slow write the buffer refuses for [`SLOW_FOR`].
    pub(super) fn try_accept(&mut self, now_ms: u64, oldest_ms: u64, records: &[Record]) -> bool {
        if self.slow_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        let mut heads: Vec<(AuthorStream, u64)> = Vec::with_capacity(records.len());
        for record in records {
            let stream = record.stream();
            let latest = heads.iter().rev().find(|(other, _)| *other == stream);
            let head = latest
                .map(|(_, head)| head)
                .or_else(|| self.heads.get(&stream));
            let low_watermark_ms = self.low_watermarks.get(&record.room).copied().unwrap_or(0);
            let low_watermark_ms = low_watermark_at(low_watermark_ms, now_ms);
            let is_next = head == Some(&record.first_seq)
                && record.fits()
                && record.sent_at_ms >= oldest_ms.max(low_watermark_ms);
            if !is_next {
                return false;
            }
            heads.push((stream, record.end_seq()));
        }
        let is_appended = self.append(now_ms, records);
        if is_appended {
            self.heads.extend(heads);
            self.accepted.0 += records.len();
            self.accepted.1 += records
                .iter()
                .map(|record| record.bytes.len())
                .sum::<usize>();
        }
        is_appended
    }

    /// Appends `records` to the journal and the entries, all or none. The caller inserts them into the open
    /// transaction and calls [`WriteBuffer::note_inserted`].
    pub(super) fn append(&mut self, now_ms: u64, records: &[Record]) -> bool {
        let bytes: usize = records.iter().map(|record| record.bytes.len()).sum();
        let Some(journal) = self
            .journal
            .as_mut()
            .filter(|_| bytes <= MAX_BUFFERED_BYTES && !self.is_displaced)
        else {
            return false;
        };
        let begun = Instant::now();
        let is_appended = journal.append(now_ms, records).unwrap_or_else(|error| {
            tracing::warn!(%error, "the log's journal could not be written: the log is");
            false
        });
        if begun.elapsed() >= SLOW_WRITE {
            self.slow_until = Some(begun + SLOW_FOR);
        }
        if is_appended && !records.is_empty() {
            let entries = records.iter().cloned().map(|record| (now_ms, record));
            self.entries.extend(entries);
            self.is_behind.store(true, Ordering::Release);
        }
        is_appended
    }

    /// Returns whether the last number of the stream of `record` is cached.
    pub(super) fn has_head(&self, record: &Record) -> bool {
        self.heads.contains_key(&record.stream())
    }

    /// Caches that the stream of `record` is stored up to `head`, and not beyond.
    pub(super) fn set_head(&mut self, record: &Record, head: u64) {
        let stream = record.stream();
        if let Some(known) = self.heads.get_mut(&stream) {
            *known = head.max(*known);
            return;
        }
        if self.heads.len() >= MAX_STREAMS {
            self.heads.clear();
        }
        self.heads.insert(stream, head);
    }

    /// Clears the cached last numbers.
    pub(super) fn clear_heads(&mut self) {
        self.heads.clear();
    }

    /// Sets the low watermark of a room.
    pub(super) fn set_low_watermark(&mut self, room: &RoomName, low_watermark_ms: u64) {
        self.low_watermarks.insert(room.clone(), low_watermark_ms);
    }

    /// Returns number and bytes of the batches that [`WriteBuffer::try_accept`] accepted since the last call, and
    /// resets both.
    pub(super) fn take_accepted(&mut self) -> (usize, usize) {
        std::mem::take(&mut self.accepted)
    }
}
