//! What a node tells its application.
//!
//! Entry types: [`Event`], [`Events`]. How often it tells what others bring about is decided in `limits`, how
//! events come to their readers in `bus`, what of them finds no room for a slow reader in `queue`, and how it goes on from
//! the log in `backlog` and `resume`.

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
pub(crate) use resume::{Past, PastPage};

/// Which side dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Direction {
    /// We did.
    Dialer,
    /// The peer did.
    Listener,
}

impl Direction {
    /// The name in JSON lines.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Dialer => "dialer",
            Direction::Listener => "listener",
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The node listens on another address, `/p2p/` included.
    Listening {
        /// Where it can be dialled.
        address: Multiaddr,
    },
    /// A peer passed the handshake in both rounds.
    LinkUp {
        /// Who.
        peer_id: PeerId,
        /// Where.
        address: Multiaddr,
        /// Which side dialled.
        direction: Direction,
        /// Links now.
        links: usize,
    },
    /// A link is gone.
    LinkDown {
        /// Whose.
        peer_id: PeerId,
        /// Why.
        reason: String,
        /// Links now.
        links: usize,
    },
    /// A connection came to nothing.
    Refused {
        /// Whose, when noise had told.
        peer_id: Option<PeerId>,
        /// Where.
        address: Multiaddr,
        /// At which stage and why.
        error: StageError,
    },
    /// A peer has proved its key, only to see whether this node can be linked with, and goes again: `diatribe check`.
    Visit {
        /// Who.
        peer_id: PeerId,
        /// From where.
        address: Multiaddr,
    },
    /// Somebody said something.
    Message(Message),
    /// This node told one of its links to connect to a newcomer.
    Redirected {
        /// Who was told.
        peer_id: PeerId,
        /// The newcomer.
        to: PeerId,
        /// Where the newcomer can be dialled, if it can.
        address: Option<Multiaddr>,
    },
    /// A redirect hint that a link gave this node has ended.
    Hint {
        /// Who gave it.
        from: PeerId,
        /// Whom it named.
        to: PeerId,
        /// Where.
        address: Option<Multiaddr>,
        /// How it ended: `linked`, or why not.
        outcome: &'static str,
    },
    /// A room was compared with a neighbour.
    Checked {
        /// The room.
        room: String,
        /// With whom.
        peer_id: PeerId,
        /// Neighbours in the room that take part in data checking.
        neighbours: usize,
        /// Those that held the same when last compared.
        agreed: usize,
        /// Batches that this comparison brought.
        repaired: u64,
        /// What it cost on the wire, both ways, in bytes.
        bytes: u64,
    },
    /// An author signed two different batches with the same numbers. The one that was stored first counts; the
    /// other one is stored as well and not delivered.
    Equivocation {
        /// Who signed both.
        author: PeerId,
        /// The room.
        room: RoomName,
        /// The number of the second batch's first event.
        seq: u64,
        /// The batch that counts here.
        first: BatchId,
        /// The other one.
        second: BatchId,
    },
    /// A message is dated earlier than it can have been sent by an honest clock. It is delivered all the same.
    BackDated {
        /// Who signed it.
        author: PeerId,
        /// The room.
        room: RoomName,
        /// The number of the batch's first event.
        seq: u64,
        /// The batch.
        id: BatchId,
        /// By how much.
        by: Duration,
        /// What shows it.
        than: DatedThan,
    },
    /// Somebody takes more than its share of the log, which is full: its own oldest messages make room.
    Crowding(Crowding),
    /// A clock is wrong, or in doubt, or right again.
    Clock(ClockReport),
    /// Something went wrong that concerns no link.
    Error {
        /// What, and what to do.
        reason: String,
    },
    /// Others brought about more than is told one by one.
    Suppressed {
        /// The type of JSON lines that were left out; `link` for those of links that came up and went.
        kind: &'static str,
        /// What they tell of, in the plural, for people.
        what: &'static str,
        /// How many were left out.
        lines: u64,
        /// Within this time.
        over: Duration,
    },
    /// This reader was too slow: so many events are missing at this place that the log does not have either; see [`Events`].
    Missed {
        /// Whose messages they were; none for several authors, or what the node itself tells.
        author: Option<PeerId>,
        /// How many.
        events: u64,
    },
}

/// What shows that a message is back-dated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum DatedThan {
    /// It came live, later than a message that is on its way can come.
    Arrival,
    /// The same process of its author had dated an earlier message later.
    EarlierMessage,
}

impl DatedThan {
    /// The name in JSON lines.
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
pub struct Message {
    /// The batch it travelled in.
    pub id: BatchId,
    /// In which room.
    pub room: RoomName,
    /// Who signed it.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialize::text")
    )]
    pub author: PeerId,
    /// The author's process.
    pub instance_id: [u8; 16],
    /// Its number among this author process's events in the room, from 1.
    pub seq: u64,
    /// What kind of event it is; the application's own word.
    pub name: String,
    /// The data.
    pub data: Bytes,
    /// When the author sent it, by the author's clock: Unix time in milliseconds.
    pub sent_at_ms: u64,
    /// Whether it came by data checking instead of live.
    pub backfill: bool,
}

impl Event {
    /// The bytes that the event counts for in a queue.
    fn bytes(&self) -> usize {
        let said = match self {
            Event::Message(message) => message.data.len() + message.name.len(),
            Event::LinkDown { reason, .. } | Event::Error { reason } => reason.len(),
            Event::Refused { error, .. } => error.reason.len(),
            _ => 0,
        };
        EVENT_OVERHEAD + said
    }

    /// Whose message it is; none for what the node itself tells.
    fn author(&self) -> Option<PeerId> {
        match self {
            Event::Message(message) => Some(message.author),
            _ => None,
        }
    }
}
