//! One connection's handshake: its machine, its request-response behaviour, and what is under way.
//!
//! Entry type: [`Session`]. The rule it keeps: one response at most waits for each request.

use std::sync::Arc;

use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use libp2p::request_response::ResponseChannel;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

use super::event::VerifiedConnection;
use super::{Entropy, Local, MAX_FRAME, Machine, PROTOCOL, Role, TIMEOUT};
use crate::clock::Time;
use crate::wire::{Limits, RequestResponse, request_response};

/// Streams that a connection may have open at once for this protocol: the handshake needs one
/// each way, a third arrives only with a violation, which must still be read to be named.
const MAX_STREAMS: usize = 4;

/// One connection's handshake.
pub(super) struct Session {
    pub(super) peer_id: PeerId,
    pub(super) endpoint: ConnectedPoint,
    pub(super) since: Time,
    pub(super) machine: Machine,
    pub(super) request_response: RequestResponse,
    /// Where the response to the request that is being served goes.
    pub(super) reply: Option<ResponseChannel<Vec<u8>>>,
    pub(super) proof: Option<VerifiedConnection>,
    /// The first request to a listener is its Hello: only that one is counted by [`super::HandshakeRateLimiter`].
    pub(super) hello_came: bool,
    pub(super) passed: bool,
    /// A `Reject` is on its way out: close by then at the latest.
    pub(super) closing_by: Option<Time>,
    pub(super) failed: bool,
}

impl Session {
    pub(super) fn new(
        local: Arc<Local>,
        peer_id: PeerId,
        endpoint: ConnectedPoint,
        now: Time,
    ) -> Session {
        let role = match endpoint {
            ConnectedPoint::Dialer { .. } => Role::Dialer,
            ConnectedPoint::Listener { .. } => Role::Listener,
        };
        let limits = Limits {
            request: MAX_FRAME,
            response: MAX_FRAME,
        };
        Session {
            peer_id,
            endpoint,
            since: now,
            machine: Machine::new(local, role, peer_id, now, system_entropy()),
            request_response: request_response(PROTOCOL, limits, MAX_STREAMS, TIMEOUT, None),
            reply: None,
            proof: None,
            hello_came: role == Role::Dialer,
            passed: false,
            closing_by: None,
            failed: false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match (self.closing_by, self.failed) {
            (Some(by), _) => Some(by),
            (None, true) => None,
            (None, false) => self.machine.deadline(),
        }
    }

    pub(super) fn respond(&mut self, frame: Vec<u8>) {
        if let Some(channel) = self.reply.take() {
            // An error means that the stream is gone: the connection's end or the deadline tells.
            let _ = self.request_response.send_response(channel, frame);
        }
    }
}

/// Nonces and keys come from the operating system alone.
fn system_entropy() -> Entropy {
    Box::new(UnwrapErr(SysRng))
}
