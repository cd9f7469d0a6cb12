//! Recovery of the journal: replays the batches that a killed process had acknowledged and not flushed.
//!
//! Entry points: [`Log::recover_journal`], [`recover_before_reading`]. The rule it keeps: replaying a batch again that the log holds
//! changes nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use super::error::LogError;
use super::journal::{self, Journal, JournalEntry};
use super::lock::Lock;
use super::log::Log;
use super::read::Reader;
use super::retention_policy::{RetentionPolicy, Sync};
use super::schema;

/// How long a reader waits for a running process to flush its journal. A flush happens within half a second, unless
/// the disk is full.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(2);

impl Log {
    /// Replays the journal: stores the batches that a killed process had acknowledged and not flushed.
    pub(super) fn recover_journal(&mut self) -> Result<(), LogError> {
        let path = journal::path_of(&self.path);
        let failed = |error| LogError::from_io(&path, error);
        let entries = journal::read(&path).map_err(failed)?;
        if !entries.is_empty() {
            tracing::debug!(batches = entries.len(), "the log's journal is read");
            self.write_buffer.lock().restore(entries);
            self.flush()?;
        }
        let journal = Journal::create(path.clone()).map_err(failed)?;
        match self.policy.sync {
            Sync::Normal => self.write_buffer.lock().set_journal(journal),
            Sync::Full => journal.remove(),
        }
        Ok(())
    }
}

/// Brings the journal of the log at `path` into its file before the file is only read: replays it if its process was
/// killed, and waits for the flush if that process runs.
pub(super) fn recover_before_reading(path: &Path) {
    let Ok(entries) = journal::read(&journal::path_of(path)) else {
        return;
    };
    let until = Instant::now() + JOURNAL_TIMEOUT;
    loop {
        // The reader that follows reports the error.
        let Ok(conn) = schema::open_to_read(path) else {
            return;
        };
        let reader = Reader::new(&conn, path);
        let missing =
            |(_, record): &&JournalEntry| reader.holds(&record.id).is_ok_and(|held| !held);
        let missing = entries.iter().filter(missing).count();
        if missing == 0 {
            return;
        }
        let opened = Lock::try_take(path)
            .and_then(|lock| Log::open_locked(lock, path, RetentionPolicy::default()));
        match opened {
            Ok(_) => return,
            Err(LogError::InUse { .. }) if Instant::now() < until => {
                std::thread::sleep(JOURNAL_TIMEOUT / 200);
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
