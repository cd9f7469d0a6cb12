//! The handshake of one connection: its state machine, its request-response behaviour, and the request in progress.
//!
//! Entry type: [`Session`]. The rule it keeps: each request gets at most one response.

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use libp2p::request_response::ResponseChannel;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

use super::event::VerifiedConnection;
use super::{Entropy, HANDSHAKE_TIMEOUT, Local, MAX_FRAME, Machine, PROTOCOL, Role};
use crate::clock::Time;
use crate::wire::{Limits, RequestResponse, request_response};

/// Maximum number of open streams of this protocol on a connection. The handshake needs one each way; a third one is a
/// violation of the protocol, which must be read to be named in the failure.
const MAX_STREAMS: usize = 4;

/// Maximum time in which a Reject must leave; the connection is closed after it in any case.
pub const REJECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The handshake of one connection.
pub(super) struct Session {
    pub(super) peer_id: PeerId,
    pub(super) endpoint: ConnectedPoint,
    pub(super) since: Time,
    pub(super) machine: Machine,
    pub(super) request_response: RequestResponse,
    /// Channel for the response to the last request.
    pub(super) reply: Option<ResponseChannel<Vec<u8>>>,
    pub(super) proof: Option<VerifiedConnection>,
    /// Whether the first request to a listener, its Hello, has arrived. Only that one counts for the rate limiter.
    pub(super) hello_arrived: bool,
    pub(super) passed: bool,
    /// Time at which to close the connection if the peer has not done so before.
    pub(super) close_at: Option<Time>,
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
            request_response: request_response(
                PROTOCOL,
                limits,
                MAX_STREAMS,
                HANDSHAKE_TIMEOUT,
                None,
            ),
            reply: None,
            proof: None,
            hello_arrived: role == Role::Dialer,
            passed: false,
            close_at: None,
            failed: false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        match (self.close_at, self.failed) {
            (Some(at), _) => Some(at),
            (None, true) => None,
            (None, false) => self.machine.deadline(),
        }
    }

    pub(super) fn respond(&mut self, frame: Vec<u8>) {
        if let Some(channel) = self.reply.take() {
            // An error means that the stream is gone. The end of the connection or the deadline reports it.
            let _ = self.request_response.send_response(channel, frame);
        }
    }
}

/// Returns the operating system's randomness, the only source of nonces and keys.
fn system_entropy() -> Entropy {
    Box::new(UnwrapErr(SysRng))
}
