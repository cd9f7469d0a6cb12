//! Batches for the tests of the log and of anti-entropy; their authors have no keys.

use bytes::Bytes;

use super::{Item, Outcome, Record, Seal, Verified};
use crate::wire::envelope::id_in_room;

/// A batch that counts as verified, like gossip's own type in a node.
#[derive(Clone, Debug)]
pub(crate) struct Batch(pub(crate) Record);

impl Seal for Batch {}

impl Verified for Batch {
    fn record(&self) -> Record {
        self.0.clone()
    }
}

/// The current time in the tests: 2026-01-01.
pub(crate) const NOW_MS: u64 = 1_767_225_600_000;

/// Returns a batch of one event in the room "a", by the author with this number.
pub(crate) fn batch(author: u8, first_seq: u64) -> Batch {
    batch_in("a", author, first_seq, 1, NOW_MS + first_seq)
}

pub(crate) fn batch_in(
    room: &str,
    author: u8,
    first_seq: u64,
    count: u64,
    sent_at_ms: u64,
) -> Batch {
    batch_of(room, author, first_seq, count, sent_at_ms, 64)
}

/// Returns a batch with an envelope of about `size` bytes that contains the fields which [`read_back`] needs.
pub(crate) fn batch_of(
    room: &str,
    author: u8,
    first_seq: u64,
    count: u64,
    sent_at_ms: u64,
    size: usize,
) -> Batch {
    let mut bytes = serde_json::to_vec(&(room, author, first_seq, count, sent_at_ms))
        .expect("plain values are JSON");
    bytes.resize(bytes.len().max(size), b' ');
    read_back(&bytes).expect("just written")
}

/// Stands in for the verifier.
pub(crate) fn read_back(bytes: &[u8]) -> Result<Batch, String> {
    let (room, author, first_seq, count, sent_at_ms): (String, u8, u64, u64, u64) =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let key = [&[8, 1, 18, 32][..], &[author; 32]].concat();
    Ok(Batch(Record {
        id: id_in_room(&room, bytes),
        room: room.parse().map_err(|error| format!("{error}"))?,
        author: key.into(),
        instance: [author; 16],
        first_seq,
        count,
        sent_at_ms,
        bytes: Bytes::copy_from_slice(bytes),
        brought_by: Bytes::new(),
    }))
}

/// Returns the batch as delivered by the link with this number.
pub(crate) fn brought_by(link: u8, mut batch: Batch) -> Batch {
    batch.0.brought_by = Bytes::copy_from_slice(&[link; 38]);
    batch
}

pub(crate) fn item_of(batch: &Batch) -> Item {
    Item {
        sent_at_ms: batch.0.sent_at_ms,
        id: batch.0.id,
    }
}

pub(crate) const NEW: Outcome = Outcome::New { follows: true };
