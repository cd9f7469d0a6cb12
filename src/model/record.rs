//! A batch as the log stores it, and the permission to store one.
//!
//! Entry types: [`Record`], [`Verified`]. The rule it keeps: a record enters the log only out of a type that
//! implements [`Verified`], which guarantees that its signature was made or checked here.

use bytes::Bytes;

use super::author_stream::{AuthorStream, InstanceId};
use super::room_name::RoomName;

/// Id of a batch: a hash of its room and envelope ([`crate::wire::envelope::id_in_room`]).
pub type Id = [u8; 32];

/// Permission to store a batch: implemented only by types that signing or verifying yields. The supertrait `Seal`
/// cannot be implemented in another crate.
pub trait Verified: Seal {
    /// Returns the batch as the log stores it.
    fn record(&self) -> Record;
}

/// Seals [`Verified`]: implemented by modules that keep the constructors of such a type to the signer and the
/// verifier.
pub trait Seal {}

/// A batch as the log stores it: the columns of its row, and its envelope unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Id of `bytes` in `room`.
    pub id: Id,
    /// Room in which it was sent.
    pub room: RoomName,
    /// The author's libp2p `PublicKey`.
    pub author: Bytes,
    /// Random id of the author's process, new for each start.
    pub instance: InstanceId,
    /// Sequence number of its first event in the author's stream, from 1.
    pub first_seq: u64,
    /// Number of events, at least one.
    pub count: u64,
    /// Sending time that the author signed, in Unix milliseconds.
    pub sent_at_ms: u64,
    /// The envelope, byte for byte.
    pub bytes: Bytes,
    /// PeerId of the neighbour that delivered it first; empty for a batch of this node and for one read back from the
    /// log.
    pub brought_by: Bytes,
}

/// Bytes charged for each event of a batch besides its payload. Every quota of batches charges this amount.
pub const EVENT_BYTES: u64 = 64;

/// Bytes charged for each batch besides its envelope and events: its row and its index entries.
const ROW_BYTES: u64 = 256;

impl Record {
    /// Returns the stream of events that the batch is part of.
    pub fn stream(&self) -> AuthorStream {
        AuthorStream {
            room: self.room.clone(),
            author: self.author.clone(),
            instance: self.instance,
        }
    }

    /// Returns the sequence number after its last event.
    pub fn end_seq(&self) -> u64 {
        self.first_seq.saturating_add(self.count)
    }

    /// Returns the bytes that the batch is charged against the quotas of a full log.
    pub(crate) fn cost(&self) -> u64 {
        let events = self.count.saturating_mul(EVENT_BYTES);
        (self.bytes.len() as u64 + ROW_BYTES).saturating_add(events)
    }

    /// Returns whether its numbers fit into the log's columns, which are signed.
    pub(crate) fn fits(&self) -> bool {
        let most = i64::MAX as u64;
        self.first_seq >= 1
            && self.count >= 1
            && self
                .first_seq
                .checked_add(self.count)
                .is_some_and(|end| end <= most)
            && self.sent_at_ms <= most
    }
}

/// A record that was read back from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The batch.
    pub record: Record,
    /// Time at which it was stored, in Unix milliseconds.
    pub stored_at_ms: u64,
    /// Whether another batch with the same sequence numbers was stored before it (equivocation of the author).
    pub conflict: bool,
}

/// Result of storing one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The batch was stored and had not been stored before.
    New {
        /// Whether the log holds the author's preceding event, or the batch begins the stream.
        follows: bool,
    },
    /// The batch had been stored before; perhaps only its tombstone is left. Do not deliver it again.
    Held,
    /// The batch is older than the low watermark or the retention age, and was not stored.
    TooOld,
    /// The batch was stored, but its author had used the same numbers in another batch, which takes precedence. The
    /// log keeps both, so that neighbours that received the two in a different order end with equal logs and fetch
    /// neither again. Do not deliver it.
    Conflict {
        /// Id of the batch that takes precedence.
        with: Id,
    },
    /// The batch's numbers exceed the log's columns; it was not stored.
    OutOfRange,
}

impl Outcome {
    /// Returns whether the log has the batch now.
    pub fn is_held(&self) -> bool {
        !matches!(self, Outcome::TooOld | Outcome::OutOfRange)
    }

    /// Returns whether this call stored the batch.
    pub(crate) fn is_stored(&self) -> bool {
        matches!(self, Outcome::New { .. } | Outcome::Conflict { .. })
    }
}
