//! What happens to data checking, and what follows from it.
//!
//! Entry types: [`Input`], [`Output`]. The rule it keeps: whatever data checking learns or has done
//! passes here, as a value.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::sync_round::Fault;
use crate::model::{DEFAULT_RETENTION_AGE, Found, Id, Item};

/// How often a room is compared with one of its neighbours, in turn. In agreement that costs some 60
/// bytes; the time bounds how long a lost batch stays lost. A guess.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// A request of a neighbour, as the network names it.
pub type RequestId = u64;

/// What happens to data checking.
#[derive(Debug)]
pub enum Input<P> {
    /// We are in this room now; the log is asked for what it holds ([`Output::Load`]).
    Join(String),
    /// What the log held of a room: its horizon and items.
    Loaded(String, u64, Vec<Item>),
    /// We left the room.
    Leave(String),
    /// The log stored a batch, as new or in conflict.
    Stored {
        /// The room.
        room: String,
        /// Its time and id.
        item: Item,
    },
    /// The log stored a large batch that has just come, as new or in conflict: the neighbours are offered
    /// it.
    Large {
        /// The room.
        room: String,
        /// Its time and id.
        item: Item,
        /// Its length.
        bytes: usize,
        /// The neighbour that brought it; none when it is our own.
        from: Option<P>,
    },
    /// From now on [`Output::Holds`] says who holds this batch of our own.
    Watch(Id),
    /// And from now on it does not.
    Unwatch(Id),
    /// The neighbours in the room, but for some, are to say whether they hold a batch that gossip brings them.
    Confirm {
        /// The room.
        room: String,
        /// Its time and id.
        item: Item,
        /// Who has said so.
        except: BTreeSet<P>,
    },
    /// The log has removed batches of a room.
    Pruned {
        /// The room.
        room: String,
        /// Nothing sent before this is taken or compared any more.
        low_watermark_ms: u64,
        /// How many are remembered that made room: they count as held in comparisons.
        removed: u64,
    },
    /// A link is up.
    LinkUp(P),
    /// The neighbour understands offers.
    SupportsAnnouncements(P),
    /// A link is down.
    LinkDown(P),
    /// The neighbour is in these rooms.
    RoomsOf(P, Vec<String>),
    /// A neighbour's request.
    Request(P, RequestId, Bytes),
    /// A large answer to a neighbour was sent; false: it could not be.
    Sent(RequestId, bool),
    /// What the log holds of the ids of [`Output::Read`]; the default when it could not be read.
    Found(P, RequestId, Found),
    /// The answer to [`Output::Request`] with this token.
    Response(u64, Bytes),
    /// No answer will come.
    Failed(u64),
    /// [`Output::Fetched`] with this ticket is dealt with.
    Settled {
        /// The ticket.
        ticket: u64,
        /// How many of its batches the log stored as new.
        stored: u64,
        /// How many did not verify.
        forged: u64,
    },
    /// Neighbours from which something has arrived just now; said before [`Input::Tick`].
    Arriving(BTreeSet<P>),
    /// Time has passed.
    Tick,
}

/// What data checking pending_fetches done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<P> {
    /// Read the newest of a room's items, at most so many: [`Input::Loaded`].
    Load(String, usize),
    /// Ask a neighbour: [`Input::Response`] or [`Input::Failed`] with the token.
    Request(P, u64, Vec<u8>),
    /// Answer a neighbour.
    Respond(P, RequestId, Vec<u8>),
    /// Read these batches, up to so many bytes: [`Input::Found`].
    Read {
        /// Who asks.
        peer: P,
        /// Its request.
        request: RequestId,
        /// The room.
        room: String,
        /// The ids.
        ids: Vec<Id>,
        /// The bytes.
        most: usize,
    },
    /// Verify these as if they had come by gossip, store them, in this order: [`Input::Settled`].
    Fetched {
        /// From whom.
        peer: P,
        /// The ticket.
        ticket: u64,
        /// The room that each must be of.
        room: String,
        /// The envelopes.
        envelopes: Vec<Bytes>,
        /// When there is one that the neighbour has offered: its id. It has just come.
        announced: Option<Id>,
    },
    /// What a neighbour was offered and does not have yet.
    Outstanding {
        /// The neighbour.
        peer: P,
        /// The bytes.
        bytes: usize,
        /// How it stands with batches of our own among it.
        own: OwnPending,
    },
    /// A neighbour does not lack a batch that is watched ([`Input::Watch`]): it holds it, or keeps none so old.
    Holds(P, Id),
    /// A comparison is over.
    Checked(Checked<P>),
    /// Close the link, for this reason.
    Drop(P, Fault),
}

/// How it stands with batches of our own that a neighbour was offered, and what is sent after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnPending {
    /// Nothing has to wait.
    Nothing,
    /// It has fetched none of them, and nobody else has: it is waited for as long as it goes on.
    Announced,
    /// For so long at most: one is on its way to it, or another neighbour has it already and passes it on.
    WaitAtMost(Duration),
}

/// How a comparison went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked<P> {
    /// The room.
    pub room: String,
    /// The neighbour.
    pub peer: P,
    /// Whether both hold the same now, in the part that was compared.
    pub agreed: bool,
    /// Batches that we lacked, stored now.
    pub repaired: u64,
    /// Batches that the neighbour lacked; it was told.
    pub ahead: u64,
    /// What it cost, both ways.
    pub bytes: u64,
    /// Its steps, fetches apart.
    pub steps: u64,
}

/// How data checking is set.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How long the log keeps.
    pub keep: Duration,
    /// How often each room is compared.
    pub interval: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            keep: DEFAULT_RETENTION_AGE,
            interval: INTERVAL,
        }
    }
}
