//! The log on disk: every node stores the batches of its rooms.
//!
//! The write path: [`Writer`] queues an append; a small batch goes into the write buffer and the journal and is
//! acknowledged; half a second later the write buffer is flushed into the tables of an SQLite file, which a person can
//! read. Envelopes over 64 KiB go into the blob store, plain files beside the log. In the background, checkpoints move
//! SQLite's WAL into the file, and retention removes batches by age and, when the log is full, by the quotas of
//! authors. After a crash, recovery replays the journal; `repair` saves a damaged file.
//!
//! An acknowledged batch survives the end of the process at once. The log stores a batch once and marks the second of
//! two batches of an author with the same sequence numbers.
//!
//! The rule it keeps: data of a neighbour is untrusted until it is verified; only a
//! [`Verified`](crate::model::Verified) batch enters the log.

mod archive;
mod author_history;
mod blob_store;
mod checkpoint;
mod command;
mod disk_space;
mod disk_usage;
mod error;
mod history;
mod insert;
mod journal;
mod lock;
mod log;
mod maintenance;
mod names;
mod opened_files;
mod paths;
mod quota;
mod read;
mod recovery;
mod recreate;
mod repair;
mod retention;
mod retention_policy;
mod salvage;
mod schema;
mod sequence_range;
mod tables;
#[cfg(test)]
mod tests;
mod tombstones;
mod wal;
mod write_buffer;
mod write_loop;
mod writer;

pub use archive::Archive;
pub use author_history::AuthoredBatch;
pub use command::{Appended, Notice};
pub use error::LogError;
pub use history::{Cursor, History, PAGE_BYTES, PAGE_ROWS, Page, Query};
pub use log::Log;
pub use maintenance::{Imported, Refused, Report, check, export, import};
pub use paths::FILE_NAME;
pub use read::{Reader, RoomStats};
pub use recreate::Recreated;
pub use repair::{Repaired, network_in, repair};
pub use retention::{Crowding, Pruned};
pub use retention_policy::{RetentionPolicy, Sync};
pub use sequence_range::{SeqPage, SeqRange};
pub use writer::{QueueFull, Writer};
