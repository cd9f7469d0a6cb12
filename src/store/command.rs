//! Messages between the log's handle and its threads.
//!
//! Entry types: [`Command`], [`Notice`].

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::error::LogError;
use super::read::Reader;
use super::recreate::Recreated;
use super::retention::Pruned;
use crate::model::{Outcome, Record};

/// Result of an append: an outcome for each batch, or the error for which none of them was stored.
pub type Appended = Result<Vec<Outcome>, Arc<LogError>>;

pub(super) type Done = Box<dyn FnOnce(Appended) + Send>;

/// A read, which is also given whether the reader sees every acknowledged batch. It does not while a flush fails, for
/// example because the disk is full.
pub(super) type ReadJob = Box<dyn FnOnce(&Reader<'_>, bool) + Send>;

/// An append in the queue.
pub(super) struct Append {
    pub(super) records: Vec<Record>,
    /// Size in KiB that it takes of the queue.
    pub(super) kib: u32,
    /// Permit for that size, released after the commit.
    pub(super) room: OwnedSemaphorePermit,
    pub(super) done: Done,
}

/// A command to the writing thread.
pub(super) enum Command {
    Append(Append),
    /// The write buffer became non-empty: schedule a flush.
    ScheduleFlush,
    Prune,
    Read(ReadJob),
}

/// Report of a change that the log made on its own initiative.
#[derive(Debug)]
pub enum Notice {
    /// Retention removed batches of a room or raised its low watermark.
    Pruned(Pruned),
    /// The log's files were removed, renamed or replaced, and the log was recreated in their place. Its rooms may hold
    /// less than before: read them again.
    Recreated(Recreated),
    /// The flush of acknowledged batches failed: they are in memory or in the journal, and the flush is retried.
    NotCommitted(LogError),
}
