//! What the log keeps of a batch, and who may hand it one.
//!
//! Entry types: [`Record`], [`Verified`]. The rule it keeps: a record enters the log only out of a
//! type that says of itself that it was checked.

use bytes::Bytes;

use super::author_stream::AuthorStream;

/// A batch's id: a hash of its room and envelope ([`crate::wire::envelope::id_in_room`]).
pub type Id = [u8; 32];

/// Implemented by the types that only a signature yields, made or verified; nothing else can be stored. No other crate
/// can implement it.
pub trait Verified: Seal {
    /// The batch as the log keeps it.
    fn record(&self) -> Record;
}

/// What makes a type one that may be stored: named by whoever keeps its constructors to the signer and the verifier.
pub trait Seal {}

/// A batch as the log keeps it: what it is found by, and its envelope as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The id of `bytes` in `room`.
    pub id: Id,
    /// The room it was sent in.
    pub room: String,
    /// The author's libp2p `PublicKey`.
    pub author: Bytes,
    /// The author's process: random for each start.
    pub instance: [u8; 16],
    /// The number of its first event within author, instance and room, from 1.
    pub first_seq: u64,
    /// How many events it holds, at least one.
    pub count: u64,
    /// When its author says it was sent, in Unix milliseconds.
    pub sent_at_ms: u64,
    /// The envelope, byte for byte.
    pub bytes: Bytes,
    /// The PeerId of the neighbour that brought it first; empty when none did, and in what is read back.
    pub brought_by: Bytes,
}

/// What each event of a batch counts for besides its bytes, in bytes: as everywhere else that batches are counted.
pub const EVENT_BYTES: u64 = 64;

/// What a batch counts besides its envelope and its events: its row, and those of the indices.
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

    /// The number after its last event.
    pub fn end_seq(&self) -> u64 {
        self.first_seq.saturating_add(self.count)
    }

    /// What the batch counts for when there is no room for all.
    pub(crate) fn cost(&self) -> u64 {
        let events = self.count.saturating_mul(EVENT_BYTES);
        (self.bytes.len() as u64 + ROW_BYTES).saturating_add(events)
    }

    /// Whether its numbers fit into the log's columns, which are signed.
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

/// A record as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The batch.
    pub record: Record,
    /// When it was stored, in Unix milliseconds.
    pub stored_at_ms: u64,
    /// Whether its author had given its numbers to another batch that was stored before.
    pub conflict: bool,
}

/// What became of a batch that was handed to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored now, and was not before.
    New {
        /// Whether the author's events up to it are held: the one before its first, or there is none.
        follows: bool,
    },
    /// It was stored before, and may have made room since: not to be delivered again.
    Held,
    /// It is dated before what the log keeps: not stored.
    TooOld,
    /// It is stored now, but its author gave the same numbers to another batch before: the first one
    /// counts. It is kept so that neighbours that met the two the other way round end with equal logs
    /// (and nobody fetches it over and over), and it is not to be delivered.
    Conflict {
        /// The batch that came first.
        with: Id,
    },
    /// Its numbers are beyond what a log can hold: not stored.
    OutOfRange,
}

impl Outcome {
    /// Whether the log has it now.
    pub fn is_held(&self) -> bool {
        !matches!(self, Outcome::TooOld | Outcome::OutOfRange)
    }

    /// Whether it is stored now, and was not before.
    pub(crate) fn is_stored(&self) -> bool {
        matches!(self, Outcome::New { .. } | Outcome::Conflict { .. })
    }
}
