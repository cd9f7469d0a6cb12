//! The outbox's queue: events of the application that wait to be sent.
//!
//! Entry: [`permit`], for one [`Outgoing`]. The rule it keeps: queued events are bounded by number and by bytes, and an
//! application that is past either waits (backpressure).

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::receipt::BroadcastReceipt;
use crate::gossip;
use crate::model::RoomName;
use crate::node::error::BroadcastError;

/// Maximum number of queued events. Past it [`crate::Node::broadcast`] waits, which is the backpressure on the application.
pub(crate) const MAX_WAITING: usize = 4096;
/// Maximum number of bytes of queued events, counted as [`gossip::Event::cost`]: 8 MiB.
pub(crate) const MAX_WAITING_BYTES: usize = 8 << 20;

/// An event in the outbox's queue.
pub(crate) struct Outgoing {
    pub(crate) room: RoomName,
    pub(crate) event: gossip::Event,
    pub(crate) reply: oneshot::Sender<Result<BroadcastReceipt, BroadcastError>>,
    /// Its share of [`MAX_WAITING_BYTES`], released when the event is answered.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Waits for an event's share of [`MAX_WAITING_BYTES`].
///
/// # Errors
///
/// [`BroadcastError::Stopped`] when the node has stopped.
pub(crate) async fn permit(
    bytes: &Arc<Semaphore>,
    event: &gossip::Event,
) -> Result<OwnedSemaphorePermit, BroadcastError> {
    let share = u32::try_from(event.cost().min(MAX_WAITING_BYTES)).unwrap_or(u32::MAX);
    bytes
        .clone()
        .acquire_many_owned(share)
        .await
        .map_err(|_| BroadcastError::Stopped)
}
