//! Signed batches on their way from the outbox to the loop, and the outcome on its way back.
//!
//! Entry types: [`Publish`], [`PublishResult`]. The rule it keeps: the outcomes are those of the first batches, in order; the
//! others were not published.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use crate::gossip::VerifiedBatch;
use crate::net::backpressure::AnnouncementGuard;
use crate::node::error::BroadcastError;

/// Signed batches of one room for the loop to publish.
pub(crate) struct Publish {
    /// The batches that are not published yet.
    pub(crate) batches: VecDeque<VerifiedBatch>,
    /// The outcomes of those that are.
    pub(crate) published: Vec<PublishOutcome>,
    pub(crate) reply: oneshot::Sender<PublishResult>,
}

/// The outcome of publishing one batch.
#[derive(Debug)]
pub(crate) struct PublishOutcome {
    /// Number of links that took the batch.
    pub(crate) links: usize,
    /// Held while the batch is to be announced to the neighbours, which happens once it is stored; none when it was
    /// gossiped.
    pub(crate) to_announce: Option<AnnouncementGuard>,
}

/// The outcome of publishing a group of batches.
pub(crate) struct PublishResult {
    /// The outcomes of the batches that were published, in order.
    pub(crate) published: Vec<PublishOutcome>,
    /// The reason why the remaining batches were not.
    pub(crate) refused: Option<BroadcastError>,
}
