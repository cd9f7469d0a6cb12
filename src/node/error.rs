//! Errors of the calls of a node.
//!
//! Entry types: [`StartError`], [`ConnectError`], [`BroadcastError`]. The rule they keep: each names the cause, whether
//! anything was lost, and a remedy.

use std::time::Duration;

use crate::gossip::{MAX_EVENT_DATA, MAX_EVENT_NAME};
use crate::model::RoomName;
use crate::net::listening::ListenError;
use crate::net::stage::StageError;

/// A node could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address as it was given.
        address: String,
        /// The cause and the remedy.
        reason: String,
    },
    /// The TLS certificate or its key cannot be used.
    #[error("cannot use the TLS certificate: {0}")]
    Tls(String),
    /// More rooms were requested than a node may be in.
    #[error("a node can be in at most {max} rooms, {asked} were asked for")]
    TooManyRooms {
        /// Maximum number of rooms.
        max: usize,
        /// Number of requested rooms.
        asked: usize,
    },
    /// The log cannot be opened.
    #[error("{0}")]
    Log(#[from] crate::store::LogError),
    /// The system refused something that a node requires.
    #[error("the node cannot start: {0}")]
    System(String),
}

impl From<ListenError> for StartError {
    fn from(error: ListenError) -> StartError {
        match error {
            ListenError::Address { address, reason } => StartError::Listen { address, reason },
            ListenError::NoInterface(reason) => StartError::System(reason),
        }
    }
}

/// A link could not be established.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The connection failed at a stage.
    #[error("{0}")]
    Stage(StageError),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// An event was not broadcast. Nothing of it left the node, except for [`BroadcastError::NotKept`] and
/// [`BroadcastError::NotConfirmed`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BroadcastError {
    /// The data exceeds the limit.
    #[error(
        "the event has {bytes} bytes of data, the limit is {MAX_EVENT_DATA} bytes: send it in parts"
    )]
    TooLarge {
        /// Size of the data, in bytes.
        bytes: usize,
    },
    /// The name exceeds the limit.
    #[error("the event's name has {bytes} bytes, the limit is {MAX_EVENT_NAME} bytes")]
    NameTooLong {
        /// Length of the name, in bytes.
        bytes: usize,
    },
    /// The node is not in the room.
    #[error("this node is not in the room `{0}`: join it first")]
    NotInRoom(RoomName),
    /// No linked peer is in the room.
    #[error("not sent: no linked peer is in the room `{0}`; a peer must join it too (/join {0})")]
    NoLinks(RoomName),
    /// The events cannot form a batch.
    #[error("the event cannot be sent: {0}")]
    Unsendable(String),
    /// The event was sent and is stored here, but fewer neighbours than required have confirmed that they stored it.
    #[error(
        "the event was sent and is stored here, but only at {holders} of {needed} neighbours within {} s: the others get it when \
         they come; link with more nodes, or ask for fewer",
        within.as_secs()
    )]
    NotConfirmed {
        /// Number of neighbours that confirmed.
        holders: usize,
        /// Number of required confirmations.
        needed: usize,
        /// Time limit for the confirmations.
        within: Duration,
    },
    /// The event was sent, but this node could not store it.
    #[error("the event was sent, but could not be kept: {0}")]
    NotKept(String),
    /// Most linked peers would refuse the event for its date: this machine's clock is wrong, or theirs are.
    #[error("the event was not sent: {0}")]
    ClockWrong(String),
    /// The node has stopped.
    #[error("the node has stopped: nothing was sent")]
    Stopped,
}

/// A room could not be joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The node is in the maximum number of rooms.
    #[error("this node is in {0} rooms already, the most it can be in: leave one first")]
    TooMany(usize),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}
