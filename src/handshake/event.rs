//! Events of the handshake behaviour for the node, and the proof with which the node opens a gate.
//!
//! Entry types: [`Event`], [`VerifiedConnection`]. The rule it keeps: only the end of a handshake, a [`VerifiedPeer`],
//! yields a [`VerifiedConnection`].

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;

use super::{Failure, Role, VerifiedPeer};

/// Proof that the peer of a connection has completed the handshake: it opens the connection's gate.
#[derive(Clone, Debug)]
pub struct VerifiedConnection {
    connection_id: ConnectionId,
    verified: Arc<VerifiedPeer>,
}

impl VerifiedConnection {
    pub(super) fn new(connection_id: ConnectionId, verified: VerifiedPeer) -> VerifiedConnection {
        VerifiedConnection {
            connection_id,
            verified: Arc::new(verified),
        }
    }

    /// Returns the connection.
    pub fn connection_id(&self) -> ConnectionId {
        self.connection_id
    }

    /// Returns whether this node dialled the connection.
    pub fn is_dialer(&self) -> bool {
        self.verified.role() == Role::Dialer
    }

    /// Returns the peer that proved its key on the connection.
    pub fn verified(&self) -> &VerifiedPeer {
        &self.verified
    }
}

/// An event of a connection's handshake.
#[derive(Debug)]
pub enum Event {
    /// The peer proved its key: decide whether it may stay, and call [`super::Behaviour::decide`].
    Authorize {
        /// The connection.
        connection_id: ConnectionId,
        /// The peer's public id.
        peer_id: PeerId,
        /// The random id of the peer's running process, from its Hello or Challenge.
        instance_id: [u8; 16],
        /// The feature bits that the peer announces.
        features: u64,
        /// Both ends of the connection.
        endpoint: ConnectedPoint,
    },
    /// The peer proved its key in both rounds: open the gate inbound, then call [`super::Behaviour::gate_open`].
    Verified(VerifiedConnection),
    /// Both sides have completed the handshake: open the gate outbound.
    Passed {
        /// The proof that [`Event::Verified`] carried.
        proof: VerifiedConnection,
        /// Both ends of the connection.
        endpoint: ConnectedPoint,
        /// Time from the connection to the end of the handshake.
        took: Duration,
    },
    /// The handshake failed, or the peer broke the protocol after it. The connection is being closed.
    Failed {
        /// The connection.
        connection_id: ConnectionId,
        /// The peer as noise authenticated it.
        peer_id: PeerId,
        /// Both ends of the connection.
        endpoint: ConnectedPoint,
        /// The round, the cause and the reason.
        failure: Failure,
    },
}
