//! Events of a node for its application.
//!
//! Entry types: [`Event`], [`Events`]. `rate_limit` bounds the events that a remote peer can trigger at will, `bus`
//! distributes events to their readers, `queue` bounds the memory of a slow reader, and `backlog` and `resume` let it
//! continue from the log.

mod backlog;
mod bus;
mod queue;
mod rate_limit;
mod resume;

use std::time::Duration;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};

use super::clocks::ClockReport;
use super::crowding::Crowding;
use crate::gossip::EVENT_OVERHEAD;
use crate::model::{BatchId, RoomName};
use crate::net::stage::StageError;

pub use backlog::MAX_STRETCHES;
pub(crate) use backlog::Stretch;
pub(crate) use bus::EventBus;
pub use bus::Events;
pub use queue::{MAX_WAITING_BYTES, MAX_WAITING_EVENTS};
pub(crate) use rate_limit::{Cause, Kind};
pub(crate) use resume::{LogPage, MessageLog};

/// The side that dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Direction {
    /// This node.
    Dialer,
    /// The peer.
    Listener,
}

impl Direction {
    /// Returns the name in JSON lines.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Dialer => "dialer",
            Direction::Listener => "listener",
        }
    }
}

/// An event of a node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The node listens on another address, `/p2p/` included.
    Listening {
        /// The address at which it can be dialled.
        address: Multiaddr,
    },
    /// A peer is linked: it passed both rounds of the handshake.
    LinkUp {
        /// The peer.
        peer_id: PeerId,
        /// The address of the other end.
        address: Multiaddr,
        /// The side that dialled.
        direction: Direction,
        /// Number of links now.
        links: usize,
    },
    /// A link has ended.
    LinkDown {
        /// The peer.
        peer_id: PeerId,
        /// The reason.
        reason: String,
        /// Number of links now.
        links: usize,
    },
    /// A connection failed or was refused.
    Refused {
        /// The peer, if the connection got as far as noise.
        peer_id: Option<PeerId>,
        /// The address of the other end.
        address: Multiaddr,
        /// The stage at which it failed, and the reason.
        error: StageError,
    },
    /// A peer has proved its key only to see whether this node can be linked with, and disconnects: `diatribe check`.
    Visit {
        /// The peer.
        peer_id: PeerId,
        /// The address of the other end.
        address: Multiaddr,
    },
    /// A message has arrived.
    Message(Message),
    /// This node sent a redirect hint: one of its links is to connect to a newcomer.
    Redirected {
        /// The link that got the hint.
        peer_id: PeerId,
        /// The newcomer.
        to: PeerId,
        /// The address at which the newcomer can be dialled, if it can.
        address: Option<Multiaddr>,
    },
    /// A redirect hint that this node got from a link has been dealt with.
    Hint {
        /// The sender of the hint.
        from: PeerId,
        /// The peer to connect to.
        to: PeerId,
        /// The address in the hint.
        address: Option<Multiaddr>,
        /// The outcome: `linked`, or the reason for which no link was made.
        outcome: &'static str,
    },
    /// A room was compared with a neighbour (anti-entropy).
    Checked {
        /// The room.
        room: String,
        /// The neighbour.
        peer_id: PeerId,
        /// Number of neighbours in the room that take part in data checking.
        neighbours: usize,
        /// Number of those that held the same batches when last compared.
        agreed: usize,
        /// Number of missing batches that this comparison fetched.
        repaired: u64,
        /// Bytes on the wire, in both directions.
        bytes: u64,
    },
    /// An author signed two different batches with the same numbers. The one that was stored first is delivered; the
    /// other one is only stored.
    Equivocation {
        /// The author of both.
        author: PeerId,
        /// The room.
        room: RoomName,
        /// The number of the second batch's first event.
        seq: u64,
        /// The batch that was stored first.
        first: BatchId,
        /// The other one.
        second: BatchId,
    },
    /// A message is dated earlier than it can have been sent by an honest clock. It is delivered all the same.
    BackDated {
        /// The author.
        author: PeerId,
        /// The room.
        room: RoomName,
        /// The number of the batch's first event.
        seq: u64,
        /// The batch.
        id: BatchId,
        /// By how much it is too early.
        by: Duration,
        /// The evidence.
        than: DatedThan,
    },
    /// A peer takes more than its share of the log, which is full: its own oldest messages make room.
    Crowding(Crowding),
    /// A clock is wrong, or in doubt, or right again.
    Clock(ClockReport),
    /// An error that concerns no link.
    Error {
        /// The error and the remedy.
        reason: String,
    },
    /// Events were left out by the rate limiter: a remote peer triggered too many.
    Suppressed {
        /// The type of the JSON lines that were left out; `link` for `link_up` and `link_down`.
        kind: &'static str,
        /// Their subject in the plural, for people.
        what: &'static str,
        /// Number of lines that were left out.
        lines: u64,
        /// The time in which they were left out.
        over: Duration,
    },
    /// This reader was too slow: at this position, events are missing that are not in the log either; see [`Events`].
    Missed {
        /// The author of the missing messages; none for several authors and for events that are no messages.
        author: Option<PeerId>,
        /// Number of missing events.
        events: u64,
    },
}

/// The evidence that a message is back-dated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum DatedThan {
    /// It arrived live, later than a message in flight can arrive.
    Arrival,
    /// An earlier message of the same process of its author has a later date.
    EarlierMessage,
}

impl DatedThan {
    /// Returns the name in JSON lines.
    pub fn name(self) -> &'static str {
        match self {
            DatedThan::Arrival => "arrival",
            DatedThan::EarlierMessage => "earlier_message",
        }
    }
}

/// One event of a room, as its author signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Message {
    /// The batch that contained it.
    pub id: BatchId,
    /// The room.
    pub room: RoomName,
    /// The author.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialize::text")
    )]
    pub author: PeerId,
    /// The author's process.
    pub instance_id: [u8; 16],
    /// Its number among this author process's events in the room, from 1.
    pub seq: u64,
    /// The kind of event, in the application's own words.
    pub name: String,
    /// The data.
    pub data: Bytes,
    /// Time of sending by the author's clock: Unix time in milliseconds.
    pub sent_at_ms: u64,
    /// Whether it arrived by data checking (anti-entropy), not live.
    pub backfill: bool,
}

impl Event {
    /// Returns the bytes that the event counts for in a queue.
    fn bytes(&self) -> usize {
        let data = match self {
            Event::Message(message) => message.data.len() + message.name.len(),
            Event::LinkDown { reason, .. } | Event::Error { reason } => reason.len(),
            Event::Refused { error, .. } => error.reason.len(),
            _ => 0,
        };
        EVENT_OVERHEAD + data
    }

    /// Returns the author of a message; none for other events.
    fn author(&self) -> Option<PeerId> {
        match self {
            Event::Message(message) => Some(message.author),
            _ => None,
        }
    }
}
