//! Making the log anew where it was opened, when another program has removed, renamed or replaced its files.
//!
//! Entry point: [`Log::recreate`]. The rules it keeps: what the files held is copied out of the files that are still open;
//! what is acknowledged and not committed stays in memory until it is in the new log; a file that another program has put
//! in the log's place is renamed, not removed.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::blob_store::BlobStore;
use super::error::LogError;
use super::insert::Names;
use super::journal::{self, Journal};
use super::log::Log;
use super::opened_files::{FileId, OpenedFiles};
use super::schema::{self, Lock};

/// The files of a log, by what their names end with, the log's own first.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// A log that was made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recreated {
    /// The log's file.
    pub path: PathBuf,
    /// How many batches the new one holds.
    pub batches: u64,
    /// How many batches the old one held which are not in the new one, because their files are gone: neighbours are asked
    /// for them.
    pub lost: u64,
    /// The file of another program that was in its place, by its new name.
    pub set_aside: Option<PathBuf>,
}

/// What happened, what it means and what to do.
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
    /// Makes the log anew where it was opened. After an error nothing is stored, and what was acknowledged is in memory:
    /// call it again.
    ///
    /// # Errors
    ///
    /// [`LogError::DirectoryGone`], [`LogError::InUse`] when another process has made a log there meanwhile, or whatever
    /// keeps a file from being written.
    pub(super) fn recreate(&mut self) -> Result<Recreated, LogError> {
        let shared = self.write_buffer.clone();
        let mut buffer = shared.lock();
        buffer.set_displaced(true);
        self.roll_back(&mut buffer)
            .map_err(|error| LogError::from_sqlite(&self.path, error))?;
        let path = self.path.clone();
        let directory = schema::directory_of(&path);
        if !directory.is_dir() {
            return Err(LogError::DirectoryGone {
                directory: directory.to_owned(),
            });
        }
        self.lock_again()?;
        let held = count(&self.conn).unwrap_or(0);
        let network = schema::network_of(&self.conn).ok().flatten();
        let copy = self.copy()?;
        let set_aside = self.clear_the_place()?;
        if let Some(copy) = copy {
            fs::rename(&copy, &path).map_err(|error| LogError::from_io(&path, error))?;
        }
        let conn = schema::open(&path, &self.keep)?;
        let failed = |error| LogError::from_sqlite(&path, error);
        if let Some(network) = network {
            schema::set_network(&conn, network).map_err(failed)?;
        }
        let blobs = BlobStore::open(&path, self.keep.bytes, &conn).map_err(failed)?;
        self.blobs = Some(match self.blobs.take() {
            Some(old) => blobs.instead_of(&old),
            None => blobs,
        });
        let old = std::mem::replace(&mut self.conn, conn);
        abandon(old);
        self.opened_files = Some(OpenedFiles::of(&path));
        self.names = Names::read(&self.conn).map_err(failed)?;
        self.usage = None;
        buffer.forget();
        self.generation.fetch_add(1, Ordering::AcqRel);
        let batches = count(&self.conn).map_err(failed)?;
        self.restart_journal(&mut buffer)?;
        buffer.set_displaced(false);
        Ok(Recreated {
            path,
            batches,
            lost: held.saturating_sub(batches),
            set_aside,
        })
    }

    /// Commits what is acknowledged, and begins a new tail.
    fn restart_journal(
        &mut self,
        buffer: &mut super::write_buffer::WriteBuffer,
    ) -> Result<(), LogError> {
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

    /// Takes the lock on the log's name again, when the file that was locked is not there any more.
    fn lock_again(&mut self) -> Result<(), LogError> {
        if self
            .lock
            .as_ref()
            .is_some_and(|lock| !lock.is_of(&self.path))
        {
            self.lock = Some(Lock::try_take(&self.path)?);
        }
        Ok(())
    }

    /// Copies all that the open files hold into one file beside the log; none when they cannot be read.
    fn copy(&self) -> Result<Option<PathBuf>, LogError> {
        let copy = schema::beside(&self.path, ".remade");
        let failed = |error| LogError::from_io(&copy, error);
        remove(&copy).map_err(failed)?;
        schema::make_private(&copy)?;
        let copied = self
            .conn
            .execute("VACUUM INTO ?1", [copy.to_string_lossy()]);
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

    /// Has no file under the log's names: what is left of our own is removed, for all that it holds is in the copy; what
    /// another program has put there gets another name, which is returned.
    fn clear_the_place(&self) -> Result<Option<PathBuf>, LogError> {
        let failed = |error| LogError::from_io(&self.path, error);
        let is_own = self
            .opened_files
            .as_ref()
            .is_some_and(OpenedFiles::has_own_file);
        let is_there = FileId::at(&self.path).is_some();
        if is_own || !is_there {
            for suffix in SUFFIXES {
                remove(&schema::beside(&self.path, suffix)).map_err(failed)?;
            }
            return Ok(None);
        }
        let Some(aside) = (1..)
            .map(|n| schema::beside(&self.path, &format!(".set-aside-{n}")))
            .find(|aside| FileId::at(aside).is_none())
        else {
            return Ok(None);
        };
        for suffix in SUFFIXES {
            let (from, to) = (
                schema::beside(&self.path, suffix),
                schema::beside(&aside, suffix),
            );
            match fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        Ok(Some(aside))
    }
}

/// Closes a connection to files that nobody else can open any more, without touching what has their names now.
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
