//! What the log has acknowledged and not committed, and how far each author has come: enough to store a small
//! batch without the tables.
//!
//! Entry type: [`WriteBuffer`], shared by the log's thread and those that have something to store. The rule it keeps:
//! what it takes is in the tail; by itself it takes only what comes next of an author, which is in no table
//! and in conflict with nothing there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::journal::{Journal, JournalEntry};
use crate::model::{AuthorStream, Record, low_watermark_at};

/// Bytes of batches that are stored together above which the tail is of no use: they are as well written
/// where they belong.
pub(super) const MAX_BUFFERED_BYTES: usize = 16 << 10;

/// How many authors' last numbers are remembered; past this the memory starts anew. Few in the tests, so that
/// it does.
const MAX_STREAMS: usize = if cfg!(test) { 3 } else { 4096 };

/// A write to the tail goes into the system's memory, and takes microseconds. One that took this long waited
/// for the disk.
const SLOW_WRITE: Duration = Duration::from_millis(5);

/// Whoever has other things to do writes nothing himself for this long after that: the log's thread does.
const SLOW_FOR: Duration = Duration::from_secs(10);

/// A front, and who usage it.
#[derive(Clone, Debug)]
pub(super) struct SharedWriteBuffer(Arc<Mutex<WriteBuffer>>);

impl SharedWriteBuffer {
    pub(super) fn new(buffer: WriteBuffer) -> SharedWriteBuffer {
        SharedWriteBuffer(Arc::new(Mutex::new(buffer)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, WriteBuffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None when somebody else has it.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, WriteBuffer>> {
        self.0.try_lock().ok()
    }
}

/// What is acknowledged, and what is known without the tables.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    /// None when each commit waits for the disk.
    journal: Option<Journal>,
    /// What the tail has taken.
    kept: Vec<JournalEntry>,
    /// How many of those, from the first on, are in the transaction that is open.
    inserted: usize,
    /// Whether anything is kept: readers of the file do not see it.
    is_behind: Arc<AtomicBool>,
    /// The number after the last that is stored of a speaker.
    heads: HashMap<AuthorStream, u64>,
    /// What was sent before is not taken any more, by room.
    low_watermarks: HashMap<String, u64>,
    /// Batches and bytes that were taken since it was asked.
    taken: (usize, usize),
    slow_until: Option<Instant>,
    /// The log's files are not where they were opened: what the tail took would be in none.
    is_displaced: bool,
}

impl WriteBuffer {
    /// Takes what an earlier process left in its tail.
    pub(super) fn take_up(&mut self, kept: Vec<JournalEntry>) {
        self.kept = kept;
    }

    pub(super) fn set_journal(&mut self, journal: Journal) {
        self.journal = Some(journal);
    }

    /// While the log's files are not where they were opened, the tail takes nothing.
    pub(super) fn set_displaced(&mut self, is_displaced: bool) {
        self.is_displaced = is_displaced;
    }

    pub(super) fn take_journal(&mut self) -> Option<Journal> {
        self.journal.take()
    }

    /// Told whether there is anything that readers of the file do not see.
    pub(super) fn behind_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_behind)
    }

    /// What is acknowledged and not committed.
    pub(super) fn entries(&self) -> &[JournalEntry] {
        &self.kept
    }

    /// How much of it is in the transaction that is open.
    pub(super) fn inserted(&self) -> usize {
        self.inserted
    }

    /// That of it which is in no transaction.
    pub(super) fn pending(&self) -> &[JournalEntry] {
        self.kept.get(self.inserted..).unwrap_or_default()
    }

    /// So many more are in the transaction that is open.
    pub(super) fn note_inserted(&mut self, count: usize) {
        self.inserted += count;
    }

    /// The transaction is void.
    pub(super) fn note_rollback(&mut self) {
        self.inserted = 0;
    }

    /// The transaction is committed.
    pub(super) fn note_commit(&mut self) {
        self.kept.drain(..std::mem::take(&mut self.inserted));
        if !self.kept.is_empty() {
            return;
        }
        self.is_behind.store(false, Ordering::Release);
        if let Some(Err(error)) = self.journal.as_mut().map(Journal::clear) {
            // It fills up, and then is not used any more.
            tracing::warn!(%error, "the log's journal could not be begun anew");
        }
    }

    /// Takes `records`, which are small and come next of their speakers, all or none, on the thread of whoever
    /// has them: nothing waits for the disk, unless the disk is slow, and then not again for a while.
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
        let is_kept = self.keep(now_ms, records);
        if is_kept {
            self.heads.extend(heads);
            self.taken.0 += records.len();
            self.taken.1 += records
                .iter()
                .map(|record| record.bytes.len())
                .sum::<usize>();
        }
        is_kept
    }

    /// Takes `records`, all or none, which are in the transaction that is open if [`WriteBuffer::note_inserted`] is called with them.
    pub(super) fn keep(&mut self, now_ms: u64, records: &[Record]) -> bool {
        let bytes: usize = records.iter().map(|record| record.bytes.len()).sum();
        let Some(journal) = self
            .journal
            .as_mut()
            .filter(|_| bytes <= MAX_BUFFERED_BYTES && !self.is_displaced)
        else {
            return false;
        };
        let begun = Instant::now();
        let is_kept = journal.keep(now_ms, records).unwrap_or_else(|error| {
            tracing::warn!(%error, "the log's journal could not be written: the log is");
            false
        });
        if begun.elapsed() >= SLOW_WRITE {
            self.slow_until = Some(begun + SLOW_FOR);
        }
        if is_kept && !records.is_empty() {
            let kept = records.iter().cloned().map(|record| (now_ms, record));
            self.kept.extend(kept);
            self.is_behind.store(true, Ordering::Release);
        }
        is_kept
    }

    /// Whether it is known how far the speaker of `record` has come.
    pub(super) fn knows(&self, record: &Record) -> bool {
        self.heads.contains_key(&record.stream())
    }

    /// The numbers of `record`'s speaker are stored up to `head`, and none after it.
    pub(super) fn learn(&mut self, record: &Record, head: u64) {
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

    /// Nothing is known any more of how far anybody has come.
    pub(super) fn forget(&mut self) {
        self.heads.clear();
    }

    /// What was sent before is not taken any more.
    pub(super) fn set_low_watermark(&mut self, room: &str, low_watermark_ms: u64) {
        self.low_watermarks
            .insert(room.to_owned(), low_watermark_ms);
    }

    /// Batches and bytes that [`WriteBuffer::try_accept`] has taken since it was asked last.
    pub(super) fn taken(&mut self) -> (usize, usize) {
        std::mem::take(&mut self.taken)
    }
}
