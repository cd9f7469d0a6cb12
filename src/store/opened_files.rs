//! Detects that another program removed, renamed or replaced the log's files (cleaners of /tmp do), while SQLite would
//! go on writing into files that nobody can open.
//!
//! Entry type: [`OpenedFiles`]. The rule it keeps: a check costs two `stat` calls, and changes nothing.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::paths;

/// Identity of a file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Returns the identity of the file at `path`; none if it is missing or inaccessible.
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

    /// Other systems do not let an open file be removed.
    #[cfg(not(unix))]
    pub(super) fn of(_: &Metadata) -> FileId {
        FileId {
            device: 0,
            inode: 0,
        }
    }
}

/// Identities of the log's own file and its WAL at the time they were opened.
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
    /// Records the files of the log at `path`, which has just been opened.
    pub(super) fn of(path: &Path) -> OpenedFiles {
        let wal = paths::beside(path, "-wal");
        OpenedFiles {
            log_id: FileId::at(path),
            wal_id: FileId::at(&wal),
            log: path.to_owned(),
            wal,
        }
    }

    /// Checks both files and returns the size of the WAL.
    ///
    /// # Errors
    ///
    /// [`Displaced`] if one of them is missing or replaced. Other errors of the system (a network file system that is
    /// away) are ignored here: the next write reports them.
    pub(super) fn check(&self) -> Result<u64, Displaced> {
        // A file that was missing at first cannot be displaced.
        let bytes = |path: &Path, id: Option<FileId>| match (fs::metadata(path), id) {
            (Ok(found), Some(id)) if FileId::of(&found) != id => Err(Displaced),
            (Ok(found), _) => Ok(found.len()),
            (Err(error), Some(_)) if is_gone(&error) => Err(Displaced),
            (Err(_), _) => Ok(0),
        };
        bytes(&self.log, self.log_id)?;
        bytes(&self.wal, self.wal_id)
    }

    /// Returns whether the log's own file is the one that was opened.
    pub(super) fn has_own_file(&self) -> bool {
        self.log_id.is_some() && FileId::at(&self.log) == self.log_id
    }
}

/// Returns whether the file or its directory is missing.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
