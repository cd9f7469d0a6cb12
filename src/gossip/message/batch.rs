//! Batches whose author is certain.
//!
//! Entry types: [`VerifiedBatch`], [`Sealed`]. The rule they keep: only the signer and the verifier of this module create
//! them, so a value proves that its author signed it for its room.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;

use super::event::{EVENT_OVERHEAD, Event};
use crate::identity::PublicKey;
use crate::model::{BatchId, Record, RoomName, Seal, Verified};
use crate::wire::envelope::MessageId;

/// A batch that its author has signed for its room. Clones share it.
#[derive(Clone)]
pub struct VerifiedBatch(Arc<Contents>);

/// The contents of a batch, which the signer and the verifier fill in.
pub(super) struct Contents {
    pub(super) bytes: Bytes,
    pub(super) id: BatchId,
    pub(super) author: PublicKey,
    pub(super) instance_id: [u8; 16],
    pub(super) first_seq: u64,
    pub(super) sent_at_ms: u64,
    pub(super) room: RoomName,
    pub(super) prev: Vec<BatchId>,
    pub(super) events: Vec<Event>,
}

/// A batch that this node has just signed. Only such a batch can be published.
#[derive(Clone, Debug)]
pub struct Sealed(VerifiedBatch);

impl VerifiedBatch {
    /// Returns the batch with these contents, which its author must have signed.
    pub(super) fn new(contents: Contents) -> VerifiedBatch {
        VerifiedBatch(Arc::new(contents))
    }

    /// Returns the envelope, as it is sent and stored.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// Returns the id of the batch.
    pub fn id(&self) -> BatchId {
        self.0.id
    }

    /// Returns the public id of the author.
    pub fn author(&self) -> PeerId {
        self.0.author.peer_id()
    }

    /// Returns the public key of the author.
    pub fn author_key(&self) -> &PublicKey {
        &self.0.author
    }

    /// Returns the random id of the author's running program.
    pub fn instance_id(&self) -> [u8; 16] {
        self.0.instance_id
    }

    /// Returns the number of the first event.
    pub fn first_seq(&self) -> u64 {
        self.0.first_seq
    }

    /// Returns the number of the last event.
    pub fn last_seq(&self) -> u64 {
        self.0.first_seq + (self.0.events.len() as u64 - 1)
    }

    /// Returns the author's Unix time in milliseconds when it signed the batch.
    pub fn sent_at_ms(&self) -> u64 {
        self.0.sent_at_ms
    }

    /// Returns the room for which it was signed and in which it arrived.
    pub fn room(&self) -> &RoomName {
        &self.0.room
    }

    /// Returns the ids of the author's previous batches in this room, each once. They are unchecked: the batches may be
    /// missing or not exist.
    pub fn prev(&self) -> &[BatchId] {
        &self.0.prev
    }

    /// Returns the events, at least one.
    pub fn events(&self) -> &[Event] {
        &self.0.events
    }

    /// Returns the bytes that the batch counts for in queues, shares and quotas: the size of its envelope, and
    /// [`EVENT_OVERHEAD`] for each event.
    pub fn cost(&self) -> usize {
        self.0.bytes.len() + EVENT_OVERHEAD * self.0.events.len()
    }

    /// Returns the events with their numbers.
    pub fn numbered_events(&self) -> impl Iterator<Item = (u64, &Event)> {
        (self.0.first_seq..).zip(&self.0.events)
    }
}

impl Sealed {
    /// Returns a batch that this node has just signed.
    pub(super) fn new(batch: VerifiedBatch) -> Sealed {
        Sealed(batch)
    }

    /// Returns the envelope to publish.
    pub fn bytes(&self) -> &Bytes {
        self.0.bytes()
    }

    /// Returns the id of the batch.
    pub fn id(&self) -> BatchId {
        self.0.id()
    }

    /// Returns the batch, which needs no verification.
    pub fn batch(&self) -> &VerifiedBatch {
        &self.0
    }
}

/// Only batches of the signer or the verifier enter the log.
impl Seal for VerifiedBatch {}

impl Verified for VerifiedBatch {
    fn record(&self) -> Record {
        Record {
            id: self.id().0,
            room: self.room().clone(),
            author: Bytes::copy_from_slice(&self.author_key().to_protobuf()),
            instance: self.instance_id(),
            first_seq: self.first_seq(),
            count: self.events().len() as u64,
            sent_at_ms: self.sent_at_ms(),
            bytes: self.bytes().clone(),
            brought_by: Bytes::new(),
        }
    }
}

impl From<Sealed> for VerifiedBatch {
    fn from(sealed: Sealed) -> VerifiedBatch {
        sealed.0
    }
}

impl From<MessageId> for BatchId {
    fn from(id: MessageId) -> BatchId {
        BatchId(*id.as_bytes())
    }
}

impl fmt::Debug for VerifiedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedBatch")
            .field("id", &self.0.id)
            .field("author", &self.author())
            .field("room", &self.0.room)
            .field("first_seq", &self.0.first_seq)
            .field("events", &self.0.events)
            .finish()
    }
}
