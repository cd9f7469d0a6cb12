//! Recreates the log in its place after another program removed, renamed or replaced its files.
//!
//! Entry point: [`Log::recreate`]. The rules it keeps: the content is copied out of the files that are still open;
//! acknowledged batches stay in the write buffer until the new log has them; a file that another program put in the
//! log's place is renamed, not removed.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::blob_store::BlobStore;
use super::error::LogError;
use super::journal::{self, Journal};
use super::lock::Lock;
use super::log::Log;
use super::opened_files::{FileId, OpenedFiles};
use super::paths;
use super::schema;
use super::tables::Tables;
use super::write_buffer::WriteBuffer;

/// Suffixes of the log's SQLite files, its own first.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// Report of a recreated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recreated {
    /// The log's file.
    pub path: PathBuf,
    /// Number of batches in the new log.
    pub batches: u64,
    /// Number of batches of the old log that are not in the new one, because their files are gone; neighbours deliver
    /// them again.
    pub lost: u64,
    /// New name of the file that another program had put in the log's place.
    pub set_aside: Option<PathBuf>,
}

/// Says what happened, what it means and what to do.
impl fmt::Display for Recreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the files of the log {} were removed or replaced while this node ran: the log was made anew there, with the {} \
             batches that this node held",
            self.path.display(),
            self.batches
        )?;
        if self.lost > 0 {
            write!(
                f,
                "; {} more were in files that are gone, and neighbours are asked for them",
                self.lost
            )?;
        }
        if let Some(aside) = &self.set_aside {
            write!(f, "; what was in its place is kept as {}", aside.display())?;
        }
        write!(
            f,
            "; keep other programs, such as cleaners of /tmp, away from the data directory, or give another --data-dir"
        )
    }
}

impl Log {
    /// Recreates the log in its place. After an error nothing is stored and the acknowledged batches are in memory:
    /// call it again.
    ///
    /// # Errors
    ///
    /// [`LogError::DirectoryGone`], [`LogError::InUse`] if another process has created a log there meanwhile, and any
    /// failure to write a file.
    pub(super) fn recreate(&mut self) -> Result<Recreated, LogError> {
        let shared = self.write_buffer.clone();
        let mut buffer = shared.lock();
        buffer.set_displaced(true);
        self.roll_back(&mut buffer)
            .map_err(|error| LogError::from_sqlite(&self.path, error))?;
        let path = self.path.clone();
        let directory = paths::directory_of(&path);
        if !directory.is_dir() {
            return Err(LogError::DirectoryGone {
                directory: directory.to_owned(),
            });
        }
        self.retake_lock()?;
        let held = count(&self.tables.conn).unwrap_or(0);
        let network = schema::network_of(&self.tables.conn).ok().flatten();
        let copy = copy(&self.tables.conn, &path)?;
        let set_aside = free_names(&path, self.opened_files.as_ref())?;
        if let Some(copy) = copy {
            fs::rename(&copy, &path).map_err(|error| LogError::from_io(&path, error))?;
        }
        let conn = schema::open(&path, &self.policy)?;
        let failed = |error| LogError::from_sqlite(&path, error);
        if let Some(network) = network {
            schema::set_network(&conn, network).map_err(failed)?;
        }
        let blobs = BlobStore::open(&path, self.policy.bytes, &conn).map_err(failed)?;
        let old = std::mem::replace(&mut self.tables, Tables::new(conn).map_err(failed)?);
        self.tables.blobs = Some(match &old.blobs {
            Some(old) => blobs.replacing(old),
            None => blobs,
        });
        abandon(old.conn);
        self.opened_files = Some(OpenedFiles::of(&path));
        buffer.clear_heads();
        self.generation.fetch_add(1, Ordering::AcqRel);
        let batches = count(&self.tables.conn).map_err(failed)?;
        self.restart_journal(&mut buffer)?;
        buffer.set_displaced(false);
        Ok(Recreated {
            path,
            batches,
            lost: held.saturating_sub(batches),
            set_aside,
        })
    }

    /// Commits the write buffer and creates a new journal.
    fn restart_journal(&mut self, buffer: &mut WriteBuffer) -> Result<(), LogError> {
        let path = self.path.clone();
        if !buffer.entries().is_empty() {
            self.begin(buffer)
                .and_then(|()| self.commit(buffer))
                .map_err(|error| LogError::from_sqlite(&path, error))?;
        }
        if buffer.take_journal().is_some() {
            let journal_path = journal::path_of(&path);
            let journal = Journal::create(journal_path.clone())
                .map_err(|error| LogError::from_io(&journal_path, error))?;
            buffer.set_journal(journal);
        }
        Ok(())
    }

    /// Takes the lock again if the locked file was removed or replaced.
    fn retake_lock(&mut self) -> Result<(), LogError> {
        if self
            .lock
            .as_ref()
            .is_some_and(|lock| !lock.is_of(&self.path))
        {
            self.lock = Some(Lock::try_take(&self.path)?);
        }
        Ok(())
    }
}

/// Copies the content of the open files into one file beside the log; none if they cannot be read.
fn copy(conn: &Connection, path: &Path) -> Result<Option<PathBuf>, LogError> {
    let copy = paths::beside(path, ".remade");
    let failed = |error| LogError::from_io(&copy, error);
    remove(&copy).map_err(failed)?;
    paths::make_private(&copy)?;
    let copied = conn.execute("VACUUM INTO ?1", [copy.to_string_lossy()]);
    match copied.map_err(|error| LogError::from_sqlite(&copy, error)) {
        Ok(_) => {
            let synced = File::open(&copy).and_then(|file| file.sync_all());
            synced.map_err(failed)?;
            Ok(Some(copy))
        }
        Err(error @ (LogError::Full { .. } | LogError::ReadOnly { .. })) => {
            remove(&copy).map_err(failed)?;
            Err(error)
        }
        Err(error) => {
            tracing::warn!(%error, "what the log held cannot be read any more: it begins empty");
            remove(&copy).map_err(failed)?;
            Ok(None)
        }
    }
}

/// Frees the log's file names: removes the own files, whose content is in the copy, or renames those of another
/// program and returns their new name.
fn free_names(
    path: &Path,
    opened_files: Option<&OpenedFiles>,
) -> Result<Option<PathBuf>, LogError> {
    let failed = |error| LogError::from_io(path, error);
    let is_own = opened_files.is_some_and(OpenedFiles::has_own_file);
    let is_there = FileId::at(path).is_some();
    if is_own || !is_there {
        for suffix in SUFFIXES {
            remove(&paths::beside(path, suffix)).map_err(failed)?;
        }
        return Ok(None);
    }
    let Some(aside) = (1..)
        .map(|n| paths::beside(path, &format!(".set-aside-{n}")))
        .find(|aside| FileId::at(aside).is_none())
    else {
        return Ok(None);
    };
    for suffix in SUFFIXES {
        let (from, to) = (paths::beside(path, suffix), paths::beside(&aside, suffix));
        match fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(Some(aside))
}

/// Closes a connection to removed files without a checkpoint, which would touch the files that have their names now.
fn abandon(conn: Connection) {
    let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    drop(conn);
}

fn count(conn: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = conn.query_row("SELECT count(*) FROM batch", [], |row| row.get(0))?;
    Ok(count as u64)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
