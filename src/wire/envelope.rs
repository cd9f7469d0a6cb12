//! The canonical encoding of an envelope, and the message id of data in a topic.
//!
//! Entry points: [`split`], [`MessageId`]. The rule it keeps: an id covers the room, the body and the signature, and data
//! that is not an envelope of a room never has the id of one that is. Body and signature are not verified here
//! (`proto/README.md`, chapter 8).

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::strict;
use crate::model::TOPIC_PREFIX;

/// Maximum size of one event's data in bytes: a link carries it in about a second, and larger files are for other tools.
pub const MAX_EVENT_DATA: usize = 1024 * 1024;

/// Maximum size of an envelope in bytes: the largest event, and 1 KiB for everything around it.
pub const MAX_MESSAGE: usize = MAX_EVENT_DATA + 1024;

/// Size of a signature in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// Key of field 1, the body, length-delimited.
pub const BODY_TAG: u8 = 0x0a;

/// Key of field 2, the signature, length-delimited, and its length of 64.
pub const SIGNATURE_HEADER: [u8; 2] = [0x12, 0x40];

/// Domain separation of the id of an envelope.
const ID_DOMAIN: &[u8; 20] = b"diatribe-batch-id-v2";

/// Domain separation of the id of other data.
const BAD_ID_DOMAIN: &[u8; 15] = b"diatribe-bad-v2";

/// Positions of body and signature in an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Range of the body, not empty.
    pub body: Range<usize>,
    /// Range of the signature, of [`SIGNATURE_BYTES`].
    pub signature: Range<usize>,
}

/// Reason why data is not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEnvelope {
    /// The data has this many bytes, more than [`MAX_MESSAGE`].
    TooLarge(usize),
    /// The data is not the canonical encoding.
    Spelling(&'static str),
}

/// SHA-256 of a body. It goes into the text that the author signs and into the message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyHash([u8; 32]);

/// The id of an envelope in a room, with the hash of its body, which is reused for the signature.
///
/// # Examples
///
/// ```
/// use diatribe::wire::envelope::MessageId;
///
/// let envelope = [&[0x0a, 1, 7, 0x12, 0x40][..], &[0; 64]].concat();
/// assert!(MessageId::of("lobby", &envelope).is_some());
/// assert!(MessageId::of("lobby", b"anything else").is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId {
    id: [u8; 32],
    body: BodyHash,
}

impl BodyHash {
    /// Returns the hash of `body`.
    pub fn of(body: &[u8]) -> BodyHash {
        BodyHash(Sha256::digest(body).into())
    }

    /// Returns the hash as bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl MessageId {
    /// Returns the id of `data` in `room`, if it is an envelope. Hashes its body.
    pub fn of(room: &str, data: &[u8]) -> Option<MessageId> {
        let parts = split(data).ok()?;
        let body = BodyHash::of(&data[parts.body.clone()]);
        Some(MessageId::with(room, body, &data[parts.signature]))
    }

    /// Returns the id of the envelope in `room` whose body has this hash, with this signature.
    pub fn with(room: &str, body: BodyHash, signature: &[u8]) -> MessageId {
        let id = Sha256::new()
            .chain_update(ID_DOMAIN)
            // The name of a room has at most 64 bytes.
            .chain_update((room.len() as u16).to_be_bytes())
            .chain_update(room)
            .chain_update(body.0)
            .chain_update(signature)
            .finalize()
            .into();
        MessageId { id, body }
    }

    /// Returns the id as bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.id
    }

    /// Returns the hash of the body.
    pub fn body(&self) -> BodyHash {
        self.body
    }
}

/// Returns the id of data that is not an envelope, or whose topic is not a room.
pub fn bad_id(topic: &str, data: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(BAD_ID_DOMAIN)
        .chain_update(topic)
        .chain_update(data)
        .finalize()
        .into()
}

/// Returns the id of any `data` in `room`.
pub fn id_in_room(room: &str, data: &[u8]) -> [u8; 32] {
    MessageId::of(room, data).map_or_else(
        || bad_id(&format!("{TOPIC_PREFIX}{room}"), data),
        |id| *id.as_bytes(),
    )
}

/// Splits an envelope, which is exactly `0a` len body `12 40` signature, into body and signature.
///
/// # Errors
///
/// Returns an error when `data` is too large, or not in the canonical encoding.
pub fn split(data: &[u8]) -> Result<Parts, NoEnvelope> {
    use NoEnvelope::{Spelling, TooLarge};
    if data.len() > MAX_MESSAGE {
        return Err(TooLarge(data.len()));
    }
    let Some((&BODY_TAG, mut rest)) = data.split_first() else {
        return Err(Spelling("it does not begin with a body"));
    };
    let body_len = strict::varint(&mut rest)
        .map_err(|_| Spelling("the length of the body is no minimal varint"))?;
    if body_len == 0 {
        return Err(Spelling("the body is empty"));
    }
    let start = data.len() - rest.len();
    let end = usize::try_from(body_len)
        .ok()
        .filter(|len| *len <= rest.len())
        .map(|len| start + len)
        .ok_or(Spelling("the body goes past the end"))?;
    let signature = end + SIGNATURE_HEADER.len()..data.len();
    if data.get(end..signature.start) != Some(&SIGNATURE_HEADER[..]) {
        return Err(Spelling("no signature of 64 bytes follows the body"));
    }
    if signature.len() != SIGNATURE_BYTES {
        return Err(Spelling("it does not end with the signature"));
    }
    Ok(Parts {
        body: start..end,
        signature,
    })
}
