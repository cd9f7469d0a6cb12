//! A vocabulary for the tests of the log and of data checking: batches that are nobody's.

use bytes::Bytes;

use super::{Item, Outcome, Record, Seal, Verified};
use crate::wire::envelope::id_in_room;

/// A batch that counts as verified, as gossip's own type does in the node.
#[derive(Clone, Debug)]
pub(crate) struct Batch(pub(crate) Record);

impl Seal for Batch {}

impl Verified for Batch {
    fn record(&self) -> Record {
        self.0.clone()
    }
}

/// Now, in the tests: 2026-01-01.
pub(crate) const NOW_MS: u64 = 1_767_225_600_000;

/// A batch of one event in the room "a", by the author with this number.
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

/// A batch whose envelope has about `size` bytes and says what [`read_back`] needs.
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

/// The stand-in for the verifier.
pub(crate) fn read_back(bytes: &[u8]) -> Result<Batch, String> {
    let (room, author, first_seq, count, sent_at_ms): (String, u8, u64, u64, u64) =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let key = [&[8, 1, 18, 32][..], &[author; 32]].concat();
    Ok(Batch(Record {
        id: id_in_room(&room, bytes),
        room,
        author: key.into(),
        instance: [author; 16],
        first_seq,
        count,
        sent_at_ms,
        bytes: Bytes::copy_from_slice(bytes),
        brought_by: Bytes::new(),
    }))
}

/// The batch as the link with this number brought it.
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
