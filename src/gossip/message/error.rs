//! Errors of batches.
//!
//! Entry type: [`BatchError`]. The rule it keeps: each violation of the contract has a name, and only the date is excused.

use libp2p::PeerId;

use super::limits::{MAX_AHEAD_MS, MAX_EVENT_NAME, MAX_EVENTS, MAX_PREV, MAX_SEQ};
use crate::identity::PublicKeyError;
use crate::model::RoomName;
use crate::wire::envelope::{MAX_EVENT_DATA, MAX_MESSAGE, NoEnvelope};
use crate::wire::strict::Malformed;

/// Reason why bytes are not a valid batch, or events cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("the message has {0} bytes, the limit is {MAX_MESSAGE}")]
    TooLarge(usize),
    /// The message is not the canonical encoding of an envelope.
    #[error("the message is not an envelope: {0}")]
    NotAnEnvelope(&'static str),
    /// The body violates the strict encoding.
    #[error("the body is not a batch: {0}")]
    NotABatch(Malformed),
    /// The author's key is refused.
    #[error("the author's key is refused: {0}")]
    Author(PublicKeyError),
    /// The instance id has another length than 16 bytes.
    #[error("the instance id has {0} bytes instead of 16")]
    InstanceId(usize),
    /// The batch was signed for another room than that of its topic.
    #[error("the batch was signed for another room than {0:?}")]
    OtherRoom(RoomName),
    /// An id in `prev` has another length than 32 bytes.
    #[error("an id of a batch before it has {0} bytes instead of 32")]
    PrevLength(usize),
    /// The batch refers to more than [`MAX_PREV`] previous batches.
    #[error("the batch names more than {MAX_PREV} batches before it")]
    TooManyPrev,
    /// The batch has no event.
    #[error("the batch has no event")]
    NoEvents,
    /// The batch has more than [`MAX_EVENTS`] events.
    #[error("the batch has more than {MAX_EVENTS} events")]
    TooManyEvents,
    /// An event has more than [`MAX_EVENT_DATA`] bytes of data.
    #[error("the event has {0} bytes of data, the limit is {MAX_EVENT_DATA}: send it in parts")]
    EventTooLarge(usize),
    /// The name of an event has more than [`MAX_EVENT_NAME`] bytes.
    #[error("the event's name has {0} bytes, the limit is {MAX_EVENT_NAME}")]
    NameTooLong(usize),
    /// The numbers of the events begin with 0 or end beyond [`MAX_SEQ`].
    #[error("the events cannot be numbered from {0}: numbers go from 1 to {MAX_SEQ}")]
    Numbering(u64),
    /// The signature is not the author's, or is for another network.
    #[error("the signature is not the author's for this network")]
    Signature,
    /// The batch is dated more than [`MAX_AHEAD_MS`] ahead: the author's clock or this node's is wrong.
    #[error(
        "the batch is dated {by_ms} ms ahead of this node's clock, the limit is {MAX_AHEAD_MS}"
    )]
    Ahead {
        /// Public id of the author.
        author: PeerId,
        /// Time by which it is dated ahead, in milliseconds.
        by_ms: u64,
    },
}

impl BatchError {
    /// Returns whether no honest peer would have forwarded the batch. Only the date is no offence, because each node
    /// compares it with its own clock.
    pub fn is_offence(&self) -> bool {
        !matches!(self, BatchError::Ahead { .. })
    }
}

impl From<NoEnvelope> for BatchError {
    fn from(error: NoEnvelope) -> BatchError {
        match error {
            NoEnvelope::TooLarge(bytes) => BatchError::TooLarge(bytes),
            NoEnvelope::Spelling(what) => BatchError::NotAnEnvelope(what),
        }
    }
}
