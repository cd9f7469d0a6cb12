//! The log of a running node, and the status of its rooms.
//!
//! Entry types: [`Store`], [`RoomStatus`]. The rule it keeps: the log is available to all holders of the store until
//! the node has stopped, and to none after that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::crowding::Crowders;
use crate::clock::Clock;
use crate::store::Writer;

/// The status of a room: its stored batches, and the neighbours in sync with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RoomStatus {
    /// The name of the room.
    pub room: String,
    /// Number of stored batches that are compared.
    pub batches: usize,
    /// Number of linked peers in the room that take part in data checking.
    pub neighbours: usize,
    /// Number of neighbours that held the same batches at the last comparison.
    pub agreed: usize,
    /// Time for which at least one neighbour has been in sync without a break.
    pub agreed_for: Option<Duration>,
    /// Number of batches fetched by data checking.
    pub repaired: u64,
}

/// The log of a node while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    writer: Arc<Mutex<Option<Arc<Writer>>>>,
    /// The sources that exceed their share of the log.
    pub(crate) crowders: Crowders,
}

impl Store {
    pub(crate) fn new(writer: Writer, clock: Clock) -> Store {
        Store {
            writer: Arc::new(Mutex::new(Some(Arc::new(writer)))),
            crowders: Crowders::new(clock),
        }
    }

    /// Returns the log, unless the node has stopped.
    pub(crate) fn get(&self) -> Option<Arc<Writer>> {
        self.writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn take(&self) -> Option<Arc<Writer>> {
        self.writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
