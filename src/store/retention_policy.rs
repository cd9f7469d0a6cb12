//! What a log keeps, and what it takes on the disk for that.
//!
//! Entry type: [`RetentionPolicy`].

use std::time::Duration;

use super::blob_store;
use super::checkpoint::WalBounds;
use super::schema::Sync;
use crate::clock::UnixMs;
use crate::model::DEFAULT_RETENTION_AGE;

/// How long and how much the log keeps, and what a power cut may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Batches sent longer ago are removed.
    pub age: Duration,
    /// The most that the file's pages in use and the large envelopes beside it may take, holes between these included;
    /// the oldest batches of those who take most make room. [`Keep::most_on_disk`] says what all files together take.
    pub bytes: u64,
    /// What survives a power cut.
    pub sync: Sync,
}

/// What the log's files take beside the WAL and two files of large envelopes, past the bound, in bytes: batches that came
/// since the bound was last looked at, free pages, the tail.
const MARGIN_BYTES: u64 = 8 << 20;

impl RetentionPolicy {
    /// The most that all files of the log take on the disk together, in bytes, at any time: the bound, the WAL (an eighth
    /// of the bound, but 8 MiB at least and 128 MiB at most), two files of large envelopes, and 8 MiB. A reader that
    /// leaves a transaction open, as another program may, keeps the WAL from being cut.
    pub fn most_on_disk(&self) -> u64 {
        let wal = WalBounds::of(self.bytes).most as u64;
        self.bytes + wal + 2 * blob_store::max_file_bytes(self.bytes) + MARGIN_BYTES
    }

    /// Batches sent before this are not taken, in Unix milliseconds.
    pub(super) fn oldest_ms(&self, unix: UnixMs) -> u64 {
        unix.aging.saturating_sub(self.age.as_millis() as u64)
    }
}

impl Default for RetentionPolicy {
    fn default() -> RetentionPolicy {
        RetentionPolicy {
            age: DEFAULT_RETENTION_AGE,
            bytes: 1 << 30,
            sync: Sync::default(),
        }
    }
}
