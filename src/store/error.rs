//! Errors of the log, with a remedy for each.
//!
//! Entry type: [`LogError`]. The rule it keeps: each message names the file, says whether anything was lost, and what
//! to do.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use crate::identity::NetworkId;

/// Error of opening, writing or reading the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Another process writes this log.
    #[error(
        "the log {path} is in use by another {}: stop that one, or give this one a data directory of its own",
        by.map_or_else(|| "program".to_owned(), |pid| format!("diatribe process ({pid})"))
    )]
    InUse {
        /// The log's file.
        path: PathBuf,
        /// Process id of the holder, if it is known.
        by: Option<u32>,
    },
    /// The file or its directory cannot be written.
    #[error(
        "the log {path} cannot be written: make the file and its directory writable for this user, or run with --ephemeral; nothing was lost"
    )]
    ReadOnly {
        /// The log's file.
        path: PathBuf,
    },
    /// No space is left where the log lies.
    #[error(
        "no space is left for the log {path}: what was acknowledged is safe, this was not stored; free space or lower --keep-bytes"
    )]
    Full {
        /// The log's file.
        path: PathBuf,
    },
    /// The files were removed, renamed or replaced while the log was open.
    #[error(
        "the files of the log {path} were removed or replaced while it was open: this was not stored; keep other programs away from the data directory"
    )]
    Displaced {
        /// The log's file.
        path: PathBuf,
    },
    /// The directory was removed or renamed while the log was open.
    #[error(
        "the data directory {directory} is gone: nothing is stored until it is back; make it again (`mkdir -p`), and what the log held is written there, or stop this node and give it a --data-dir that no program clears"
    )]
    DirectoryGone {
        /// The data directory.
        directory: PathBuf,
    },
    /// The file is damaged.
    #[error(
        "the log {path} is damaged ({detail}): nothing was written over; `diatribe log repair` saves what can be read and keeps the old file"
    )]
    Damaged {
        /// The log's file.
        path: PathBuf,
        /// Complaint of SQLite.
        detail: String,
    },
    /// A file that belongs to a log is present, and the log's own file is missing or empty.
    #[error(
        "the log {path} is missing or empty, and {orphan} belongs to it: nothing was written; put the file back beside it (the files of a log are only of use together), or move all that begin with its name away to begin an empty log"
    )]
    Orphaned {
        /// The log's file.
        path: PathBuf,
        /// A file beside it that is not empty.
        orphan: PathBuf,
    },
    /// The file is a database of another program.
    #[error(
        "{path} is a database of another program: nothing was written; choose another data directory"
    )]
    Foreign {
        /// The log's file.
        path: PathBuf,
    },
    /// The log was written by a later version.
    #[error(
        "the log {path} has schema {found}, this program knows {known}: use the newer diatribe, or export with it and import here; nothing was written"
    )]
    Newer {
        /// The log's file.
        path: PathBuf,
        /// The schema in the file.
        found: i64,
        /// The schema of this program.
        known: i64,
    },
    /// The log was written by an earlier version, with signatures of another form.
    #[error(
        "the log {path} has schema {found}; this program knows {known} and cannot verify what it holds: `diatribe log repair` keeps the old file and begins a new log, or give another data directory; nothing was written"
    )]
    Older {
        /// The log's file.
        path: PathBuf,
        /// The schema in the file.
        found: i64,
        /// The schema of this program.
        known: i64,
    },
    /// The log belongs to another network.
    #[error(
        "the log {path} belongs to {log}, not to {network}: {}, or another data directory; nothing was written",
        with_key(*.log)
    )]
    OtherNetwork {
        /// The log's file.
        path: PathBuf,
        /// Network of the log.
        log: NetworkId,
        /// Network that it was opened for.
        network: NetworkId,
    },
    /// There is no log.
    #[error("there is no log at {path}: a node that ran with this data directory makes one")]
    Absent {
        /// The log's file.
        path: PathBuf,
    },
    /// The log's threads have ended.
    #[error("the log is closed: this was not stored")]
    Closed,
    /// A line of an import is no exported batch.
    #[error(
        "line {line} of the import is no exported batch: {detail}; the lines before it are stored"
    )]
    Import {
        /// Number of the line, from 1.
        line: u64,
        /// Reason for which it is refused.
        detail: String,
    },
    /// The operating system failed.
    #[error("the log {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// SQLite failed in a way that has no variant here.
    #[error("the log {path}: {source}; `diatribe log check` says whether it is damaged")]
    Sqlite {
        /// The log's file.
        path: PathBuf,
        /// Error of SQLite.
        source: rusqlite::Error,
    },
}

/// Returns the advice that puts a program into this network.
fn with_key(network: NetworkId) -> &'static str {
    match network {
        NetworkId::OPEN => "leave --network-key away",
        _ => "give the --network-key that it was made with",
    }
}

impl LogError {
    /// Converts an error of SQLite on the log at `path`.
    pub(super) fn from_sqlite(path: &Path, error: rusqlite::Error) -> LogError {
        let path = path.to_owned();
        let extended = error.sqlite_error().map(|error| error.extended_code);
        if extended == Some(ffi::SQLITE_READONLY_DBMOVED) {
            return LogError::Displaced { path };
        }
        if let rusqlite::Error::FromSqlConversionFailure(..) = error {
            let detail = error.to_string();
            return LogError::Damaged { path, detail };
        }
        let Some(code) = error.sqlite_error_code() else {
            return LogError::Sqlite {
                path,
                source: error,
            };
        };
        match code {
            ErrorCode::DiskFull => LogError::Full { path },
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => LogError::ReadOnly { path },
            ErrorCode::CannotOpen if path.exists() => LogError::ReadOnly { path },
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => LogError::Damaged {
                path,
                detail: error.to_string(),
            },
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                LogError::InUse { path, by: None }
            }
            _ => LogError::Sqlite {
                path,
                source: error,
            },
        }
    }

    /// Converts an I/O error on `path`.
    pub(super) fn from_io(path: &Path, source: io::Error) -> LogError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LogError::Full { path },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                LogError::ReadOnly { path }
            }
            io::ErrorKind::NotFound => LogError::Absent { path },
            _ => LogError::Io { path, source },
        }
    }
}
