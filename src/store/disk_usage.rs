//! What the log takes on the disk: its pages, the WAL, and whether its files are still there.
//!
//! Entry points: [`Log::used_bytes`], and what looks after the WAL. The rule it keeps: none of it changes what is held.

use rusqlite::{Connection, ffi};

use super::error::LogError;
use super::log::Log;
use super::opened_files::{Displaced, OpenedFiles};
use super::{blob_store, schema};

/// Pages of the file that may be free: removed batches leave some, which the next ones fill. 2 MiB.
const MAX_FREE_PAGES: i64 = 64;

/// Free pages given back to the disk in one transaction: each may have another page moved into its place.
const PAGES_AT_ONCE: i64 = 32;

/// What SQLite says of a file whose free pages can be given back; one that an earlier version made keeps them.
const INCREMENTAL: i64 = 2;

impl Log {
    /// The bytes of the file's pages in use, and of the large envelopes beside it.
    pub fn used_bytes(&self) -> Result<u64, LogError> {
        self.used()
            .map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    pub(super) fn used(&self) -> rusqlite::Result<u64> {
        Ok(used_bytes(&self.conn)? + blob_store::taken(&self.conn)?)
    }

    /// Gives the disk back some of the file's pages that are free, when they are many: what others take of the bound,
    /// large envelopes beside the file for one, must not come on top of them.
    pub(super) fn give_pages_back(&self) -> rusqlite::Result<()> {
        let free: i64 = self
            .conn
            .pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        let mode: i64 = self
            .conn
            .pragma_query_value(None, "auto_vacuum", |row| row.get(0))?;
        if free <= MAX_FREE_PAGES || mode != INCREMENTAL {
            return Ok(());
        }
        let mut vacuum = self
            .conn
            .prepare(&format!("PRAGMA incremental_vacuum({PAGES_AT_ONCE})"))?;
        let mut rows = vacuum.query([])?;
        // Each step gives one page back.
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// Moves what the WAL holds into the file, as far as no reader is in the way.
    pub(super) fn checkpoint(&self) -> Result<(), LogError> {
        schema::checkpoint(&self.conn).map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// Moves all that the WAL holds into the file and cuts the WAL to nothing. Returns whether no reader was in the way.
    pub(super) fn truncate_wal(&self) -> Result<bool, LogError> {
        schema::truncate_wal(&self.conn).map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// Looks how far the WAL has grown.
    pub(super) fn wal(&self) -> Result<schema::Wal, LogError> {
        schema::wal(&self.conn).map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// Fails when the log's files are not where they were opened: what is committed to them is in no log.
    pub(super) fn check_files(&mut self) -> rusqlite::Result<()> {
        match self.opened_files.as_ref().map(OpenedFiles::check) {
            Some(Err(Displaced)) => {
                let code = ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
                Err(rusqlite::Error::SqliteFailure(code, None))
            }
            Some(Ok(bytes)) => {
                self.wal_file_bytes = bytes;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The bytes of the WAL's file before the last commit.
    pub(super) fn wal_file_bytes(&self) -> u64 {
        self.wal_file_bytes
    }
}

fn used_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok((pages * pragma("page_size")?) as u64)
}
