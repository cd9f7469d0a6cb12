//! The log: appends batches in transactions, flushes the write buffer, and recovers the journal.
//!
//! Entry type: [`Log`], which runs on its caller's thread ([`super::Writer`] gives it one). The rules it keeps: a
//! batch is acknowledged only after its transaction is committed or its [`WriteBuffer`] has it; a batch is stored
//! once; a batch that retention removed is not stored again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rusqlite::Connection;

use super::blob_store::{self, BlobStore};
use super::error::LogError;
use super::journal::{Journal, JournalEntry};
use super::lock::Lock;
use super::opened_files::OpenedFiles;
use super::paths::FILE_NAME;
use super::read::Reader;
use super::retention_policy::{RetentionPolicy, Sync};
use super::schema;
use super::tables::Tables;
use super::write_buffer::{SharedWriteBuffer, WriteBuffer};
use crate::clock::UnixMs;
use crate::identity::NetworkId;
use crate::model::{Outcome, Record, Verified};

/// Number of entries that a flush inserts before it lets other threads use the write buffer.
const MAX_INSERTED_AT_ONCE: usize = 16;

/// The log, open for writing. One process has it open at a time.
#[derive(Debug)]
pub struct Log {
    pub(super) path: PathBuf,
    pub(super) policy: RetentionPolicy,
    /// The tables, and the blob files beside them.
    pub(super) tables: Tables,
    /// Entries that are acknowledged and not committed; the next commit includes them.
    pub(super) write_buffer: SharedWriteBuffer,
    /// Whether a failed commit was reported and none has succeeded since.
    is_stuck: bool,
    /// Identities of the log's files at the time they were opened; none for a log in memory.
    pub(super) opened_files: Option<OpenedFiles>,
    /// Size of the WAL's file before the last commit.
    pub(super) wal_file_bytes: u64,
    /// Number of times the log was recreated: other connections reopen the files when it changes.
    pub(super) generation: Arc<AtomicU64>,
    pub(super) lock: Option<Lock>,
}

impl Log {
    /// Opens the log in the directory `dir`, or creates one.
    ///
    /// # Errors
    ///
    /// [`LogError`], of which each variant names the file, whether anything was lost, and a remedy.
    pub fn open(dir: &Path, policy: RetentionPolicy) -> Result<Log, LogError> {
        Log::open_file(&dir.join(FILE_NAME), policy)
    }

    /// Opens or creates the log whose file is `path`.
    pub(super) fn open_file(path: &Path, policy: RetentionPolicy) -> Result<Log, LogError> {
        Log::open_locked(Lock::take(path)?, path, policy)
    }

    pub(super) fn open_locked(
        lock: Lock,
        path: &Path,
        policy: RetentionPolicy,
    ) -> Result<Log, LogError> {
        let conn = schema::open(path, &policy)?;
        let blobs = BlobStore::open(path, policy.bytes, &conn);
        let blobs = blobs.map_err(|error| LogError::from_sqlite(path, error))?;
        let mut log = Log::from_connection(conn, path.to_owned(), policy, Some(lock))?;
        log.tables.blobs = Some(blobs);
        log.recover_journal()?;
        Ok(log)
    }

    /// Creates a log in memory with the same bounds; it ends with the process.
    ///
    /// # Errors
    ///
    /// [`LogError::Sqlite`] if SQLite cannot make a database in memory.
    pub fn ephemeral(policy: RetentionPolicy) -> Result<Log, LogError> {
        let path = PathBuf::from(":memory:");
        let conn = schema::open_in_memory().map_err(|error| LogError::from_sqlite(&path, error))?;
        let log = Log::from_connection(conn, path, policy, None)?;
        log.write_buffer.lock().set_journal(Journal::in_memory());
        Ok(log)
    }

    fn from_connection(
        conn: Connection,
        path: PathBuf,
        policy: RetentionPolicy,
        lock: Option<Lock>,
    ) -> Result<Log, LogError> {
        let tables = Tables::new(conn).map_err(|error| LogError::from_sqlite(&path, error))?;
        let mut buffer = WriteBuffer::default();
        for (name, room) in &tables.names.rooms {
            buffer.set_low_watermark(name, room.low_watermark_ms);
        }
        Ok(Log {
            tables,
            policy,
            write_buffer: SharedWriteBuffer::new(buffer),
            is_stuck: false,
            opened_files: lock.as_ref().map(|_| OpenedFiles::of(&path)),
            wal_file_bytes: 0,
            generation: Arc::default(),
            path,
            lock,
        })
    }

    /// Assigns a new log to this network, or checks that it belongs to it.
    ///
    /// # Errors
    ///
    /// [`LogError::OtherNetwork`] if it belongs to another network: its batches could not be verified in this one.
    pub fn of_network(self, network: NetworkId) -> Result<Log, LogError> {
        let failed = |error| LogError::from_sqlite(&self.path, error);
        match schema::network_of(&self.tables.conn).map_err(failed)? {
            Some(log) if log != network => Err(LogError::OtherNetwork {
                path: self.path.clone(),
                log,
                network,
            }),
            Some(_) => Ok(self),
            None => {
                schema::set_network(&self.tables.conn, network).map_err(failed)?;
                Ok(self)
            }
        }
    }

    /// Returns the sending time of the newest batch, in Unix milliseconds; none if the log is empty.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub fn newest_ms(&self) -> Result<Option<u64>, LogError> {
        let newest = self.tables.newest_ms();
        newest.map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// Returns the network that the log belongs to; the open network if it has none yet.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub fn network(&self) -> Result<NetworkId, LogError> {
        let network = schema::network_of(&self.tables.conn);
        let network = network.map_err(|error| LogError::from_sqlite(&self.path, error))?;
        Ok(network.unwrap_or(NetworkId::OPEN))
    }

    /// Returns the log's file; `:memory:` for an ephemeral log.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the retention policy that it was opened with.
    pub fn policy(&self) -> &RetentionPolicy {
        &self.policy
    }

    /// Returns whether the log is in memory only.
    pub fn is_ephemeral(&self) -> bool {
        self.lock.is_none()
    }

    /// Stores the new ones of `batches` in one transaction and returns an outcome for each.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the transaction cannot be committed; none of them is stored.
    pub fn append<C: Verified>(
        &mut self,
        now_ms: u64,
        batches: &[C],
    ) -> Result<Vec<Outcome>, LogError> {
        let records: Vec<Record> = batches.iter().map(Verified::record).collect();
        let records: Vec<&Record> = records.iter().collect();
        let shared = self.write_buffer.clone();
        let mut buffer = shared.lock();
        let outcomes = self.insert(&mut buffer, now_ms.into(), &records)?;
        self.commit(&mut buffer)
            .map_err(|error| self.undo(&mut buffer, error))?;
        buffer.clear_heads();
        Ok(outcomes)
    }

    /// Stores `records` as [`Log::append`] does, except that a small group is only added to the [`WriteBuffer`] and
    /// the journal: readers of the file see it after [`Log::flush`].
    pub(super) fn append_buffered(
        &mut self,
        unix: impl Into<UnixMs>,
        records: &[&Record],
    ) -> Result<Vec<Outcome>, LogError> {
        let unix: UnixMs = unix.into();
        let shared = self.write_buffer.clone();
        let mut buffer = shared.lock();
        let outcomes = self.insert(&mut buffer, unix, records)?;
        let stored = records.iter().zip(&outcomes);
        let stored = stored.filter(|(_, outcome)| outcome.is_stored());
        let new: Vec<Record> = stored.map(|(record, _)| Record::clone(record)).collect();
        let is_kept = match new.is_empty() {
            // There is nothing to commit, unless the transaction holds earlier entries.
            true => !buffer.entries().is_empty(),
            false => buffer.append(unix.now, &new),
        };
        if is_kept {
            buffer.note_inserted(new.len());
        } else {
            self.commit(&mut buffer)
                .map_err(|error| self.undo(&mut buffer, error))?;
        }
        self.cache_heads(&mut buffer, records, &outcomes);
        Ok(outcomes)
    }

    /// Caches the last numbers of the authors of `records` in the write buffer, so that it can accept their next
    /// batches alone.
    fn cache_heads(&self, buffer: &mut WriteBuffer, records: &[&Record], outcomes: &[Outcome]) {
        for (record, outcome) in records.iter().zip(outcomes) {
            if !matches!(outcome, Outcome::New { .. }) {
                continue;
            }
            let head = match buffer.has_head(record) {
                true => Ok(Some(record.end_seq())),
                false => self.tables.head_of(record),
            };
            match head {
                Ok(Some(head)) => buffer.set_head(record, head),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "an author's last number was not found"),
            }
        }
    }

    /// Returns the write buffer, for callers that store batches on their own thread.
    pub(super) fn write_buffer(&self) -> SharedWriteBuffer {
        self.write_buffer.clone()
    }

    /// Returns whether the write buffer has entries that readers of the file do not see.
    pub(super) fn has_uncommitted(&self) -> bool {
        !self.write_buffer.lock().entries().is_empty()
    }

    /// Flushes the write buffer into the tables. After an error the entries stay in the buffer, and the flush is
    /// retried before anything else is stored.
    pub(super) fn flush(&mut self) -> Result<(), LogError> {
        self.insert_pending();
        let shared = self.write_buffer.clone();
        let mut buffer = shared.lock();
        if buffer.entries().is_empty() {
            return Ok(());
        }
        let begun = self.begin(&mut buffer);
        if begun.and_then(|()| self.commit(&mut buffer)).is_ok() {
            return Ok(());
        }
        self.retry_commit(&mut buffer)
            .map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// Inserts most of the entries into a transaction while other threads go on using the write buffer: they wait only
    /// for the last few entries and the commit.
    fn insert_pending(&mut self) {
        let shared = self.write_buffer.clone();
        loop {
            let next: Vec<JournalEntry> = {
                let mut buffer = shared.lock();
                if self.recover_lost_transaction(&mut buffer).is_err() {
                    return;
                }
                buffer
                    .pending()
                    .iter()
                    .take(MAX_INSERTED_AT_ONCE)
                    .cloned()
                    .collect()
            };
            if next.len() < MAX_INSERTED_AT_ONCE {
                return;
            }
            let inserted = self
                .tables
                .begin()
                .and_then(|()| self.tables.insert_entries(&next));
            let mut buffer = shared.lock();
            match inserted {
                Ok(()) => buffer.note_inserted(next.len()),
                // The commit inserts them once more.
                Err(_) => return drop(self.roll_back(&mut buffer)),
            }
        }
    }

    /// Inserts `records` into the open transaction or a new one. After an error none of them is inserted, and the
    /// acknowledged entries are safe.
    fn insert(
        &mut self,
        buffer: &mut WriteBuffer,
        unix: UnixMs,
        records: &[&Record],
    ) -> Result<Vec<Outcome>, LogError> {
        let oldest_ms = self.policy.oldest_ms(unix);
        self.begin(buffer)
            .and_then(|()| {
                let one = |record: &&Record| self.tables.insert(unix.now, oldest_ms, record);
                records.iter().map(one).collect()
            })
            .map_err(|error| self.undo(buffer, error))
    }

    /// SQLite rolls a transaction back by itself after some errors, also of a reading statement: the entries inserted
    /// into it must be inserted again.
    fn recover_lost_transaction(&mut self, buffer: &mut WriteBuffer) -> rusqlite::Result<()> {
        match self.tables.conn.is_autocommit() && buffer.inserted() > 0 {
            true => self.roll_back(buffer),
            false => Ok(()),
        }
    }

    /// Begins a transaction if none is open, and inserts all pending entries.
    pub(super) fn begin(&mut self, buffer: &mut WriteBuffer) -> rusqlite::Result<()> {
        self.recover_lost_transaction(buffer)?;
        self.tables.begin()?;
        self.tables.insert_entries(buffer.pending())?;
        buffer.note_inserted(buffer.pending().len());
        Ok(())
    }

    pub(super) fn commit(&mut self, buffer: &mut WriteBuffer) -> rusqlite::Result<()> {
        if self.policy.sync == Sync::Full
            && let Some(Err(error)) = self.tables.blobs.as_mut().map(BlobStore::sync)
        {
            return Err(blob_store::failure(&error));
        }
        self.check_files()?;
        self.tables.commit()?;
        buffer.note_commit();
        self.is_stuck = false;
        Ok(())
    }

    /// Rolls the transaction back; the acknowledged entries go into a new one, now or with the next append.
    pub(super) fn undo(&mut self, buffer: &mut WriteBuffer, error: rusqlite::Error) -> LogError {
        // Logged once, not with each batch until a commit succeeds.
        if let Err(error) = self.retry_commit(buffer)
            && !std::mem::replace(&mut self.is_stuck, true)
        {
            tracing::warn!(%error, waiting = buffer.entries().len(), "what is in the log's journal cannot be committed yet");
        }
        LogError::from_sqlite(&self.path, error)
    }

    /// Rolls back the open transaction, and commits the entries of the write buffer in one of their own.
    fn retry_commit(&mut self, buffer: &mut WriteBuffer) -> rusqlite::Result<()> {
        self.roll_back(buffer)?;
        if buffer.entries().is_empty() {
            return Ok(());
        }
        let stored = self.begin(buffer).and_then(|()| self.commit(buffer));
        stored.or_else(|error| self.roll_back(buffer).and(Err(error)))
    }

    pub(super) fn roll_back(&mut self, buffer: &mut WriteBuffer) -> rusqlite::Result<()> {
        buffer.note_rollback();
        self.tables.roll_back()
    }

    /// Returns the low watermark of `room`: older batches are not stored.
    pub fn low_watermark_ms(&self, room: &str) -> u64 {
        self.tables
            .names
            .rooms
            .get(room)
            .map_or(0, |room| room.low_watermark_ms)
    }

    /// Returns a reader of the committed batches.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.tables.conn, &self.path)
    }

    /// Flushes the write buffer and moves the whole WAL into the log's file, so that a copy of that file and its blob
    /// files is the log. If this fails, the rest is in the journal or the WAL, as after a crash.
    pub(super) fn close(&mut self) -> Result<(), LogError> {
        self.flush()?;
        self.check_files()
            .map_err(|error| LogError::from_sqlite(&self.path, error))?;
        match self.is_ephemeral() {
            true => Ok(()),
            false => self.truncate_wal().map(drop),
        }
    }

    /// Limits the file to so many pages, to act like a full disk.
    #[cfg(test)]
    pub(super) fn limit_pages(&mut self, pages: Option<i64>) -> rusqlite::Result<()> {
        if let Some(blobs) = &mut self.tables.blobs {
            blobs.is_full = pages.is_some();
        }
        let pages = pages.unwrap_or(i64::from(u32::MAX) - 1);
        self.tables
            .conn
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
    }

    /// Refuses every write, also a rollback's.
    #[cfg(test)]
    pub(super) fn refuse_writes(&self, refuse: bool) -> rusqlite::Result<()> {
        self.tables.conn.pragma_update(None, "query_only", refuse)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "the log was closed with its journal, which the next start reads");
        }
        let mut buffer = self.write_buffer.lock();
        if buffer.entries().is_empty()
            && let Some(journal) = buffer.take_journal()
        {
            journal.remove();
        }
    }
}
