//! Inputs and outputs of anti-entropy ("data checking").
//!
//! Entry types: [`Input`], [`Output`]. The rule it keeps: anti-entropy learns and acts only through these values.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::sync_round::Fault;
use crate::model::{DEFAULT_RETENTION_AGE, Found, Id, Item};

/// Interval at which a room is compared with one of its neighbours, in turn. A comparison of equal sets costs about 60
/// bytes. The interval bounds how long a lost batch stays lost. An estimate.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Id of a neighbour's request, assigned by the network layer.
pub type RequestId = u64;

/// An input of anti-entropy.
#[derive(Debug)]
pub enum Input<P> {
    /// We joined this room. [`Output::Load`] requests its batches from the log.
    Join(String),
    /// The low watermark, in Unix milliseconds, and the items of a room in the log.
    Loaded(String, u64, Vec<Item>),
    /// We left this room.
    Leave(String),
    /// The log stored a batch, as new or in conflict.
    Stored {
        /// The room.
        room: String,
        /// Its time and id.
        item: Item,
    },
    /// The log stored a large new batch, as new or in conflict. It is announced to the neighbours.
    Large {
        /// The room.
        room: String,
        /// Its time and id.
        item: Item,
        /// Its size in bytes.
        bytes: usize,
        /// The neighbour that sent it; none for our own batch.
        from: Option<P>,
    },
    /// Starts to report the holders of this batch of our own with [`Output::Holds`].
    Watch(Id),
    /// Stops the reports for this batch.
    Unwatch(Id),
    /// Requests confirmations: the neighbours in the room, with exceptions, say whether they hold a batch that they
    /// receive by gossip.
    Confirm {
        /// The room.
        room: String,
        /// Its time and id.
        item: Item,
        /// Neighbours that have confirmed it already.
        except: BTreeSet<P>,
    },
    /// The log removed batches of a room under its retention limits.
    Pruned {
        /// The room.
        room: String,
        /// The low watermark: batches sent before this Unix millisecond are neither accepted nor compared.
        low_watermark_ms: u64,
        /// Number of removed batches that the log remembers: they count as held in comparisons.
        removed: u64,
    },
    /// A link is up.
    LinkUp(P),
    /// The neighbour supports announcements.
    SupportsAnnouncements(P),
    /// A link is down.
    LinkDown(P),
    /// The neighbour is in these rooms.
    RoomsOf(P, Vec<String>),
    /// A neighbour's request.
    Request(P, RequestId, Bytes),
    /// The large response to this request was sent, or, if false, could not be sent.
    Sent(RequestId, bool),
    /// The result of [`Output::Read`]. It is the default when the log could not be read.
    Found(P, RequestId, Found),
    /// The response to [`Output::Request`] with this token.
    Response(u64, Bytes),
    /// The request with this token failed: no response will arrive.
    Failed(u64),
    /// [`Output::Fetched`] with this ticket was verified and stored.
    Settled {
        /// The ticket.
        ticket: u64,
        /// Number of batches that the log stored as new.
        stored: u64,
        /// Number of batches that did not verify.
        forged: u64,
    },
    /// Neighbours from which data was received within the last seconds. It precedes [`Input::Tick`].
    Arriving(BTreeSet<P>),
    /// A deadline has passed.
    Tick,
}

/// An output of anti-entropy, for its driver to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<P> {
    /// Read the newest items of a room from the log, at most this many. The result is [`Input::Loaded`].
    Load(String, usize),
    /// Send a request with this token to a neighbour. The result is [`Input::Response`] or [`Input::Failed`].
    Request(P, u64, Vec<u8>),
    /// Send the response to this request of a neighbour.
    Respond(P, RequestId, Vec<u8>),
    /// Read these batches from the log. The result is [`Input::Found`].
    Read {
        /// The neighbour that requests them.
        peer: P,
        /// The id of its request.
        request: RequestId,
        /// The room.
        room: String,
        /// The ids.
        ids: Vec<Id>,
        /// Maximum size of the result, in bytes.
        most: usize,
    },
    /// Verify these envelopes like gossip, and store them in this order. The result is [`Input::Settled`].
    Fetched {
        /// The neighbour that sent them.
        peer: P,
        /// The ticket.
        ticket: u64,
        /// The room to which each of them must belong.
        room: String,
        /// The envelopes.
        envelopes: Vec<Bytes>,
        /// The id, if this is a batch that the neighbour has announced.
        announced: Option<Id>,
    },
    /// The announced batches that a neighbour does not have yet have changed.
    Outstanding {
        /// The neighbour.
        peer: P,
        /// Their size in bytes.
        bytes: usize,
        /// The state of our own batches among them.
        own: OwnPending,
    },
    /// A neighbour does not lack a watched batch ([`Input::Watch`]): it holds it, or keeps no batch so old.
    Holds(P, Id),
    /// A round has ended.
    Checked(Checked<P>),
    /// Close the link, for this reason.
    Drop(P, Fault),
}

/// State of our own batches that a neighbour has not fetched yet. It decides whether our later batches wait
/// (backpressure).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnPending {
    /// No batch is pending: nothing has to wait.
    Nothing,
    /// No neighbour has fetched them. Wait as long as the neighbour makes progress.
    Announced,
    /// Wait at most this long: an upload is in flight, or another peer already has the batch and will relay it.
    WaitAtMost(Duration),
}

/// The result of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked<P> {
    /// The room.
    pub room: String,
    /// The neighbour.
    pub peer: P,
    /// Whether both sides now hold the same batches, in the window that was compared.
    pub agreed: bool,
    /// Number of batches that we lacked and have now stored.
    pub repaired: u64,
    /// Number of batches that the neighbour lacked. It was notified.
    pub ahead: u64,
    /// Bytes exchanged, in both directions.
    pub bytes: u64,
    /// Number of comparison steps, without fetches.
    pub steps: u64,
}

/// Configuration of anti-entropy.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Age up to which the log keeps batches (retention).
    pub keep: Duration,
    /// Interval at which each room is compared with the next neighbour.
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
