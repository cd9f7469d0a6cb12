//! The log itself: batches in, in transactions; out of it what makes room when it is full.
//!
//! Entry type: [`Log`], which runs on whatever thread it is given ([`super::Writer`] gives it one).
//! The rules it keeps: a batch is acknowledged only when its transaction is committed, or when its
//! [`WriteBuffer`] has it; a batch is there once; what was removed for its age does not come back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::blob_store::{self, BlobStore, Unsynced};
use super::error::LogError;
use super::insert::{Names, Tables, head_of, insert_record};
use super::journal::{self, Journal, JournalEntry};
use super::opened_files::OpenedFiles;
use super::quota::Usage;
use super::read::Reader;
use super::retention_policy::RetentionPolicy;
use super::schema::{self, Lock, Sync};
use super::write_buffer::{SharedWriteBuffer, WriteBuffer};
use crate::clock::UnixMs;
use crate::identity::NetworkId;
use crate::model::{Outcome, Record, Verified};

/// Batches that are put into the open transaction before those that store others may do so.
const INSERTED_AT_ONCE: usize = 16;

/// How long a reader waits for a process that runs to commit what is in the tail, which takes it half a
/// second at most, unless the disk is full.
const JOURNAL_WAIT: Duration = Duration::from_secs(2);

/// The log, open for writing. One process has it at a time.
#[derive(Debug)]
pub struct Log {
    pub(super) conn: Connection,
    pub(super) path: PathBuf,
    pub(super) keep: RetentionPolicy,
    pub(super) names: Names,
    /// None in memory.
    pub(super) blobs: Option<BlobStore>,
    /// Who fills it, counted as long as there is not room for all.
    pub(super) usage: Option<Usage>,
    /// What is acknowledged and not committed; the transaction that is open, or the next, takes it in.
    pub(super) write_buffer: SharedWriteBuffer,
    /// That it cannot be committed was said, and it could not since.
    is_stuck: bool,
    /// Whether the files are still where they were opened. None in memory.
    pub(super) opened_files: Option<OpenedFiles>,
    /// The WAL's file had so many bytes before the last commit.
    pub(super) wal_file_bytes: u64,
    /// How often the log was made anew: who has a connection of its own opens it again.
    pub(super) generation: Arc<AtomicU64>,
    pub(super) lock: Option<Lock>,
}

impl Log {
    /// Opens the log in the directory `dir`, or makes one.
    pub fn open(dir: &Path, keep: RetentionPolicy) -> Result<Log, LogError> {
        Log::open_file(&dir.join(schema::FILE_NAME), keep)
    }

    /// Opens or makes the log whose file is `path`.
    pub(super) fn open_file(path: &Path, keep: RetentionPolicy) -> Result<Log, LogError> {
        Log::open_locked(Lock::take(path)?, path, keep)
    }

    fn open_locked(lock: Lock, path: &Path, keep: RetentionPolicy) -> Result<Log, LogError> {
        let conn = schema::open(path, &keep)?;
        let blobs = BlobStore::open(path, keep.bytes, &conn);
        let blobs = blobs.map_err(|error| LogError::from_sqlite(path, error))?;
        let mut log = Log::over(conn, path.to_owned(), keep, Some(lock))?;
        log.blobs = Some(blobs);
        log.recover_journal()?;
        Ok(log)
    }

    /// Stores what a process that was killed had acknowledged and not committed.
    fn recover_journal(&mut self) -> Result<(), LogError> {
        let path = journal::path_of(&self.path);
        let failed = |error| LogError::from_io(&path, error);
        let kept = journal::read(&path).map_err(failed)?;
        if !kept.is_empty() {
            tracing::debug!(batches = kept.len(), "the log's journal is read");
            self.write_buffer.lock().take_up(kept);
            self.flush()?;
        }
        let journal = Journal::create(path.clone()).map_err(failed)?;
        match self.keep.sync {
            Sync::Normal => self.write_buffer.lock().set_journal(journal),
            Sync::Full => journal.remove(),
        }
        Ok(())
    }

    /// A log in memory, with the same bounds; it ends with the process.
    pub fn ephemeral(keep: RetentionPolicy) -> Result<Log, LogError> {
        let path = PathBuf::from(":memory:");
        let conn = schema::open_in_memory().map_err(|error| LogError::from_sqlite(&path, error))?;
        let log = Log::over(conn, path, keep, None)?;
        log.write_buffer.lock().set_journal(Journal::in_memory());
        Ok(log)
    }

    fn over(
        conn: Connection,
        path: PathBuf,
        keep: RetentionPolicy,
        lock: Option<Lock>,
    ) -> Result<Log, LogError> {
        let names = Names::read(&conn).map_err(|error| LogError::from_sqlite(&path, error))?;
        let mut buffer = WriteBuffer::default();
        for (name, room) in &names.rooms {
            buffer.set_low_watermark(name, room.low_watermark_ms);
        }
        Ok(Log {
            conn,
            keep,
            names,
            blobs: None,
            usage: None,
            write_buffer: SharedWriteBuffer::new(buffer),
            is_stuck: false,
            opened_files: lock.as_ref().map(|_| OpenedFiles::of(&path)),
            wal_file_bytes: 0,
            generation: Arc::default(),
            path,
            lock,
        })
    }

    /// The log as one of this network: a new one belongs to it from now on.
    ///
    /// # Errors
    ///
    /// [`LogError::OtherNetwork`] when it belongs to another one: what it holds could not be verified here.
    pub fn of_network(self, network: NetworkId) -> Result<Log, LogError> {
        let failed = |error| LogError::from_sqlite(&self.path, error);
        match schema::network_of(&self.conn).map_err(failed)? {
            Some(log) if log != network => Err(LogError::OtherNetwork {
                path: self.path.clone(),
                log,
                network,
            }),
            Some(_) => Ok(self),
            None => {
                schema::set_network(&self.conn, network).map_err(failed)?;
                Ok(self)
            }
        }
    }

    /// The network that the log belongs to: the open one, as long as it belongs to none.
    pub fn network(&self) -> Result<NetworkId, LogError> {
        let network = schema::network_of(&self.conn);
        let network = network.map_err(|error| LogError::from_sqlite(&self.path, error))?;
        Ok(network.unwrap_or(NetworkId::OPEN))
    }

    /// The log's file; `:memory:` for an ephemeral log.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The date of the newest batch, in Unix milliseconds; none when there is none.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn newest_ms(&self) -> Result<Option<u64>, LogError> {
        let newest = || -> rusqlite::Result<Option<i64>> {
            let mut query = self
                .conn
                .prepare("SELECT max(sent_at_ms) FROM batch WHERE room = ?1")?;
            let mut newest = None;
            for room in self.names.rooms.values() {
                newest = newest.max(query.query_row([room.n], |row| row.get(0))?);
            }
            Ok(newest)
        };
        let newest = newest().map_err(|error| LogError::from_sqlite(&self.path, error))?;
        Ok(newest.map(|ms| ms as u64))
    }

    /// The bounds it was opened with.
    pub fn keep(&self) -> &RetentionPolicy {
        &self.keep
    }

    /// Whether it lies in memory only.
    pub fn is_ephemeral(&self) -> bool {
        self.lock.is_none()
    }

    /// Stores what is new of `batches` in one transaction and says of each what became of it. After
    /// an error none of them is stored.
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
        buffer.forget();
        Ok(outcomes)
    }

    /// As [`Log::append`], but of a few small batches only the [`WriteBuffer`] hears for good: readers of the file see
    /// them after [`Log::flush`].
    pub(super) fn append_soon(
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
            // There is nothing to commit, unless the transaction has more than that.
            true => !buffer.entries().is_empty(),
            false => buffer.keep(unix.now, &new),
        };
        if is_kept {
            buffer.note_inserted(new.len());
        } else {
            self.commit(&mut buffer)
                .map_err(|error| self.undo(&mut buffer, error))?;
        }
        self.learn(&mut buffer, records, &outcomes);
        Ok(outcomes)
    }

    /// Tells the front how far the authors of `records` have come, so that it can take by itself what follows.
    fn learn(&self, buffer: &mut WriteBuffer, records: &[&Record], outcomes: &[Outcome]) {
        for (record, outcome) in records.iter().zip(outcomes) {
            if !matches!(outcome, Outcome::New { .. }) {
                continue;
            }
            let head = match buffer.knows(record) {
                true => Ok(Some(record.end_seq())),
                false => head_of(&self.conn, &self.names, record),
            };
            match head {
                Ok(Some(head)) => buffer.learn(record, head),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "an author's last number was not found"),
            }
        }
    }

    /// What is acknowledged and not committed, for those that store something by themselves.
    pub(super) fn write_buffer(&self) -> SharedWriteBuffer {
        self.write_buffer.clone()
    }

    /// Whether there is anything that readers of the file do not see yet.
    pub(super) fn has_uncommitted(&self) -> bool {
        !self.write_buffer.lock().entries().is_empty()
    }

    /// Commits what was put off. After an error the front still has it, and it is tried again before anything
    /// else is stored.
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
        self.store_again(&mut buffer)
            .map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// Puts most of what is to be committed into a transaction, while others go on storing: they wait only for the
    /// rest of it, and for the commit.
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
                    .take(INSERTED_AT_ONCE)
                    .cloned()
                    .collect()
            };
            if next.len() < INSERTED_AT_ONCE {
                return;
            }
            let inserted = self.begin_empty().and_then(|()| self.insert_entries(&next));
            let mut buffer = shared.lock();
            match inserted {
                Ok(()) => buffer.note_inserted(next.len()),
                // It is tried once more with the commit.
                Err(_) => return drop(self.roll_back(&mut buffer)),
            }
        }
    }

    /// Puts `records` into the transaction that is open, or a new one. After an error what had been
    /// acknowledged is safe, and none of them is in.
    fn insert(
        &mut self,
        buffer: &mut WriteBuffer,
        unix: UnixMs,
        records: &[&Record],
    ) -> Result<Vec<Outcome>, LogError> {
        let oldest_ms = self.keep.oldest_ms(unix);
        self.begin(buffer)
            .and_then(|()| {
                let one =
                    |record: &&Record| insert_record(self.tables(), unix.now, oldest_ms, record);
                records.iter().map(one).collect()
            })
            .map_err(|error| self.undo(buffer, error))
    }

    fn tables(&mut self) -> Tables<'_> {
        Tables {
            conn: &self.conn,
            blobs: self.blobs.as_mut(),
            names: &mut self.names,
            usage: self.usage.as_mut(),
        }
    }

    pub(super) fn begin_empty(&mut self) -> rusqlite::Result<()> {
        if self.conn.is_autocommit() {
            self.conn.prepare_cached("BEGIN")?.execute([])?;
        }
        Ok(())
    }

    /// After some errors, a reading statement's too, SQLite rolls the transaction back by itself: what was in it is
    /// in none then.
    fn recover_lost_transaction(&mut self, buffer: &mut WriteBuffer) -> rusqlite::Result<()> {
        match self.conn.is_autocommit() && buffer.inserted() > 0 {
            true => self.roll_back(buffer),
            false => Ok(()),
        }
    }

    /// Begins a transaction, if none is open, and takes in all that is acknowledged.
    pub(super) fn begin(&mut self, buffer: &mut WriteBuffer) -> rusqlite::Result<()> {
        self.recover_lost_transaction(buffer)?;
        self.begin_empty()?;
        self.insert_entries(buffer.pending())?;
        buffer.note_inserted(buffer.pending().len());
        Ok(())
    }

    fn insert_entries(&mut self, kept: &[JournalEntry]) -> rusqlite::Result<()> {
        for (stored_at_ms, record) in kept {
            // Its age was looked at when it was taken, and the room's horizon does not move past it.
            insert_record(self.tables(), *stored_at_ms, 0, record)?;
        }
        Ok(())
    }

    pub(super) fn commit(&mut self, buffer: &mut WriteBuffer) -> rusqlite::Result<()> {
        if self.keep.sync == Sync::Full
            && let Some(Err(error)) = self.blobs.as_mut().map(BlobStore::sync)
        {
            return Err(blob_store::failure(&error));
        }
        self.check_files()?;
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        if let Some(blobs) = &mut self.blobs {
            blobs.commit();
        }
        buffer.note_commit();
        self.is_stuck = false;
        Ok(())
    }

    /// The transaction is void: what was acknowledged goes into a new one, now or with the next append.
    pub(super) fn undo(&mut self, buffer: &mut WriteBuffer, error: rusqlite::Error) -> LogError {
        // AuthoredBatch once, not with each batch that comes meanwhile.
        if let Err(error) = self.store_again(buffer)
            && !std::mem::replace(&mut self.is_stuck, true)
        {
            tracing::warn!(%error, waiting = buffer.entries().len(), "what is in the log's journal cannot be committed yet");
        }
        LogError::from_sqlite(&self.path, error)
    }

    /// Ends the transaction that is open without its aim, and commits what the tail has in one of its own.
    fn store_again(&mut self, buffer: &mut WriteBuffer) -> rusqlite::Result<()> {
        self.roll_back(buffer)?;
        if buffer.entries().is_empty() {
            return Ok(());
        }
        let stored = self.begin(buffer).and_then(|()| self.commit(buffer));
        stored.or_else(|error| self.roll_back(buffer).and(Err(error)))
    }

    pub(super) fn roll_back(&mut self, buffer: &mut WriteBuffer) -> rusqlite::Result<()> {
        buffer.note_rollback();
        // SQLite does it by itself after some errors.
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK")?;
        }
        if let Some(blobs) = &mut self.blobs {
            blobs.roll_back();
        }
        // The numbers of rooms and instances that the transaction had made are void, whatever comes next; so is what
        // was counted of it.
        self.usage = None;
        self.names = Names::default();
        self.names = Names::read(&self.conn)?;
        Ok(())
    }

    /// The most recent batches sent before this are not held: `room`'s horizon.
    pub fn low_watermark_ms(&self, room: &str) -> u64 {
        self.names
            .rooms
            .get(room)
            .map_or(0, |room| room.low_watermark_ms)
    }

    /// Reads what is stored, this far.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.conn, &self.path)
    }

    /// Files of large envelopes that are to be brought to the disk in the background.
    pub(super) fn unsynced(&self) -> Unsynced {
        self.blobs
            .as_ref()
            .map(BlobStore::unsynced)
            .unwrap_or_default()
    }

    /// Whether there is one.
    pub(super) fn has_unsynced(&self) -> bool {
        self.blobs.as_ref().is_some_and(BlobStore::has_unsynced)
    }

    /// Commits what was put off and moves everything into the log's file, so that a copy of that file and of the large
    /// envelopes beside it is the log. For a clean end; what fails here is in the tail or the WAL, as after a crash.
    pub(super) fn close(&mut self) -> Result<(), LogError> {
        self.flush()?;
        self.check_files()
            .map_err(|error| LogError::from_sqlite(&self.path, error))?;
        match self.is_ephemeral() {
            true => Ok(()),
            false => self.truncate_wal().map(drop),
        }
    }

    /// Lets the file grow to so many pages only, as a full disk would.
    #[cfg(test)]
    pub(super) fn limit_pages(&mut self, pages: Option<i64>) -> rusqlite::Result<()> {
        if let Some(blobs) = &mut self.blobs {
            blobs.is_full = pages.is_some();
        }
        let pages = pages.unwrap_or(i64::from(u32::MAX) - 1);
        self.conn
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
    }

    /// Lets nothing be written any more, not even what was rolled back.
    #[cfg(test)]
    pub(super) fn refuse_writes(&self, refuse: bool) -> rusqlite::Result<()> {
        self.conn.pragma_update(None, "query_only", refuse)
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

/// Before the log in whose file `path` is only read: has what is in its tail brought into the file. A process
/// that was killed can do so no more; one that runs is about to.
pub(super) fn recover_before_reading(path: &Path) {
    let Ok(kept) = journal::read(&journal::path_of(path)) else {
        return;
    };
    let until = Instant::now() + JOURNAL_WAIT;
    loop {
        // A log that cannot be opened is named by whoever reads it.
        let Ok(conn) = schema::open_to_read(path) else {
            return;
        };
        let reader = Reader::new(&conn, path);
        let missing =
            |(_, record): &&JournalEntry| reader.holds(&record.id).is_ok_and(|held| !held);
        let missing = kept.iter().filter(missing).count();
        if missing == 0 {
            return;
        }
        let opened = Lock::try_take(path)
            .and_then(|lock| Log::open_locked(lock, path, RetentionPolicy::default()));
        match opened {
            Ok(_) => return,
            Err(LogError::InUse { .. }) if Instant::now() < until => {
                std::thread::sleep(JOURNAL_WAIT / 200);
            }
            Err(error) => {
                tracing::warn!(
                    %error,
                    "the last {missing} batches before the process was killed are safe in {}, but not in what is read",
                    journal::path_of(path).display()
                );
                return;
            }
        }
    }
}
