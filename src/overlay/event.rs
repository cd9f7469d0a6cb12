//! Inputs and outputs of the overlay's state machine.
//!
//! Entry types: [`Input`], [`Output`]. The rule they keep: they are plain values, without handles or clocks.

use std::sync::Arc;

use super::address::{Address, Remote};
use super::message::{Contact, Request, Response};

/// The direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The peer dialled this node.
    Inbound,
    /// This node dialled the peer.
    Outbound,
}

/// The decision whether a verified peer may become a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission<I, A> {
    /// A place is reserved for the peer.
    Accept,
    /// There is no place: the handshake is refused with BUSY.
    Busy {
        /// Verified peers that an inbound peer may try instead. Empty for an outbound connection.
        referrals: Vec<Contact<I, A>>,
    },
}

/// The name of a dial until its link is up or it has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialId(pub u64);

/// The name of an exchange: the overlay's own in `Send` and `Response`, the driver's in `Request` and `Respond`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u64);

/// The reason for which a dial has led to no link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialError<I, A: Address> {
    /// No node answered, or it broke the protocol.
    Failed,
    /// Another peer than the expected one answered.
    WrongPeer,
    /// The handshake was refused with BUSY.
    Busy {
        /// The other end of the refused connection.
        remote: Remote<A>,
        /// Peers that the node has named instead; may be empty.
        referrals: Vec<Contact<I, A>>,
    },
    /// The handshake was refused for good: another network, a peer that is not allowed, or this node's own key.
    Refused,
    /// A link with this peer is up already.
    Duplicate,
}

/// The reason for which a request has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeError {
    /// The response timed out, or the link ended.
    Lost,
    /// The peer does not speak the protocol: it becomes a plain link.
    Unsupported,
}

/// An input of the state machine.
#[derive(Clone, Debug)]
pub enum Input<I, A: Address> {
    /// A verified connection has become a link. Sent once for each peer, for any number of connections.
    LinkUp {
        /// The peer at the other end.
        peer: I,
        /// The direction of the connection.
        direction: Direction,
        /// The other end of the connection's socket.
        remote: Remote<A>,
        /// The dial that led to the link, if the overlay asked for it.
        dial: Option<DialId>,
    },
    /// A link's last connection has ended.
    LinkDown {
        /// The peer at the other end.
        peer: I,
    },
    /// A dial has failed.
    DialFailed {
        /// The dial.
        dial: DialId,
        /// The reason.
        error: DialError<I, A>,
    },
    /// A peer has sent a request.
    Request {
        /// The peer.
        from: I,
        /// The driver's name for the exchange.
        id: ExchangeId,
        /// The request.
        request: Request<I, A>,
    },
    /// A request of this node's has been answered, or has failed.
    Response {
        /// The peer that was asked.
        from: I,
        /// The name of the exchange, as in `Send`.
        id: ExchangeId,
        /// The response.
        result: Result<Response<I, A>, ExchangeError>,
    },
    /// A link has brought a batch that was new here.
    NewBatch {
        /// The peer at the other end.
        peer: I,
    },
    /// A node that refused this one with BUSY, on any dial, has named other peers.
    Referred {
        /// The other end of the refused connection.
        remote: Remote<A>,
        /// The peers that it has named.
        contacts: Vec<Contact<I, A>>,
    },
    /// The time of `deadline` has passed.
    Tick,
    /// The configured entry nodes, with or without their ids. Their addresses, which may be names, belong to the driver: the
    /// overlay knows each by its position in the list.
    Entries(Vec<Option<I>>),
    /// The addresses of this node have changed.
    Addresses {
        /// The addresses at which this node listens.
        addresses: Vec<A>,
        /// Whether other nodes can dial this one.
        dialable: bool,
    },
    /// The node shuts down: send a Leave on all links, and close them.
    Shutdown,
}

/// The reason for a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose<I> {
    /// A configured entry node.
    Entry,
    /// A known peer, because there are too few links.
    Seek,
    /// An anchor, to keep links of this node's own choice.
    Anchor,
    /// A known peer, for one link more than wanted.
    TopUp,
    /// The peer that a redirect hint of this link names.
    Hint(I),
}

/// The reason for which a link is closed, or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The link has moved to another peer.
    Handover,
    /// There is no room for the link.
    Surplus,
    /// The peer refused to keep the link.
    Refused,
    /// The handover for which the link came up has failed.
    Aborted,
    /// This node or the peer shuts down.
    Leaving,
    /// The link was idle, and another peer needed its place.
    Idle,
    /// The peer's network holds more than its share of the places, and a peer of another network needed one.
    Crowded,
    /// The connection was lost.
    Lost,
}

/// The target of a dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target<A> {
    /// The configured entry node at this position of the last [`Input::Entries`].
    Entry(usize),
    /// These addresses of one peer, the most likely one first.
    Addresses(Arc<[A]>),
}

/// The outcome of a redirect hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HintOutcome {
    /// The link that the hint asked for is up.
    Linked,
    /// The dial failed.
    Unreachable,
    /// Another peer than the named one answered.
    WrongPeer,
    /// The peer refused the link.
    Rejected,
    /// The coordinator cancelled the handover, or it timed out.
    Cancelled,
    /// The sender is not linked.
    NotALink,
    /// The hint names this node itself.
    Ourselves,
    /// The hint names a peer that is linked already.
    AlreadyLinked,
    /// The hint names no address that its link may name.
    Scope,
    /// The rate limit for dials is used up, or the address was dialled too recently.
    TooMany,
    /// This node takes part in another handover, or has no room.
    Busy,
    /// No other node can dial this one.
    NotDialable,
}

/// An event for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report<I, A> {
    /// This node has sent a redirect hint that asks a link to dial a peer.
    Redirected {
        /// The link that is to dial.
        dialer: I,
        /// The peer to be dialled.
        to: I,
        /// The first address of that peer.
        address: Option<A>,
    },
    /// A redirect hint to this node has ended.
    Hint {
        /// The link that sent it.
        from: I,
        /// The peer that it names.
        to: I,
        /// The first address that it names.
        address: Option<A>,
        /// The outcome.
        outcome: HintOutcome,
    },
    /// A link has ended.
    LinkEnded {
        /// The peer at the other end.
        peer: I,
        /// The reason.
        reason: Reason,
    },
    /// A peer broke a rule; reported once for each link.
    Offence {
        /// The peer.
        peer: I,
        /// The offence.
        what: &'static str,
    },
    /// There is no link, and no known peer has answered.
    Searching {
        /// Number of dials that have failed in a row.
        failures: u32,
        /// Time until the next dial.
        backoff: std::time::Duration,
    },
}

/// An output of the state machine: an action for the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<I, A> {
    /// Dial a peer.
    Dial {
        /// The name of the dial.
        dial: DialId,
        /// The peer that must answer; none only for an entry node without an id.
        peer: Option<I>,
        /// The target.
        to: Target<A>,
        /// The reason.
        purpose: Purpose<I>,
    },
    /// Send a request to a linked peer.
    Send {
        /// The peer.
        to: I,
        /// The name of the exchange, which its response must carry.
        id: ExchangeId,
        /// The request.
        request: Request<I, A>,
    },
    /// Send the response to a peer's request.
    Respond {
        /// The peer.
        to: I,
        /// The name of the exchange, as in `Request`.
        id: ExchangeId,
        /// The response.
        response: Response<I, A>,
    },
    /// Close all connections with a peer, after a moment for the messages under way.
    Close {
        /// The peer.
        peer: I,
        /// The reason.
        reason: Reason,
    },
    /// Report an event to people.
    Report(Report<I, A>),
    /// Save the verified peers, which have changed.
    Persist,
}
