//! The log: every node keeps the batches of its rooms.
//!
//! The log ([`Log`], on threads of its own: [`Writer`]) is an SQLite file that a person can read; small batches come into
//! it half a second later, through a plain file beside it. What it acknowledges survives the end of the process at once.
//! It holds a batch once, knows an author that gives the same numbers twice, and when it is full takes room from who fills
//! it, their oldest first.
//!
//! The rule it keeps: what a neighbour sends is nothing until the verifier has said so; only a
//! [`Verified`](crate::model::Verified) batch enters the log.

mod author_history;
mod blob_store;
mod checkpoint;
mod disk_space;
mod disk_usage;
mod error;
mod insert;
mod journal;
mod log;
mod maintenance;
mod opened_files;
mod quota;
mod read;
mod recreate;
mod repair;
mod retention;
mod retention_policy;
mod salvage;
mod schema;
mod sequence_range;
#[cfg(test)]
mod tests;
mod tombstones;
mod write_buffer;
mod write_loop;
mod writer;

pub use author_history::AuthoredBatch;
pub use error::LogError;
pub use log::Log;
pub use maintenance::{Imported, Refused, Report, check, export, import};
pub use read::{Archive, Cursor, History, PAGE_BYTES, PAGE_ROWS, Page, Query, Reader, RoomStats};
pub use recreate::Recreated;
pub use repair::{Repaired, network_in, repair};
pub use retention::{Crowding, Pruned};
pub use retention_policy::RetentionPolicy;
pub use schema::{FILE_NAME, Sync};
pub use sequence_range::{SeqPage, SeqRange};
pub use write_loop::Notice;
pub use writer::{Appended, QueueFull, Writer};
