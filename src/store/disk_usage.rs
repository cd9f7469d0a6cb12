//! Disk usage of the log: pages in use, size of the WAL, and the check of its files.
//!
//! Entry points: [`Log::used_bytes`], [`Log::wal`], [`Log::check_files`]. The rule it keeps: nothing here changes the
//! stored batches.

use rusqlite::{Connection, ffi};

use super::error::LogError;
use super::log::Log;
use super::opened_files::{Displaced, OpenedFiles};
use super::tables::Tables;
use super::{blob_store, wal};

/// Maximum number of free pages in the file, 2 MiB: removed batches leave them for the next ones.
const MAX_FREE_PAGES: i64 = 64;

/// Number of free pages returned to the disk in one transaction: each may move another page.
const PAGES_AT_ONCE: i64 = 32;

/// SQLite's value of `auto_vacuum` for a file that can return free pages; files of earlier versions cannot.
const INCREMENTAL: i64 = 2;

impl Tables {
    /// Returns the bytes that the bound counts: pages in use and blob files.
    pub(super) fn used(&self) -> rusqlite::Result<u64> {
        Ok(used_bytes(&self.conn)? + blob_store::used_bytes(&self.conn)?)
    }

    /// Returns free pages to the disk if there are more than [`MAX_FREE_PAGES`]: the bound counts used pages and blob
    /// files, and free pages come on top.
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
        // Each step returns one page.
        while rows.next()?.is_some() {}
        Ok(())
    }
}

impl Log {
    /// Returns the bytes of the file's pages in use and of the blob files.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub fn used_bytes(&self) -> Result<u64, LogError> {
        self.tables
            .used()
            .map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// Runs a checkpoint: moves the WAL into the file as far as no reader needs it.
    pub(super) fn checkpoint(&self) -> Result<(), LogError> {
        wal::checkpoint(&self.tables.conn).map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// Moves the whole WAL into the file and truncates it. Returns false if a reader prevented that.
    pub(super) fn truncate_wal(&self) -> Result<bool, LogError> {
        wal::truncate(&self.tables.conn).map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// Returns the size of the WAL.
    pub(super) fn wal(&self) -> Result<wal::Wal, LogError> {
        wal::size(&self.tables.conn).map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// Fails if the log's files were displaced: what is committed to them is in no log.
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

    /// Returns the size of the WAL's file before the last commit.
    pub(super) fn wal_file_bytes(&self) -> u64 {
        self.wal_file_bytes
    }
}

fn used_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok((pages * pragma("page_size")?) as u64)
}
