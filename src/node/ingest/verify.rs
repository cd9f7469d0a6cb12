//! Verification of fetched envelopes, by the rules that hold for gossip.
//!
//! Entry type: [`Fetch`]. The rule it keeps: an envelope that does not verify, or is not the announced one, counts as
//! forged and is not stored.

use bytes::Bytes;
use libp2p::PeerId;

use crate::gossip::{self, BatchError, VerifiedBatch};
use crate::identity::NetworkId;
use crate::model::{Id, RoomName};
use crate::node::clocks::ClockReport;
use crate::node::event::{Event, EventBus};

/// Envelopes that a neighbour sent in answer to a fetch.
pub(super) struct Fetch {
    pub(super) peer_id: PeerId,
    /// Number of the fetch in anti-entropy.
    pub(super) ticket: u64,
    pub(super) room: String,
    pub(super) envelopes: Vec<Bytes>,
    /// The id of the one batch that was fetched because the neighbour had announced it.
    pub(super) announced: Option<Id>,
    pub(super) network: NetworkId,
    pub(super) now_ms: u64,
    pub(super) bus: EventBus,
}

impl Fetch {
    /// Returns the batches, in the order of the envelopes, and the number of forged envelopes. An envelope that is dated
    /// too far ahead is left out and not forged: one of the two clocks is wrong, which is reported.
    pub(super) fn verify(self) -> (Vec<VerifiedBatch>, u64) {
        let Ok(room) = self.room.parse::<RoomName>() else {
            return (Vec::new(), self.envelopes.len() as u64);
        };
        let mut batches = Vec::with_capacity(self.envelopes.len());
        let mut forged = 0;
        for envelope in self.envelopes {
            match gossip::open(envelope, self.network, &room, self.now_ms) {
                Ok(batch) if self.announced.is_none_or(|id| id == batch.id().0) => {
                    batches.push(batch);
                }
                Err(BatchError::Ahead { author, by_ms }) => {
                    let report = ClockReport::author_ahead(author, by_ms);
                    self.bus.emit(Event::Clock(report));
                }
                Ok(_) | Err(_) => forged += 1,
            }
        }
        (batches, forged)
    }
}
