//! The bytes of gossip: events in a batch, the batch signed in an envelope.
//!
//! Entry: [`seal`] and [`open`]. The rule kept here: whoever holds a [`VerifiedBatch`] holds what
//! its author signed for that room, because nothing else makes one; and one batch has one spelling
//! and so one id, whoever passes it on. `proto/gossip.proto` has the rules for other languages.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use libp2p::PeerId;
use prost::Message;
use prost::encoding::{self, DecodeContext, WireType};
use sha2::{Digest, Sha256};

use super::room::RoomName;
use crate::identity::{Identity, PublicKey, PublicKeyError};
use crate::wire::proto::gossip as proto;

#[cfg(test)]
mod tests;

/// The most data of one event: what a link carries in a second or so; files are for other tools.
pub const MAX_EVENT_DATA: usize = 1024 * 1024;

/// The longest name of an event.
pub const MAX_EVENT_NAME: usize = 256;

/// Where a sender closes a batch of several events, each counted as [`Event::cost`]. Large enough to make signatures, hand-overs and
/// the log's rows cheap: a node that is as busy as it can be spends a sixth less on an event than with
/// 64 KiB (measured; twice as much gains little more). Small enough not to hold up what comes after it:
/// a fifth of a second at 10 Mbit/s, and only when that much has queued.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// The largest envelope: the largest event, and room for everything around it.
pub const MAX_MESSAGE: usize = MAX_EVENT_DATA + 1024;

/// Maximum number of events in a batch. Each event costs its reader an allocation, a line of output and a
/// row of bookkeeping, however little it holds: a message of two-byte events would otherwise have half a
/// million of them.
pub const MAX_EVENTS: usize = 1024;

/// Bytes that each event counts for beyond its own length wherever the bytes of batches are counted: in
/// queues, in an author's share of the log, in allowances. About what a node spends on an event that holds
/// nothing.
pub const EVENT_OVERHEAD: usize = 64;

/// The largest number of an event, 2^53 − 1: what JSON and SQLite hold exactly in every language.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

/// How far ahead of one's own clock a batch may be dated: what badly set clocks differ by.
pub const MAX_AHEAD_MS: u64 = 5 * 60 * 1000;

/// What the signature covers, before the hash of the body; no other signature in the program
/// begins with it.
const SIGNATURE_DOMAIN: &[u8; 17] = b"diatribe-batch-v1";

const SIGNATURE_BYTES: usize = 64;

/// Envelope, field 1: body, length-delimited.
const BODY_TAG: u8 = 0x0a;

/// Envelope, field 2: signature, length-delimited, 64 bytes.
const SIGNATURE_HEADER: [u8; 2] = [0x12, 0x40];

/// Batch, field 6: events.
const EVENTS_FIELD: u32 = 6;

/// All lengths up to [`MAX_MESSAGE`] fit into a varint of this many bytes.
const MAX_LENGTH_BYTES: usize = 3;
const _: () = assert!(MAX_MESSAGE < 1 << (7 * MAX_LENGTH_BYTES));

/// What an application sends.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// Which kind of event, as the application calls it; at most [`MAX_EVENT_NAME`] bytes.
    pub name: String,
    /// At most [`MAX_EVENT_DATA`] bytes.
    pub data: Bytes,
}

/// SHA-256 of an envelope: names a batch, and its gossipsub message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub [u8; 32]);

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
    /// The body cannot be parsed.
    #[error("the body is not a batch: {0}")]
    NotABatch(prost::DecodeError),
    /// The author's key.
    #[error("the author's key is refused: {0}")]
    Author(PublicKeyError),
    /// Another length than 16.
    #[error("the instance id has {0} bytes instead of 16")]
    InstanceId(usize),
    /// Signed for another room than the one it came in.
    #[error("the batch was signed for another room than {0:?}")]
    OtherRoom(RoomName),
    /// A batch of nothing.
    #[error("the batch has no event")]
    NoEvents,
    /// More than [`MAX_EVENTS`].
    #[error("the batch has {0} events, the limit is {MAX_EVENTS}")]
    TooManyEvents(usize),
    /// More than [`MAX_EVENT_DATA`].
    #[error("the event has {0} bytes of data, the limit is {MAX_EVENT_DATA}: send it in parts")]
    EventTooLarge(usize),
    /// More than [`MAX_EVENT_NAME`].
    #[error("the event's name has {0} bytes, the limit is {MAX_EVENT_NAME}")]
    NameTooLong(usize),
    /// Numbers that begin with 0 or end beyond [`MAX_SEQ`].
    #[error("the events cannot be numbered from {0}: numbers go from 1 to {MAX_SEQ}")]
    Numbering(u64),
    /// The author did not sign this.
    #[error("the signature is not the author's")]
    Signature,
    /// Dated more than [`MAX_AHEAD_MS`] after one's own time: the author's clock, or one's own.
    #[error("the batch is dated {0} ms ahead of this node's clock, the limit is {MAX_AHEAD_MS}")]
    Ahead(u64),
}

impl BatchError {
    /// Whether an honest peer would never have forwarded this. The date alone is judged by each
    /// by its own clock.
    pub fn is_offence(&self) -> bool {
        !matches!(self, BatchError::Ahead(_))
    }
}

/// Puts `events`, numbered from `first_seq`, into one batch and signs it.
pub fn seal(
    identity: &Identity,
    instance_id: [u8; 16],
    room: &RoomName,
    first_seq: u64,
    sent_at_ms: u64,
    events: Vec<Event>,
) -> Result<Sealed, BatchError> {
    check_numbering(first_seq, events.len())?;
    check_events(&events)?;
    let author = *identity.public_key();
    let batch = proto::Batch {
        author: Bytes::copy_from_slice(&author.to_protobuf()),
        instance_id: Bytes::copy_from_slice(&instance_id),
        first_seq,
        sent_at_ms,
        room: room.as_str().to_owned(),
        events: events.into_iter().map(proto::Event::from).collect(),
    };
    let bytes = sign(identity, &batch)?;
    Ok(Sealed(VerifiedBatch(Arc::new(Contents {
        id: BatchId::of(&bytes),
        bytes,
        author,
        instance_id,
        first_seq,
        sent_at_ms,
        room: room.clone(),
        events: batch.events.into_iter().map(Event::from).collect(),
    }))))
}

/// Reads what came in the room `topic_room` and checks all that must hold for it to be believed
/// and passed on. The data of the events share the memory of `data`.
pub fn open(data: Bytes, topic_room: &RoomName, now_ms: u64) -> Result<VerifiedBatch, BatchError> {
    open_as(None, data, topic_room, now_ms)
}

/// [`open`] for whoever may have made the id of `data` already, itself.
pub(crate) fn open_as(
    id: Option<BatchId>,
    data: Bytes,
    topic_room: &RoomName,
    now_ms: u64,
) -> Result<VerifiedBatch, BatchError> {
    debug_assert!(id.is_none_or(|id| id == BatchId::of(&data)));
    let (body, signature) = split_envelope(&data)?;
    let body = data.slice(body);
    check_count(count_events(&body)?)?;
    let batch = proto::Batch::decode(body.clone()).map_err(BatchError::NotABatch)?;

    let author = PublicKey::from_protobuf(&batch.author).map_err(BatchError::Author)?;
    let instance_id = <[u8; 16]>::try_from(&batch.instance_id[..])
        .map_err(|_| BatchError::InstanceId(batch.instance_id.len()))?;
    if batch.room != topic_room.as_str() {
        return Err(BatchError::OtherRoom(topic_room.clone()));
    }
    check_numbering(batch.first_seq, batch.events.len())?;
    let events: Vec<Event> = batch.events.into_iter().map(Event::from).collect();
    check_events(&events)?;
    if !author.verify(&signed_text(&body), &data[signature]) {
        return Err(BatchError::Signature);
    }
    // Last, because it alone excuses who forwarded it: that takes a batch that is right otherwise.
    let ahead = batch.sent_at_ms.saturating_sub(now_ms);
    if ahead > MAX_AHEAD_MS {
        return Err(BatchError::Ahead(ahead));
    }

    Ok(VerifiedBatch(Arc::new(Contents {
        id: id.unwrap_or_else(|| BatchId::of(&data)),
        bytes: data,
        author,
        instance_id,
        first_seq: batch.first_seq,
        sent_at_ms: batch.sent_at_ms,
        room: topic_room.clone(),
        events,
    })))
}

/// The room that an envelope says it is for, unchecked: to [`open`] one that did not come by a topic.
pub fn room_of(data: &Bytes) -> Option<RoomName> {
    let (body, _) = split_envelope(data).ok()?;
    let body = data.slice(body);
    check_count(count_events(&body).ok()?).ok()?;
    proto::Batch::decode(body).ok()?.room.parse().ok()
}

impl VerifiedBatch {
    /// The envelope, as it travels and is stored.
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// SHA-256 of [`VerifiedBatch::bytes`].
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

impl From<Sealed> for VerifiedBatch {
    fn from(sealed: Sealed) -> VerifiedBatch {
        sealed.0
    }
}

impl BatchId {
    /// The id of the gossipsub message with this data, be it a batch or not.
    pub fn of(data: &[u8]) -> BatchId {
        BatchId(Sha256::digest(data).into())
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
        if self.name.len() > MAX_EVENT_NAME {
            return Err(BatchError::NameTooLong(self.name.len()));
        }
        if self.data.len() > MAX_EVENT_DATA {
            return Err(BatchError::EventTooLarge(self.data.len()));
        }
        Ok(())
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

/// The envelope of `batch`, signed.
fn sign(identity: &Identity, batch: &proto::Batch) -> Result<Bytes, BatchError> {
    let body_len = batch.encoded_len();
    let header_len = 1 + encoding::encoded_len_varint(body_len as u64);
    let len = header_len + body_len + SIGNATURE_HEADER.len() + SIGNATURE_BYTES;
    if len > MAX_MESSAGE {
        return Err(BatchError::TooLarge(len));
    }
    let mut envelope = BytesMut::with_capacity(len);
    envelope.put_u8(BODY_TAG);
    encoding::encode_varint(body_len as u64, &mut envelope);
    batch
        .encode(&mut envelope)
        .expect("the only error is a buffer that does not grow");
    let signature = identity.sign(&signed_text(&envelope[header_len..]));
    envelope.put_slice(&SIGNATURE_HEADER);
    envelope.put_slice(&signature);
    Ok(envelope.freeze())
}

/// What the author of `body` signs.
fn signed_text(body: &[u8]) -> [u8; SIGNATURE_DOMAIN.len() + 32] {
    let mut text = [0; SIGNATURE_DOMAIN.len() + 32];
    let (domain, hash) = text.split_at_mut(SIGNATURE_DOMAIN.len());
    domain.copy_from_slice(SIGNATURE_DOMAIN);
    hash.copy_from_slice(&Sha256::digest(body));
    text
}

/// Where body and signature stand in an envelope of the only spelling there is.
fn split_envelope(data: &[u8]) -> Result<(Range<usize>, Range<usize>), BatchError> {
    if data.len() > MAX_MESSAGE {
        return Err(BatchError::TooLarge(data.len()));
    }
    let Some((&BODY_TAG, rest)) = data.split_first() else {
        return Err(BatchError::NotAnEnvelope("it does not begin with a body"));
    };
    let (body_len, length_bytes) = minimal_length(rest).ok_or(BatchError::NotAnEnvelope(
        "the length of the body is no minimal varint",
    ))?;
    if body_len == 0 {
        return Err(BatchError::NotAnEnvelope("the body is empty"));
    }
    let body = 1 + length_bytes..1 + length_bytes + body_len;
    let signature = body.end + SIGNATURE_HEADER.len()..data.len();
    if data.get(body.end..signature.start) != Some(&SIGNATURE_HEADER[..]) {
        return Err(BatchError::NotAnEnvelope(
            "no signature of 64 bytes follows the body",
        ));
    }
    if signature.len() != SIGNATURE_BYTES {
        return Err(BatchError::NotAnEnvelope(
            "it does not end with the signature",
        ));
    }
    Ok((body, signature))
}

/// The varint with which `bytes` begin and how many bytes it takes, if no fewer would do.
fn minimal_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(MAX_LENGTH_BYTES).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let minimal = *byte != 0 || index == 0;
            return minimal.then_some((value, index + 1));
        }
    }
    None
}

/// How many events a body has, found without keeping any of them.
fn count_events(mut body: &[u8]) -> Result<usize, BatchError> {
    let mut count = 0;
    while !body.is_empty() {
        let (field, wire_type) = encoding::decode_key(&mut body).map_err(BatchError::NotABatch)?;
        encoding::skip_field(wire_type, field, &mut body, DecodeContext::default())
            .map_err(BatchError::NotABatch)?;
        count += usize::from(field == EVENTS_FIELD && wire_type == WireType::LengthDelimited);
    }
    Ok(count)
}

fn check_count(count: usize) -> Result<(), BatchError> {
    match count {
        0 => Err(BatchError::NoEvents),
        count if count > MAX_EVENTS => Err(BatchError::TooManyEvents(count)),
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

fn check_events(events: &[Event]) -> Result<(), BatchError> {
    events.iter().try_for_each(Event::check)
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

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BatchId({self})")
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
