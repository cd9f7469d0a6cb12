//! Builds batches by hand: honest ones, and ones whose body, signature or envelope breaks a rule.
//!
//! Entry: [`batch`], [`seal`]. The rule it keeps: only the part that a case changes is wrong; the rest is signed as an
//! honest author signs it.

use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::frame::framed;
use super::link::Link;
use crate::model::RoomName;
use crate::wire::envelope::{MessageId, bad_id};
use crate::wire::proto::gossip as proto;

/// Builds the batch that an honest author would send, not yet signed, dated `ahead_ms` after now.
pub(crate) fn batch(link: &Link, ahead_ms: i64, events: Vec<(&str, Vec<u8>)>) -> proto::Batch {
    proto::Batch {
        author: link.raw.identity.public_key_protobuf().into(),
        instance_id: link.raw.instance_id.to_vec().into(),
        first_seq: link.next_seq,
        sent_at_ms: now_ms().saturating_add_signed(ahead_ms),
        room: link.link_config.room.as_str().to_owned(),
        prev: Vec::new(),
        events: events
            .into_iter()
            .map(|(name, data)| proto::Event {
                name: name.to_owned(),
                data: data.into(),
            })
            .collect(),
    }
}

/// Returns the text that a batch's signature covers, in the kit's network.
pub(crate) fn signed_text(link: &Link, body: &[u8]) -> Vec<u8> {
    let hash = Sha256::digest(body);
    let network = link.network_id();
    [&b"diatribe-batch-v2"[..], network.as_bytes(), &hash].concat()
}

/// Encodes an envelope in its canonical form.
pub(crate) fn envelope(body: &[u8], signature: &[u8; 64]) -> Vec<u8> {
    let mut bytes = vec![0x0a];
    bytes.extend(framed(body));
    bytes.extend([0x12, 0x40]);
    bytes.extend(signature);
    bytes
}

/// Signs a body and puts it into an envelope.
pub(crate) fn seal(link: &Link, body: &[u8]) -> Vec<u8> {
    envelope(body, &link.raw.identity.sign(&signed_text(link, body)))
}

/// Puts a body into an envelope, with the signature of a changed text.
pub(crate) fn sign_as(link: &Link, body: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut text = signed_text(link, body);
    change(&mut text);
    envelope(body, &link.raw.identity.sign(&text))
}

/// Returns the id of a message with this data in this topic.
pub(crate) fn id_of(topic: &str, data: &[u8]) -> [u8; 32] {
    let room = RoomName::from_topic(topic);
    let id = room.and_then(|room| MessageId::of(room.as_str(), data));
    id.map_or_else(|| bad_id(topic, data), |id| *id.as_bytes())
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
