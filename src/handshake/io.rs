//! Inputs and outputs of a handshake's state machine.
//!
//! Entry types: [`Input`], [`Output`]. The rule they keep: frames are whole bodies, and every decision of the caller is the
//! answer to an output that asked for it.

use libp2p::PeerId;

use super::reason::Failure;
use super::referrals::Refusal;
use super::verified::VerifiedPeer;

/// An event for the state machine.
#[derive(Debug)]
pub enum Input {
    /// The connection is established: the dialer sends its Hello, a listener does nothing.
    Start,
    /// The peer opened a stream and sent this frame body.
    Request(Vec<u8>),
    /// The peer answered our request with this frame body.
    Response(Vec<u8>),
    /// A response of ours has left, and its stream is half-closed.
    ResponseSent,
    /// The caller's answer to [`Output::Authorize`].
    Decision(Result<(), Refusal>),
    /// The caller's answer to [`Output::Verified`]: the gate accepts inbound streams now.
    GateOpen,
    /// The rate limit for handshakes is reached: the next Hello is answered with BUSY and not parsed.
    Busy,
    /// The time of [`Machine::deadline`](super::Machine::deadline) has passed.
    Deadline,
    /// A stream of the handshake failed, or its bytes were no frame.
    StreamFailed(String),
    /// The peer refuses streams of the handshake protocol.
    NotSpoken,
}

/// An action for the caller. Actions are to be taken in the order in which they are returned.
#[derive(Debug)]
pub enum Output {
    /// Open a stream and send this frame body.
    SendRequest(Vec<u8>),
    /// Answer the last request with this frame body.
    SendResponse(Vec<u8>),
    /// The peer has proved its key: decide whether it may stay, and answer with [`Input::Decision`]. Returned once.
    Authorize {
        /// The peer's public id.
        peer: PeerId,
        /// The random id of the peer's running process.
        instance_id: [u8; 16],
        /// The feature bits that the peer announces.
        features: u64,
    },
    /// The peer has proved its key in both rounds: open the gate inbound (the dialer: in both directions), then answer with
    /// [`Input::GateOpen`]. The frame from which the peer learns of it leaves only after that.
    Verified(VerifiedPeer),
    /// Both rounds are complete. A listener may open outbound streams now.
    Passed,
    /// Close the connection at once.
    Close(Failure),
    /// Close the connection when the response before this has left, or after [`REJECT_TIMEOUT`](super::REJECT_TIMEOUT).
    CloseAfterResponse(Failure),
}
