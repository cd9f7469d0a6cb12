//! The one spelling of an envelope, and the id that data has in a topic.
//!
//! Entry points: [`split`], [`MessageId`]. The rule it keeps: an id says which room, which body and which
//! signature; bytes that are no envelope of a room never have the id of any that are. Whether body and signature
//! are right is not looked at here (`proto/README.md`, chapter 8).

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::strict;
use crate::model::TOPIC_PREFIX;

/// The largest data of one event: what a link carries in a second or so; files are for other tools.
pub const MAX_EVENT_DATA: usize = 1024 * 1024;

/// The largest envelope: the largest event, and room for everything around it.
pub const MAX_MESSAGE: usize = MAX_EVENT_DATA + 1024;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Field 1: body, length-delimited.
pub const BODY_TAG: u8 = 0x0a;

/// Field 2: signature, length-delimited, 64 bytes.
pub const SIGNATURE_HEADER: [u8; 2] = [0x12, 0x40];

/// What the id of an envelope begins with.
const ID_DOMAIN: &[u8; 20] = b"diatribe-batch-id-v2";

/// What the id of anything else begins with.
const BAD_ID_DOMAIN: &[u8; 15] = b"diatribe-bad-v2";

/// Where body and signature stand in an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The body, not empty.
    pub body: Range<usize>,
    /// The signature, [`SIGNATURE_BYTES`].
    pub signature: Range<usize>,
}

/// Why data is no envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEnvelope {
    /// More than [`MAX_MESSAGE`] bytes: how many.
    TooLarge(usize),
    /// Not the one spelling.
    Spelling(&'static str),
}

/// SHA-256 of a body: what the author signs, and what goes into the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyHash([u8; 32]);

/// The id of an envelope in a room, and the hash of its body, which was made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId {
    id: [u8; 32],
    body: BodyHash,
}

impl BodyHash {
    /// Hashes `body`.
    pub fn of(body: &[u8]) -> BodyHash {
        BodyHash(Sha256::digest(body).into())
    }

    /// The hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl MessageId {
    /// The id that `data` has in `room`, if it is an envelope; its body is hashed for it.
    pub fn of(room: &str, data: &[u8]) -> Option<MessageId> {
        let parts = split(data).ok()?;
        let body = BodyHash::of(&data[parts.body.clone()]);
        Some(MessageId::with(room, body, &data[parts.signature]))
    }

    /// The id of the envelope that has a body of this hash and this signature, in `room`.
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

    /// The id.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.id
    }

    /// The hash of the body.
    pub fn body(&self) -> BodyHash {
        self.body
    }
}

/// The id of data that is no envelope, or came in a topic that is no room.
pub fn bad_id(topic: &str, data: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(BAD_ID_DOMAIN)
        .chain_update(topic)
        .chain_update(data)
        .finalize()
        .into()
}

/// The id that `data` has in `room`, whatever it is.
pub fn id_in_room(room: &str, data: &[u8]) -> [u8; 32] {
    MessageId::of(room, data).map_or_else(
        || bad_id(&format!("{TOPIC_PREFIX}{room}"), data),
        |id| *id.as_bytes(),
    )
}

/// Where body and signature stand in `data`, if it is exactly `0a` len body `12 40` signature.
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
