//! What goes into the overlay's state machine and what comes out of it.
//!
//! Entry types: [`Input`], [`Output`]. The rule they keep: they are plain values.

use std::sync::Arc;

use super::address::{Address, Remote};
use super::message::{Contact, Request, Response};

/// Which side of a connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The peer dialled us.
    Inbound,
    /// We dialled the peer.
    Outbound,
}

/// Whether a peer that has proved its key may become a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission<I, A> {
    /// A place is reserved for it.
    Accept,
    /// There is no place: refuse with BUSY. Whom it may try instead, when it is we who were dialled.
    Busy {
        /// Peers we have been in contact with.
        referrals: Vec<Contact<I, A>>,
    },
}

/// Names a dial, until its link is up or it has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialId(pub u64);

/// Names an exchange: ours in `Send` and `Response`, the driver's in `Request` and `Respond`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

/// Why a dial brought no link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialError<I, A: Address> {
    /// Nobody answered, or not as a node should.
    Failed,
    /// Another peer than the expected one answered.
    WrongPeer,
    /// The handshake was refused with BUSY.
    Busy {
        /// The other end of the connection on which that was said.
        remote: Remote<A>,
        /// Whom the peer has named instead, if it did.
        referrals: Vec<Contact<I, A>>,
    },
    /// The handshake was refused for good: another network, not trusted, our own key.
    Refused,
    /// A link with this peer is already there.
    Duplicate,
}

/// Why an exchange has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeError {
    /// No response in time, or the link ended.
    Lost,
    /// The peer does not speak the protocol: it becomes a plain link.
    Unsupported,
}

/// What has happened.
#[derive(Clone, Debug)]
pub enum Input<I, A: Address> {
    /// A verified connection has become a link. One for each peer, however many connections.
    LinkUp {
        /// Who.
        peer: I,
        /// Which side we are.
        direction: Direction,
        /// The other end, as the connection's socket has it.
        remote: Remote<A>,
        /// The dial that led to it, if it was one of ours.
        dial: Option<DialId>,
    },
    /// A link's last connection has ended.
    LinkDown {
        /// Who.
        peer: I,
    },
    /// A dial has failed.
    DialFailed {
        /// Which.
        dial: DialId,
        /// Why.
        error: DialError<I, A>,
    },
    /// A link asks.
    Request {
        /// Who.
        from: I,
        /// Name of the exchange.
        id: ExchangeId,
        /// What.
        request: Request<I, A>,
    },
    /// A link has answered, or not.
    Response {
        /// Who.
        from: I,
        /// As in `Send`.
        id: ExchangeId,
        /// The answer.
        result: Result<Response<I, A>, ExchangeError>,
    },
    /// A link has brought a batch that was new here.
    Brought {
        /// Who.
        peer: I,
    },
    /// A node that refused us with BUSY, whoever wanted the dial, has named others.
    Referred {
        /// The other end of the connection on which it did.
        remote: Remote<A>,
        /// Whom.
        contacts: Vec<Contact<I, A>>,
    },
    /// Time has passed; see `deadline`.
    Tick,
    /// The configured entry nodes, with or without their ids. Their addresses, which may be names, are the driver's: here
    /// each is known by its place in the list.
    Entries(Vec<Option<I>>),
    /// Where we listen, and whether others can dial us.
    Addresses {
        /// Where.
        addresses: Vec<A>,
        /// Whether others can dial us.
        dialable: bool,
    },
    /// Stop: take leave of the links.
    Shutdown,
}

/// Why we dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose<I> {
    /// A configured entry node.
    Entry,
    /// A peer of the book or the pool.
    Seek,
    /// An anchor, to keep links of our own choice.
    Anchor,
    /// One link more than wanted, where there is room.
    TopUp,
    /// A redirect hint of this link.
    Hint(I),
}

/// Why we close a link, or why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It has moved to another peer.
    Handover,
    /// No room for it.
    Surplus,
    /// The peer refused to keep us.
    Refused,
    /// A handover that it belonged to has failed.
    Aborted,
    /// We or the peer stop.
    Leaving,
    /// It brought nothing, and another peer needed its place.
    Idle,
    /// Its network holds more than its share of the places, and a peer of another one needed one.
    Crowded,
    /// It was lost.
    Lost,
}

/// Where to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<A> {
    /// The configured entry node that stands at this place of the last [`Input::Entries`].
    Entry(usize),
    /// These addresses of one peer, the likeliest first.
    Addresses(Arc<[A]>),
}

/// How a redirect hint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HintOutcome {
    /// The link that it named is up.
    Linked,
    /// The dial failed.
    Unreachable,
    /// Another peer answered.
    WrongPeer,
    /// The peer did not agree to it.
    Rejected,
    /// The teller took it back, or too much time passed.
    Cancelled,
    /// It came from no link.
    NotALink,
    /// It named ourselves.
    Ourselves,
    /// It named a peer we are linked with.
    AlreadyLinked,
    /// It named no address that this link may name.
    Scope,
    /// There were too many, or this address too recently.
    TooMany,
    /// We take part in a handover, or have no room.
    Busy,
    /// Nobody can dial us.
    NotDialable,
}

/// What people should be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report<I, A> {
    /// We told a link to connect to a newcomer.
    Redirected {
        /// Who was told.
        told: I,
        /// To whom.
        to: I,
        /// Where.
        address: Option<A>,
    },
    /// A hint that we were told has ended.
    Hint {
        /// Who told it.
        from: I,
        /// Whom it named.
        to: I,
        /// Where.
        address: Option<A>,
        /// How.
        outcome: HintOutcome,
    },
    /// A link has ended.
    LinkEnded {
        /// With whom.
        peer: I,
        /// Why.
        reason: Reason,
    },
    /// A peer broke a rule; told once for each link.
    Offence {
        /// Who.
        peer: I,
        /// What it did.
        what: &'static str,
    },
    /// There is no link, and nobody known has answered.
    Searching {
        /// Dials that have failed in a row.
        failures: u32,
        /// How long until the next one.
        backoff: std::time::Duration,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<I, A> {
    /// Connect.
    Dial {
        /// Name of the dial.
        dial: DialId,
        /// Who must answer; `None` only for an entry node given without an id.
        peer: Option<I>,
        /// Where.
        to: Target<A>,
        /// What for.
        purpose: Purpose<I>,
    },
    /// Ask a link.
    Send {
        /// Whom.
        to: I,
        /// Comes back with the response.
        id: ExchangeId,
        /// What.
        request: Request<I, A>,
    },
    /// Answer a link.
    Respond {
        /// Whom.
        to: I,
        /// As in `Request`.
        id: ExchangeId,
        /// What.
        response: Response<I, A>,
    },
    /// Close all connections with this peer, after what was already sent has had its chance.
    Close {
        /// Who.
        peer: I,
        /// Why.
        reason: Reason,
    },
    /// Tell people.
    Report(Report<I, A>),
    /// The address book has changed: keep it, in time.
    Persist,
}
