//! What goes into a handshake's machine and what comes out of it.
//!
//! Entry types: [`Input`], [`Output`]. The rule they keep: frames are whole bodies, and whatever the
//! caller decides comes in as an answer to an output that asked for it.

use libp2p::PeerId;

use super::reason::Failure;
use super::referrals::Refusal;
use super::verified::VerifiedPeer;

/// Which end of the connection this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It made the connection: client of round 1, server of round 2.
    Dialer,
    /// It took the connection: server of round 1, client of round 2.
    Listener,
}

/// What happens to a handshake.
#[derive(Debug)]
pub enum Input {
    /// The connection is up: the dialer begins. Nothing to a listener.
    Start,
    /// The peer opened a stream and sent this frame body.
    Request(Vec<u8>),
    /// The peer answered our request with this frame body.
    Response(Vec<u8>),
    /// A response of ours left, and its stream is half-closed.
    ResponseSent,
    /// The answer to [`Output::Authorize`].
    Decision(Result<(), Refusal>),
    /// The answer to [`Output::Verified`]: the gate takes inbound streams now.
    GateOpen,
    /// Too many handshakes: the next Hello is answered with BUSY and not looked into.
    Busy,
    /// Time has passed; see [`Machine::deadline`](super::Machine::deadline).
    Deadline,
    /// A stream of the handshake failed, or what came over it was no frame.
    StreamFailed(String),
    /// The peer refuses streams of the handshake.
    NotSpoken,
}

/// What is to be done about it, in this order.
#[derive(Debug)]
pub enum Output {
    /// Open a stream and send this frame body.
    SendRequest(Vec<u8>),
    /// Answer the request that came last with this frame body.
    SendResponse(Vec<u8>),
    /// The peer has proved its key: may it stay? Answer with [`Input::Decision`]. Asked once.
    Authorize {
        /// Who it is.
        peer: PeerId,
        /// Which running process of it.
        instance_id: [u8; 16],
        /// The features that it names.
        features: u64,
    },
    /// The peer is proved in both rounds: open the gate inbound (the dialer: in both directions),
    /// then answer with [`Input::GateOpen`]. What tells the peer so leaves only after that.
    Verified(VerifiedPeer),
    /// All is said. A listener may open outbound streams now.
    Passed,
    /// Close the connection now.
    Close(Failure),
    /// Close the connection once the response before this has left, or after [`REJECT_FLUSH`](super::REJECT_FLUSH).
    CloseAfterResponse(Failure),
}
