//! Messages of gossip: events in a batch, and the batch signed in an envelope.
//!
//! Entry functions: [`Author::seal`] and [`open`]. The rules it keeps: only they create a [`VerifiedBatch`], so its author
//! has signed it for its room and network; and a batch has one canonical encoding, and so one id.
//! `proto/gossip.proto` has the rules for other languages.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use prost::encoding;

use crate::identity::{NetworkId, PublicKey, PublicKeyError};
use crate::model::{BatchId, EVENT_BYTES, Record, RoomName, Seal, Verified};
use crate::wire::envelope::{self, BodyHash, MessageId, NoEnvelope};
pub use crate::wire::envelope::{MAX_EVENT_DATA, MAX_MESSAGE};
use crate::wire::proto::gossip as proto;
use crate::wire::strict::Malformed;

mod author;
mod body;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use author::Author;
use body::Body;

/// Maximum size of an event's name in bytes.
pub const MAX_EVENT_NAME: usize = 256;

/// Maximum size of a batch of several events in bytes, each event counted as [`Event::cost`]. It is large enough to make
/// signatures, forwarding and the log's rows cheap: under full load an event costs a sixth less than with 64 KiB (measured;
/// twice the size gains little more). It is small enough not to delay the next message: 0.2 s at 10 Mbit/s, and only when
/// that much is queued.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Maximum number of events in a batch. Each event costs its reader an allocation, a line of output and a row in the log,
/// however small it is, and a message of two-byte events would otherwise have half a million of them.
pub const MAX_EVENTS: usize = 1024;

/// Bytes that each event counts for beyond its own size in queues, in an author's share of the log and in quotas. A node
/// spends about that much on an empty event.
pub const EVENT_OVERHEAD: usize = 64;

/// The log counts events in the same way.
const _: () = assert!(EVENT_BYTES == EVENT_OVERHEAD as u64);

/// Maximum number of previous batches that a batch refers to: one of its own instance, and the newest of three other
/// instances with the same identity.
pub const MAX_PREV: usize = 4;

/// Maximum number of an event, 2^53 − 1: JSON and SQLite represent it exactly in every language.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

/// Maximum time, in milliseconds, by which a batch may be dated ahead of this node's clock: badly set clocks differ by as
/// much.
pub const MAX_AHEAD_MS: u64 = 5 * 60 * 1000;

/// Domain separation of a batch's signature. The id of the network and the hash of the body follow it.
const SIGNATURE_DOMAIN: &[u8; 17] = b"diatribe-batch-v2";

/// An event that an application broadcasts.
///
/// # Examples
///
/// ```
/// use diatribe::gossip::Event;
///
/// let event = Event::new("chat", "hello");
/// assert!(event.check().is_ok());
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// The application's name for this kind of event, of at most [`MAX_EVENT_NAME`] bytes.
    pub name: String,
    /// The application's data, of at most [`MAX_EVENT_DATA`] bytes.
    pub data: Bytes,
}

/// A batch that its author has signed for its room. Clones share it.
#[derive(Clone)]
pub struct VerifiedBatch(Arc<Contents>);

struct Contents {
    bytes: Bytes,
    id: BatchId,
    author: PublicKey,
    instance_id: [u8; 16],
    first_seq: u64,
    sent_at_ms: u64,
    room: RoomName,
    prev: Vec<BatchId>,
    events: Vec<Event>,
}

/// A batch that this node has just signed. Only such a batch can be published.
#[derive(Clone, Debug)]
pub struct Sealed(VerifiedBatch);

/// Reason why bytes are not a valid batch, or events cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("the message has {0} bytes, the limit is {MAX_MESSAGE}")]
    TooLarge(usize),
    /// The message is not the canonical encoding of an envelope.
    #[error("the message is not an envelope: {0}")]
    NotAnEnvelope(&'static str),
    /// The body violates the strict encoding.
    #[error("the body is not a batch: {0}")]
    NotABatch(Malformed),
    /// The author's key is refused.
    #[error("the author's key is refused: {0}")]
    Author(PublicKeyError),
    /// The instance id has another length than 16 bytes.
    #[error("the instance id has {0} bytes instead of 16")]
    InstanceId(usize),
    /// The batch was signed for another room than that of its topic.
    #[error("the batch was signed for another room than {0:?}")]
    OtherRoom(RoomName),
    /// An id in `prev` has another length than 32 bytes.
    #[error("an id of a batch before it has {0} bytes instead of 32")]
    PrevLength(usize),
    /// The batch refers to more than [`MAX_PREV`] previous batches.
    #[error("the batch names more than {MAX_PREV} batches before it")]
    TooManyPrev,
    /// The batch has no event.
    #[error("the batch has no event")]
    NoEvents,
    /// The batch has more than [`MAX_EVENTS`] events.
    #[error("the batch has more than {MAX_EVENTS} events")]
    TooManyEvents,
    /// An event has more than [`MAX_EVENT_DATA`] bytes of data.
    #[error("the event has {0} bytes of data, the limit is {MAX_EVENT_DATA}: send it in parts")]
    EventTooLarge(usize),
    /// The name of an event has more than [`MAX_EVENT_NAME`] bytes.
    #[error("the event's name has {0} bytes, the limit is {MAX_EVENT_NAME}")]
    NameTooLong(usize),
    /// The numbers of the events begin with 0 or end beyond [`MAX_SEQ`].
    #[error("the events cannot be numbered from {0}: numbers go from 1 to {MAX_SEQ}")]
    Numbering(u64),
    /// The signature is not the author's, or is for another network.
    #[error("the signature is not the author's for this network")]
    Signature,
    /// The batch is dated more than [`MAX_AHEAD_MS`] ahead: the author's clock or this node's is wrong.
    #[error(
        "the batch is dated {by_ms} ms ahead of this node's clock, the limit is {MAX_AHEAD_MS}"
    )]
    Ahead {
        /// Public id of the author.
        author: PeerId,
        /// Time by which it is dated ahead, in milliseconds.
        by_ms: u64,
    },
}

impl BatchError {
    /// Returns whether no honest peer would have forwarded the batch. Only the date is no offence, because each node
    /// compares it with its own clock.
    pub fn is_offence(&self) -> bool {
        !matches!(self, BatchError::Ahead { .. })
    }
}

/// Decodes and verifies a message that arrived in the room `topic_room` of a network. The result may be stored and
/// forwarded; the data of its events shares the memory of `data`.
///
/// # Errors
///
/// Returns the first rule of the contract that the message violates; only [`BatchError::Ahead`] is no offence.
pub fn open(
    data: Bytes,
    network: NetworkId,
    topic_room: &RoomName,
    now_ms: u64,
) -> Result<VerifiedBatch, BatchError> {
    open_as(None, data, network, topic_room, now_ms)
}

/// Does the work of [`open`], and reuses the id of `data` in this room if the caller has computed it.
pub(crate) fn open_as(
    id: Option<MessageId>,
    data: Bytes,
    network: NetworkId,
    topic_room: &RoomName,
    now_ms: u64,
) -> Result<VerifiedBatch, BatchError> {
    debug_assert!(id.is_none_or(|id| Some(id) == MessageId::of(topic_room.as_str(), &data)));
    let parts = envelope::split(&data)?;
    let body = data.slice(parts.body);
    let read = Body::read(&body)?;
    let author = PublicKey::from_protobuf(&read.author).map_err(BatchError::Author)?;
    let instance_id = <[u8; 16]>::try_from(&read.instance_id[..])
        .map_err(|_| BatchError::InstanceId(read.instance_id.len()))?;
    if read.room != topic_room.as_str() {
        return Err(BatchError::OtherRoom(topic_room.clone()));
    }
    check_numbering(read.first_seq, read.events.len())?;
    let signature = &data[parts.signature];
    let hash = id.map_or_else(|| BodyHash::of(&body), |id| id.body());
    if !author.verify(&signed_text(network, hash), signature) {
        return Err(BatchError::Signature);
    }
    // Last, because this error excuses the peer that forwarded the batch, which must be valid otherwise.
    let by_ms = read.sent_at_ms.saturating_sub(now_ms);
    if by_ms > MAX_AHEAD_MS {
        let author = author.peer_id();
        return Err(BatchError::Ahead { author, by_ms });
    }
    let id = id.unwrap_or_else(|| MessageId::with(topic_room.as_str(), hash, signature));
    Ok(VerifiedBatch(Arc::new(Contents {
        id: id.into(),
        author,
        instance_id,
        first_seq: read.first_seq,
        sent_at_ms: read.sent_at_ms,
        room: topic_room.clone(),
        prev: read.prev,
        events: read.events,
        bytes: data,
    })))
}

/// Returns the previous batches that an envelope refers to, without verification: for one that was verified before it was
/// stored.
pub(crate) fn prev_of(data: &Bytes) -> Vec<BatchId> {
    let Ok(parts) = envelope::split(data) else {
        return Vec::new();
    };
    Body::read(&data.slice(parts.body)).map_or(Vec::new(), |body| body.prev)
}

/// Returns the room that an envelope claims, without verification: to [`open`] one that arrived without a topic.
pub fn room_of(data: &Bytes) -> Option<RoomName> {
    let parts = envelope::split(data).ok()?;
    let body = data.slice(parts.body);
    let room = Body::read(&body).ok()?.room.parse();
    room.ok()
}

impl VerifiedBatch {
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
            room: self.room().as_str().to_owned(),
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

impl From<NoEnvelope> for BatchError {
    fn from(error: NoEnvelope) -> BatchError {
        match error {
            NoEnvelope::TooLarge(bytes) => BatchError::TooLarge(bytes),
            NoEnvelope::Spelling(what) => BatchError::NotAnEnvelope(what),
        }
    }
}

impl Event {
    /// Returns an event with this name and data. Its limits are checked when it is sent.
    pub fn new(name: impl Into<String>, data: impl Into<Bytes>) -> Event {
        Event {
            name: name.into(),
            data: data.into(),
        }
    }

    /// Checks the limits of the event.
    ///
    /// # Errors
    ///
    /// Returns the limit that the name or the data exceeds.
    pub fn check(&self) -> Result<(), BatchError> {
        check_event(self.name.len(), self.data.len())
    }

    /// Returns the bytes that the event counts for: its size in a batch, and [`EVENT_OVERHEAD`]. A sender fills a batch up
    /// to [`MAX_BATCH_BYTES`] of them.
    pub fn cost(&self) -> usize {
        self.len_in_batch() + EVENT_OVERHEAD
    }

    /// Returns the size of the event in a batch, in bytes.
    pub fn len_in_batch(&self) -> usize {
        let field = |len: usize| match len {
            0 => 0,
            len => 1 + encoding::encoded_len_varint(len as u64) + len,
        };
        let len = field(self.name.len()) + field(self.data.len());
        1 + encoding::encoded_len_varint(len as u64) + len
    }
}

/// Returns the text that the author of a body with this hash signs.
fn signed_text(network: NetworkId, body: BodyHash) -> [u8; SIGNATURE_DOMAIN.len() + 64] {
    let mut text = [0; SIGNATURE_DOMAIN.len() + 64];
    let (domain, rest) = text.split_at_mut(SIGNATURE_DOMAIN.len());
    let (network_id, hash) = rest.split_at_mut(32);
    domain.copy_from_slice(SIGNATURE_DOMAIN);
    network_id.copy_from_slice(network.as_bytes());
    hash.copy_from_slice(body.as_bytes());
    text
}

fn check_event(name: usize, data: usize) -> Result<(), BatchError> {
    if name > MAX_EVENT_NAME {
        return Err(BatchError::NameTooLong(name));
    }
    if data > MAX_EVENT_DATA {
        return Err(BatchError::EventTooLarge(data));
    }
    Ok(())
}

fn check_count(count: usize) -> Result<(), BatchError> {
    match count {
        0 => Err(BatchError::NoEvents),
        count if count > MAX_EVENTS => Err(BatchError::TooManyEvents),
        _ => Ok(()),
    }
}

fn check_numbering(first_seq: u64, count: usize) -> Result<(), BatchError> {
    check_count(count)?;
    let last_seq = first_seq.checked_add(count as u64 - 1);
    if first_seq < 1 || last_seq.is_none_or(|last_seq| last_seq > MAX_SEQ) {
        return Err(BatchError::Numbering(first_seq));
    }
    Ok(())
}

impl From<Event> for proto::Event {
    fn from(Event { name, data }: Event) -> proto::Event {
        proto::Event { name, data }
    }
}

impl From<proto::Event> for Event {
    fn from(proto::Event { name, data }: proto::Event) -> Event {
        Event { name, data }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Event({:?}, {} bytes)", self.name, self.data.len())
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
