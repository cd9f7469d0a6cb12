//! The log: every node keeps the batches of its rooms.
//!
//! The log ([`Log`], on threads of its own: [`Writer`]) is an SQLite file that a person can read; small batches come into
//! it half a second later, through a plain file beside it. What it acknowledges survives the end of the process at once.
//! It holds a batch once, knows an author that gives the same numbers twice, and when it is full takes room from who fills
//! it, their oldest first.
//!
//! The rule it keeps: what a neighbour sends is nothing until the verifier has said so; only a
//! [`Verified`](crate::model::Verified) batch enters the log.

mod care;
mod checkpoint;
mod disk_space;
mod error;
mod front;
mod in_place;
mod keep;
mod log;
mod numbered;
mod own;
mod prune;
mod read;
mod remake;
mod removed;
mod repair;
mod rows;
mod salvage;
mod schema;
mod share;
mod shelf;
mod space;
mod tail;
#[cfg(test)]
mod tests;
mod writer;
mod writing;

pub use care::{Imported, Refused, Report, check, export, import};
pub use error::LogError;
pub use keep::Keep;
pub use log::Log;
pub use numbered::{NumberedPage, Numbers};
pub use own::Said;
pub use prune::{Crowding, Pruned};
pub use read::{Archive, Cursor, History, PAGE_BYTES, PAGE_ROWS, Page, Query, Reader, RoomStats};
pub use remake::Remade;
pub use repair::{Repaired, network_in, repair};
pub use schema::{FILE_NAME, Sync};
pub use writer::{Appended, QueueFull, Writer};
pub use writing::Notice;
