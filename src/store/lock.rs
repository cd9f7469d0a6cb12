//! Lock file of the log: one process at a time writes it.
//!
//! Entry type: [`Lock`]. The rule it keeps: the lock does not touch the log's own file, so that readers are not excluded.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::LogError;
use super::opened_files::FileId;
use super::paths::beside;
use crate::identity;

/// Timeout of the log's lock: a reader may hold it to replay the journal of a killed process, and a process that
/// starts another shares its files with it until that one has begun.
const LOCK_TIMEOUT: Duration = Duration::from_millis(400);

/// Lock of the process that may write the log. SQLite's own locks would exclude readers too.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock on the log at `path`, waiting up to [`LOCK_TIMEOUT`]. The lock ends with the process.
    ///
    /// # Errors
    ///
    /// [`LogError::InUse`], with the process that holds it.
    pub(super) fn take(path: &Path) -> Result<Lock, LogError> {
        let until = Instant::now() + LOCK_TIMEOUT;
        loop {
            match Lock::try_take(path) {
                Err(LogError::InUse { .. }) if Instant::now() < until => {
                    std::thread::sleep(LOCK_TIMEOUT / 20);
                }
                result => return result,
            }
        }
    }

    /// Takes the lock on the log at `path` without waiting.
    ///
    /// # Errors
    ///
    /// [`LogError::InUse`], with the process that holds it.
    pub(super) fn try_take(path: &Path) -> Result<Lock, LogError> {
        let lock_path = beside(path, ".lock");
        let mut file = identity::open_private(&lock_path)
            .map_err(|error| LogError::from_io(&lock_path, error.into()))?;
        if file.try_lock().is_err() {
            let mut text = String::new();
            // The process id only completes the message: it may be missing.
            let _ = file.take(20).read_to_string(&mut text);
            return Err(LogError::InUse {
                path: path.to_owned(),
                by: text.trim().parse().ok(),
            });
        }
        // This is for the message above only: a full disk must not prevent the log from opening.
        let _ = file.set_len(0);
        let _ = write!(file, "{}", std::process::id());
        Ok(Lock { file })
    }

    /// Returns whether it is still the lock of the log at `path`: its file may have been removed or replaced.
    pub(super) fn is_of(&self, path: &Path) -> bool {
        let own = self.file.metadata().map(|metadata| FileId::of(&metadata));
        own.ok() == FileId::at(&beside(path, ".lock"))
    }
}
