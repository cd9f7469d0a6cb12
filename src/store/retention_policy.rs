//! Bounds of the log: maximum age and size, and durability.
//!
//! Entry type: [`RetentionPolicy`].

use std::time::Duration;

use super::blob_store;
use super::wal::WalBounds;
use crate::clock::UnixMs;
use crate::model::DEFAULT_RETENTION_AGE;

/// Durability of acknowledged batches in a power cut. They survive the end of the process in both modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Every acknowledged batch survives: each commit waits for the disk.
    Full,
    /// The last moments before the power cut may be lost; the file is never damaged.
    #[default]
    Normal,
}

/// Maximum age and size of the log, and what a power cut may destroy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Maximum age: batches sent earlier are removed.
    pub age: Duration,
    /// Maximum bytes of the file's pages in use and of the blob files, unreferenced ranges included. Beyond it the
    /// oldest batches of the authors with the most bytes are removed. [`RetentionPolicy::most_on_disk`] gives the
    /// total of all files.
    pub bytes: u64,
    /// Durability: the writes that survive a power cut.
    pub sync: Sync,
}

/// Bytes of the log's files beyond the bound, apart from the WAL and two blob files: batches stored since the last
/// check of the bounds, free pages, the journal.
const MARGIN_BYTES: u64 = 8 << 20;

impl RetentionPolicy {
    /// Returns the maximum of bytes that all files of the log take at any time: the bound, the WAL (an eighth of the
    /// bound, but 8 to 128 MiB), two blob files, and 8 MiB. A reader of another program that keeps a transaction open
    /// prevents the WAL from being truncated, and so can exceed it.
    pub fn most_on_disk(&self) -> u64 {
        let wal = WalBounds::of(self.bytes).most as u64;
        self.bytes + wal + 2 * blob_store::max_file_bytes(self.bytes) + MARGIN_BYTES
    }

    /// Returns the sending time in Unix milliseconds below which batches are refused.
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
