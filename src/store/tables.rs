//! The log's tables and blob files: transactions, and what is counted of them.
//!
//! Entry type: [`Tables`]. The rule it keeps: what is cached of the tables is read again after a rollback.

use rusqlite::Connection;

use super::blob_store::{BlobStore, Unsynced};
use super::journal::JournalEntry;
use super::names::Names;
use super::quota::{Owner, Usage};

/// The tables of an open log with their blob files, cached row numbers and counted quotas.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) conn: Connection,
    /// Large envelopes; none for a log in memory.
    pub(super) blobs: Option<BlobStore>,
    pub(super) names: Names,
    /// Bytes held by each author, counted only while the log is full.
    pub(super) usage: Option<Usage>,
}

impl Tables {
    /// Reads the cached row numbers from the tables.
    pub(super) fn new(conn: Connection) -> rusqlite::Result<Tables> {
        Ok(Tables {
            names: Names::read(&conn)?,
            conn,
            blobs: None,
            usage: None,
        })
    }

    /// Begins a transaction if none is open.
    pub(super) fn begin(&mut self) -> rusqlite::Result<()> {
        if self.conn.is_autocommit() {
            self.conn.prepare_cached("BEGIN")?.execute([])?;
        }
        Ok(())
    }

    /// Commits the open transaction.
    pub(super) fn commit(&mut self) -> rusqlite::Result<()> {
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        if let Some(blobs) = &mut self.blobs {
            blobs.commit();
        }
        Ok(())
    }

    /// Rolls the open transaction back.
    pub(super) fn roll_back(&mut self) -> rusqlite::Result<()> {
        // SQLite rolls back by itself after some errors.
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK")?;
        }
        if let Some(blobs) = &mut self.blobs {
            blobs.roll_back();
        }
        // The row numbers that the transaction had given to rooms and instances are void, and so are its counts.
        self.usage = None;
        self.names = Names::default();
        self.names = Names::read(&self.conn)?;
        Ok(())
    }

    /// Inserts entries of the write buffer into the open transaction.
    pub(super) fn insert_entries(&mut self, entries: &[JournalEntry]) -> rusqlite::Result<()> {
        for (stored_at_ms, record) in entries {
            // The age was checked on acceptance, and the room's low watermark does not pass an entry.
            self.insert(*stored_at_ms, 0, record)?;
        }
        Ok(())
    }

    /// Returns the sending time of the newest batch, in Unix milliseconds; none if there is none.
    pub(super) fn newest_ms(&self) -> rusqlite::Result<Option<u64>> {
        let mut query = self
            .conn
            .prepare("SELECT max(sent_at_ms) FROM batch WHERE room = ?1")?;
        let mut newest: Option<i64> = None;
        for room in self.names.rooms.values() {
            newest = newest.max(query.query_row([room.n], |row| row.get(0))?);
        }
        Ok(newest.map(|ms| ms as u64))
    }

    /// Counts the bytes of each author. Reads an index with about 20 bytes for each batch; later inserts and removals
    /// keep the count.
    pub(super) fn count_usage(&mut self) -> rusqlite::Result<()> {
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

    /// Returns the blob file that is to be synced to the disk in the background.
    pub(super) fn unsynced(&self) -> Unsynced {
        self.blobs
            .as_ref()
            .map(BlobStore::unsynced)
            .unwrap_or_default()
    }

    /// Returns whether there is such a file.
    pub(super) fn has_unsynced(&self) -> bool {
        self.blobs.as_ref().is_some_and(BlobStore::has_unsynced)
    }
}
