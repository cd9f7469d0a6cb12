//! The log of a running node, and how its rooms stand.
//!
//! Entry types: [`Store`], [`RoomStatus`]. The rule it keeps: whoever holds the store finds the log
//! until the node has stopped, and then nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::crowding::Crowders;
use crate::clock::Clock;
use crate::store::Writer;

/// How a room stands: what is kept of it, and how many neighbours hold the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct RoomStatus {
    /// The room.
    pub room: String,
    /// Batches that are kept and compared.
    pub batches: usize,
    /// Linked peers in the room that take part in data checking.
    pub neighbours: usize,
    /// Those that held the same when last compared.
    pub agreed: usize,
    /// How long at least one has agreed without a break.
    pub agreed_for: Option<Duration>,
    /// Batches that data checking has brought.
    pub repaired: u64,
}

/// The log of a node while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    writer: Arc<Mutex<Option<Arc<Writer>>>>,
    /// Who takes more than its share of it.
    pub(crate) crowders: Crowders,
}

impl Store {
    pub(crate) fn new(writer: Writer, clock: Clock) -> Store {
        Store {
            writer: Arc::new(Mutex::new(Some(Arc::new(writer)))),
            crowders: Crowders::new(clock),
        }
    }

    /// The log, unless the node has stopped.
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
