//! Senders that wait for their events, and the receipts that they get.
//!
//! Entry types: [`BroadcastReceipt`], [`Unconfirmed`]. The rule it keeps: each sender gets one answer.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::model::BatchId;
use crate::node::error::BroadcastError;

/// The receipt for an event that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BroadcastReceipt {
    /// The batch that contains the event.
    pub id: BatchId,
    /// The event's number among this process's events in the room, from 1.
    pub seq: u64,
    /// Number of links that took the event. It is 0 when the last link was lost, or all were full, at that very moment: the
    /// event is in the log, and neighbours fetch it from there.
    pub links: usize,
    /// Number of neighbours that have confirmed that they store the event; 0 unless that was asked for
    /// ([`crate::node::NodeBuilder::confirmed_by`]).
    pub confirmed: usize,
}

/// The sender of an event, and the event's share of [`super::queue::MAX_WAITING_BYTES`].
pub(super) type Waiting = (
    oneshot::Sender<Result<BroadcastReceipt, BroadcastError>>,
    OwnedSemaphorePermit,
);

/// The senders of a stored batch that waits for confirmations by neighbours. Dropping it without an answer tells them that
/// the node has stopped.
#[derive(Debug)]
pub(crate) struct Unconfirmed {
    pub(super) id: BatchId,
    pub(super) first_seq: u64,
    pub(super) links: usize,
    pub(super) waiting: Vec<Waiting>,
}

impl Unconfirmed {
    /// Sends the receipts: `confirmed` neighbours store the batch.
    pub(crate) fn confirm(self, confirmed: usize) {
        let Unconfirmed { id, links, .. } = self;
        for (seq, (reply, _)) in (self.first_seq..).zip(self.waiting) {
            // A sender may have given up waiting; its event is sent all the same.
            let _ = reply.send(Ok(BroadcastReceipt {
                id,
                seq,
                links,
                confirmed,
            }));
        }
    }

    /// Sends `error` to all senders.
    pub(crate) fn refuse(self, error: &BroadcastError) {
        refuse(self.waiting, error);
    }
}

/// Sends `error` to each of `waiting`.
pub(super) fn refuse(waiting: Vec<Waiting>, error: &BroadcastError) {
    for (reply, _) in waiting {
        let _ = reply.send(Err(error.clone()));
    }
}
