//! What is told the keeper, and what it wants of the loop.
//!
//! Entry types: [`Note`], [`Wish`].

use bytes::Bytes;
use libp2p::PeerId;
use tokio::sync::oneshot;

use crate::gossip::VerifiedBatch;
use crate::model::RoomName;
use crate::net::backpressure::OfferGuard;
use crate::node::outbox::Unconfirmed;
use crate::node::store::RoomStatus;
use crate::sync::RequestId;

/// What the loop and the outbox tell the keeper.
#[derive(Debug)]
pub(crate) enum Note {
    Join(RoomName),
    Leave(RoomName),
    LinkUp(PeerId),
    /// The neighbour understands offers of large batches.
    TakesOffers(PeerId),
    LinkDown(PeerId),
    /// The neighbour is in these rooms; in none when it does not take part in data checking.
    RoomsOf(PeerId, Vec<String>),
    Request(PeerId, RequestId, Bytes),
    /// A large answer to such a request was sent; false: it could not be.
    Sent(RequestId, bool),
    Response(u64, Bytes),
    Failed(u64),
    /// A batch of our own was stored; whether the neighbours are to be offered it, and who waits until some of them have
    /// stored it too.
    Own(VerifiedBatch, Option<OfferGuard>, Option<Unconfirmed>),
    /// The neighbour's clock says this now, in Unix milliseconds.
    Clock(PeerId, u64),
    Status(oneshot::Sender<Vec<RoomStatus>>),
    /// Tell when no neighbour is about to fetch any more what it was offered.
    AllTaken(oneshot::Sender<()>),
}

/// What the keeper wants of the loop.
#[derive(Debug)]
pub(crate) enum Wish {
    Ask {
        peer_id: PeerId,
        token: u64,
        request: Vec<u8>,
    },
    Reply {
        request: RequestId,
        response: Vec<u8>,
    },
    Drop {
        peer_id: PeerId,
        reason: String,
    },
    /// A neighbour's clock says this now, in Unix milliseconds.
    Clock(PeerId, u64),
    /// Gossip a batch that was offered to us, if there are neighbours that understand no offers.
    Gossip(VerifiedBatch),
}
