//! Envelopes as bytes, the ids of messages, and the time of sending.

use std::time::{SystemTime, UNIX_EPOCH};

use super::frame::framed;
use crate::model::RoomName;
use crate::wire::envelope::{MessageId, bad_id};

/// Encodes an envelope in its canonical form.
pub(crate) fn envelope(body: &[u8], signature: &[u8; 64]) -> Vec<u8> {
    let mut bytes = vec![0x0a];
    bytes.extend(framed(body));
    bytes.extend([0x12, 0x40]);
    bytes.extend(signature);
    bytes
}

/// Returns the id of a message with this data in this topic.
pub(crate) fn id_of(topic: &str, data: &[u8]) -> [u8; 32] {
    let room = RoomName::from_topic(topic);
    let id = room.and_then(|room| MessageId::of(room.as_str(), data));
    id.map_or_else(|| bad_id(topic, data), |id| *id.as_bytes())
}

/// Returns the Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
