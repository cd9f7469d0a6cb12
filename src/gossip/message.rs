//! Messages of gossip: events in a batch, and the batch signed in an envelope.
//!
//! Entry functions: [`Author::seal`] and [`open`]. The rules it keeps: only they create a [`VerifiedBatch`], so its author
//! has signed it for its room and network; and a batch has one canonical encoding, and so one id.
//! `proto/gossip.proto` has the rules for other languages.

use bytes::Bytes;

use crate::identity::{NetworkId, PublicKey};
use crate::model::{BatchId, RoomName};
use crate::wire::envelope::{self, BodyHash, MessageId};
pub use crate::wire::envelope::{MAX_EVENT_DATA, MAX_MESSAGE};
use crate::wire::proto::gossip as proto;

mod author;
mod batch;
mod body;
mod error;
mod event;
mod limits;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use author::Author;
use batch::Contents;
pub use batch::{Sealed, VerifiedBatch};
use body::{Body, check_count};
pub use error::BatchError;
pub use event::{EVENT_OVERHEAD, Event};
pub use limits::{MAX_AHEAD_MS, MAX_BATCH_BYTES, MAX_EVENT_NAME, MAX_EVENTS, MAX_PREV, MAX_SEQ};

/// Domain separation of a batch's signature. The id of the network and the hash of the body follow it.
const SIGNATURE_DOMAIN: &[u8; 17] = b"diatribe-batch-v2";

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
    Ok(VerifiedBatch::new(Contents {
        id: id.into(),
        author,
        instance_id,
        first_seq: read.first_seq,
        sent_at_ms: read.sent_at_ms,
        room: topic_room.clone(),
        prev: read.prev,
        events: read.events,
        bytes: data,
    }))
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

fn check_numbering(first_seq: u64, count: usize) -> Result<(), BatchError> {
    check_count(count)?;
    let last_seq = first_seq.checked_add(count as u64 - 1);
    if first_seq < 1 || last_seq.is_none_or(|last_seq| last_seq > MAX_SEQ) {
        return Err(BatchError::Numbering(first_seq));
    }
    Ok(())
}
