//! What a node's calls answer when they cannot do as asked.
//!
//! Entry types: [`StartError`], [`ConnectError`], [`BroadcastError`]. The rule they keep: each says
//! what was wrong, whether anything was lost, and what to do.

use std::time::Duration;

use crate::gossip::{MAX_EVENT_DATA, MAX_EVENT_NAME};
use crate::model::RoomName;
use crate::net::listening::ListenError;
use crate::net::stage::StageError;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address to listen on that cannot be.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address as it was given.
        address: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The certificate or its key.
    #[error("cannot use the TLS certificate: {0}")]
    Tls(String),
    /// More rooms than a node may be in.
    #[error("a node can be in at most {max} rooms, {asked} were asked for")]
    TooManyRooms {
        /// The most.
        max: usize,
        /// How many were asked for.
        asked: usize,
    },
    /// The log.
    #[error("{0}")]
    Log(#[from] crate::store::LogError),
    /// The system refused something a node cannot be without.
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

/// Why a link did not come up.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// It failed at a stage.
    #[error("{0}")]
    Stage(StageError),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// Why an event was not broadcast. Nothing of it left the node, but for
/// [`BroadcastError::NotKept`] and [`BroadcastError::NotConfirmed`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BroadcastError {
    /// The data is too large.
    #[error(
        "the event has {bytes} bytes of data, the limit is {MAX_EVENT_DATA} bytes: send it in parts"
    )]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// The name is too long.
    #[error("the event's name has {bytes} bytes, the limit is {MAX_EVENT_NAME} bytes")]
    NameTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The node is not in the room.
    #[error("this node is not in the room `{0}`: join it first")]
    NotInRoom(RoomName),
    /// Nobody is there to take it.
    #[error(
        "no linked peer is in the room `{0}`: nothing was sent; connect to one first, or wait for one"
    )]
    NoLinks(RoomName),
    /// The events make no batch.
    #[error("the event cannot be sent: {0}")]
    Unsendable(String),
    /// It left the node and is stored there, but fewer neighbours than asked for have said that they stored it, too.
    #[error(
        "the event was sent and is stored here, but only at {holders} of {needed} neighbours within {} s: the others get it when \
         they come; link with more nodes, or ask for fewer",
        within.as_secs()
    )]
    NotConfirmed {
        /// How many have.
        holders: usize,
        /// How many were asked for.
        needed: usize,
        /// How long they had.
        within: Duration,
    },
    /// It left the node, which could not store it.
    #[error("the event was sent, but could not be kept: {0}")]
    NotKept(String),
    /// Most linked peers would refuse it for its date: this machine's clock is wrong, or theirs are.
    #[error("the event was not sent: {0}")]
    ClockWrong(String),
    /// The node has stopped.
    #[error("the node has stopped: nothing was sent")]
    Stopped,
}

/// Why a room was not joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// The node is in as many rooms as it may be.
    #[error("this node is in {0} rooms already, the most it can be in: leave one first")]
    TooMany(usize),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}
