//! The bytes of gossip: events in a batch, the batch signed in an envelope.
//!
//! Entry: [`Author::seal`] and [`open`]. The rule kept here: whoever holds a [`VerifiedBatch`] holds what
//! its author signed for that room of that network, because nothing else makes one; and one batch has one spelling
//! and so one id, whoever passes it on. `proto/gossip.proto` has the rules for other languages.

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

/// The longest name of an event.
pub const MAX_EVENT_NAME: usize = 256;

/// Where a sender closes a batch of several events, each counted as [`Event::cost`]. Large enough to make
/// signatures, hand-overs and the log's rows cheap: a node that is as busy as it can be spends a sixth less on an
/// event than with 64 KiB (measured; twice as much gains little more). Small enough not to hold up what comes
/// after it: a fifth of a second at 10 Mbit/s, and only when that much has queued.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Maximum number of events in a batch. Each event costs its reader an allocation, a line of output and a
/// row of bookkeeping, however little it holds: a message of two-byte events would otherwise have half a
/// million of them.
pub const MAX_EVENTS: usize = 1024;

/// Bytes that each event counts for beyond its own length wherever the bytes of batches are counted: in
/// queues, in an author's share of the log, in allowances. About what a node spends on an event that holds
/// nothing.
pub const EVENT_OVERHEAD: usize = 64;

/// The log counts an event as everything else does that counts batches.
const _: () = assert!(EVENT_BYTES == EVENT_OVERHEAD as u64);

/// Maximum number of batches that a batch says it follows: one of its own instance, and the newest of three others
/// that ran with the same identity.
pub const MAX_PREV: usize = 4;

/// The largest number of an event, 2^53 − 1: what JSON and SQLite hold exactly in every language.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

/// How far ahead of one's own clock a batch may be dated: what badly set clocks differ by.
pub const MAX_AHEAD_MS: u64 = 5 * 60 * 1000;

/// What the signature covers, before the id of the network and the hash of the body; no other signature in the
/// program begins with it.
const SIGNATURE_DOMAIN: &[u8; 17] = b"diatribe-batch-v2";

/// What an application sends.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// Which kind of event, as the application calls it; at most [`MAX_EVENT_NAME`] bytes.
    pub name: String,
    /// At most [`MAX_EVENT_DATA`] bytes.
    pub data: Bytes,
}

/// A batch that its author signed for its room; cloning shares it.
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

/// A batch of our own, signed just now: what may be published.
#[derive(Clone, Debug)]
pub struct Sealed(VerifiedBatch);

/// Why bytes are no batch, or events do not become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Longer than [`MAX_MESSAGE`].
    #[error("the message has {0} bytes, the limit is {MAX_MESSAGE}")]
    TooLarge(usize),
    /// Not the one spelling of an envelope.
    #[error("the message is not an envelope: {0}")]
    NotAnEnvelope(&'static str),
    /// The body breaks a rule of the encoding.
    #[error("the body is not a batch: {0}")]
    NotABatch(Malformed),
    /// The author's key.
    #[error("the author's key is refused: {0}")]
    Author(PublicKeyError),
    /// Another length than 16.
    #[error("the instance id has {0} bytes instead of 16")]
    InstanceId(usize),
    /// Signed for another room than the one it came in.
    #[error("the batch was signed for another room than {0:?}")]
    OtherRoom(RoomName),
    /// An id in `prev` of another length than 32.
    #[error("an id of a batch before it has {0} bytes instead of 32")]
    PrevLength(usize),
    /// More than [`MAX_PREV`].
    #[error("the batch names more than {MAX_PREV} batches before it")]
    TooManyPrev,
    /// A batch of nothing.
    #[error("the batch has no event")]
    NoEvents,
    /// More than [`MAX_EVENTS`].
    #[error("the batch has more than {MAX_EVENTS} events")]
    TooManyEvents,
    /// More than [`MAX_EVENT_DATA`].
    #[error("the event has {0} bytes of data, the limit is {MAX_EVENT_DATA}: send it in parts")]
    EventTooLarge(usize),
    /// More than [`MAX_EVENT_NAME`].
    #[error("the event's name has {0} bytes, the limit is {MAX_EVENT_NAME}")]
    NameTooLong(usize),
    /// Numbers that begin with 0 or end beyond [`MAX_SEQ`].
    #[error("the events cannot be numbered from {0}: numbers go from 1 to {MAX_SEQ}")]
    Numbering(u64),
    /// The author did not sign this, or not in this network.
    #[error("the signature is not the author's for this network")]
    Signature,
    /// Dated more than [`MAX_AHEAD_MS`] after one's own time: the author's clock, or one's own.
    #[error(
        "the batch is dated {by_ms} ms ahead of this node's clock, the limit is {MAX_AHEAD_MS}"
    )]
    Ahead {
        /// Who signed it.
        author: PeerId,
        /// By how much, in milliseconds.
        by_ms: u64,
    },
}

impl BatchError {
    /// Whether an honest peer would never have forwarded this. The date alone is judged by each
    /// by its own clock.
    pub fn is_offence(&self) -> bool {
        !matches!(self, BatchError::Ahead { .. })
    }
}

/// Reads what came in the room `topic_room` of a network and checks all that must hold for it to be believed
/// and passed on. The data of the events share the memory of `data`.
///
/// # Errors
///
/// The first rule of the contract that the data breaks; only [`BatchError::Ahead`] is no offence.
pub fn open(
    data: Bytes,
    network: NetworkId,
    topic_room: &RoomName,
    now_ms: u64,
) -> Result<VerifiedBatch, BatchError> {
    open_as(None, data, network, topic_room, now_ms)
}

/// [`open`] for whoever may have made the id of `data` in this room already, itself.
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
    // Last, because it alone excuses who forwarded it: that takes a batch that is right otherwise.
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

/// The batches that an envelope says it follows, unchecked: for one that was verified before it was stored.
pub(crate) fn prev_of(data: &Bytes) -> Vec<BatchId> {
    let Ok(parts) = envelope::split(data) else {
        return Vec::new();
    };
    Body::read(&data.slice(parts.body)).map_or(Vec::new(), |body| body.prev)
}

/// The room that an envelope says it is for, unchecked: to [`open`] one that did not come by a topic.
pub fn room_of(data: &Bytes) -> Option<RoomName> {
    let parts = envelope::split(data).ok()?;
    let body = data.slice(parts.body);
    let room = Body::read(&body).ok()?.room.parse();
    room.ok()
}

impl VerifiedBatch {
    /// The envelope, as it travels and is stored.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// The id of the batch.
    pub fn id(&self) -> BatchId {
        self.0.id
    }

    /// The public id of who signed it.
    pub fn author(&self) -> PeerId {
        self.0.author.peer_id()
    }

    /// The key of who signed it.
    pub fn author_key(&self) -> &PublicKey {
        &self.0.author
    }

    /// Which run of the author's program it came from.
    pub fn instance_id(&self) -> [u8; 16] {
        self.0.instance_id
    }

    /// The number of the first event.
    pub fn first_seq(&self) -> u64 {
        self.0.first_seq
    }

    /// The number of the last event.
    pub fn last_seq(&self) -> u64 {
        self.0.first_seq + (self.0.events.len() as u64 - 1)
    }

    /// Unix time in milliseconds, by the author's clock.
    pub fn sent_at_ms(&self) -> u64 {
        self.0.sent_at_ms
    }

    /// The room it was signed for and came in.
    pub fn room(&self) -> &RoomName {
        &self.0.room
    }

    /// The batches of its author in this room that it says it follows, each once. They may be missing, or no such
    /// batches: nobody has checked.
    pub fn prev(&self) -> &[BatchId] {
        &self.0.prev
    }

    /// The events, at least one.
    pub fn events(&self) -> &[Event] {
        &self.0.events
    }

    /// The bytes that the batch counts for in queues, shares and allowances: those of its envelope, and
    /// [`EVENT_OVERHEAD`] for each event.
    pub fn cost(&self) -> usize {
        self.0.bytes.len() + EVENT_OVERHEAD * self.0.events.len()
    }

    /// The events with their numbers.
    pub fn numbered_events(&self) -> impl Iterator<Item = (u64, &Event)> {
        (self.0.first_seq..).zip(&self.0.events)
    }
}

impl Sealed {
    /// The envelope to publish.
    pub fn bytes(&self) -> &Bytes {
        self.0.bytes()
    }

    /// The id of the batch.
    pub fn id(&self) -> BatchId {
        self.0.id()
    }

    /// The batch, which needs no verification.
    pub fn batch(&self) -> &VerifiedBatch {
        &self.0
    }
}

/// Only what the signer or the verifier made enters the log.
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
    /// An event of this name with this data. Its size is judged when it is sent.
    pub fn new(name: impl Into<String>, data: impl Into<Bytes>) -> Event {
        Event {
            name: name.into(),
            data: data.into(),
        }
    }

    /// Whether the event keeps to its limits; the error names the limit.
    pub fn check(&self) -> Result<(), BatchError> {
        check_event(self.name.len(), self.data.len())
    }

    /// The bytes that the event counts for: what it adds to a batch, and [`EVENT_OVERHEAD`]. A sender counts
    /// them up to [`MAX_BATCH_BYTES`].
    pub fn cost(&self) -> usize {
        self.len_in_batch() + EVENT_OVERHEAD
    }

    /// How many bytes the event adds to a batch.
    pub fn len_in_batch(&self) -> usize {
        let field = |len: usize| match len {
            0 => 0,
            len => 1 + encoding::encoded_len_varint(len as u64) + len,
        };
        let len = field(self.name.len()) + field(self.data.len());
        1 + encoding::encoded_len_varint(len as u64) + len
    }
}

/// What the author of a body of this hash signs.
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
