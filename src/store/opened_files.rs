//! Whether the log's files are still those that were opened: other programs, such as cleaners of /tmp, may remove, rename
//! or replace them while a node runs, and SQLite would go on writing into files that nobody can open any more.
//!
//! Entry type: [`OpenedFiles`]. The rule it keeps: a look costs two `stat` calls, and changes nothing.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::schema;

/// What tells a file from every other one, whatever its name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file at `path`; none when there is none, or it cannot be looked at.
    pub(super) fn at(path: &Path) -> Option<FileId> {
        fs::metadata(path).ok().map(|found| FileId::of(&found))
    }

    #[cfg(unix)]
    pub(super) fn of(metadata: &Metadata) -> FileId {
        use std::os::unix::fs::MetadataExt;
        FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Elsewhere the system keeps a file that is open from being removed.
    #[cfg(not(unix))]
    pub(super) fn of(_: &Metadata) -> FileId {
        FileId {
            device: 0,
            inode: 0,
        }
    }
}

/// The files that were opened: the log's own and its WAL.
#[derive(Debug)]
pub(super) struct OpenedFiles {
    log: PathBuf,
    wal: PathBuf,
    log_id: Option<FileId>,
    wal_id: Option<FileId>,
}

/// The log's own file or its WAL is not the one that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Displaced;

impl OpenedFiles {
    /// The files of the log at `path`, which has just been opened.
    pub(super) fn of(path: &Path) -> OpenedFiles {
        let wal = schema::beside(path, "-wal");
        OpenedFiles {
            log_id: FileId::at(path),
            wal_id: FileId::at(&wal),
            log: path.to_owned(),
            wal,
        }
    }

    /// Looks for both files and returns the bytes of the WAL.
    ///
    /// # Errors
    ///
    /// [`Displaced`] when one of them is missing or another file has its name. A system that answers neither (a network
    /// file system that is away) is no reason: what is written next tells.
    pub(super) fn check(&self) -> Result<u64, Displaced> {
        // One that was not there when it was looked for first cannot be missed.
        let bytes = |path: &Path, id: Option<FileId>| match (fs::metadata(path), id) {
            (Ok(found), Some(id)) if FileId::of(&found) != id => Err(Displaced),
            (Ok(found), _) => Ok(found.len()),
            (Err(error), Some(_)) if is_gone(&error) => Err(Displaced),
            (Err(_), _) => Ok(0),
        };
        bytes(&self.log, self.log_id)?;
        bytes(&self.wal, self.wal_id)
    }

    /// Whether the log's own file is the one that was opened.
    pub(super) fn has_own_file(&self) -> bool {
        self.log_id.is_some() && FileId::at(&self.log) == self.log_id
    }
}

/// Whether there is no such file, or no directory in which it could be.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
