//! What the handshake tells the node, and the proof that it hands over.
//!
//! Entry types: [`Event`], [`VerifiedConnection`]. The rule it keeps: a proof is made of a [`VerifiedPeer`] and of
//! nothing else.

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;

use super::{Failure, Role, VerifiedPeer};

/// The proof that a connection's peer has passed: opens its gate.
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

    /// The connection that was proved.
    pub fn connection_id(&self) -> ConnectionId {
        self.connection_id
    }

    /// Whether this node dialled the connection.
    pub fn is_dialer(&self) -> bool {
        self.verified.role() == Role::Dialer
    }

    /// Who was proved on it.
    pub fn verified(&self) -> &VerifiedPeer {
        &self.verified
    }
}

/// What the handshake tells the node.
#[derive(Debug)]
pub enum Event {
    /// The peer proved its key: answer with [`super::Behaviour::decide`].
    Authorize {
        /// Which connection.
        connection_id: ConnectionId,
        /// Who proved its key.
        peer_id: PeerId,
        /// The peer's process, as its Hello or Challenge named it.
        instance_id: [u8; 16],
        /// The features that it names.
        features: u64,
        /// Where it is.
        endpoint: ConnectedPoint,
    },
    /// Open the gate inbound, then call [`super::Behaviour::gate_open`].
    Verified(VerifiedConnection),
    /// Both sides hold the connection a pass: open the gate outbound.
    Passed {
        /// The proof that came with [`Event::Verified`].
        proof: VerifiedConnection,
        /// Where the peer is.
        endpoint: ConnectedPoint,
        /// From the connection to the pass.
        took: Duration,
    },
    /// The handshake failed, or was broken afterwards; the connection is being closed.
    Failed {
        /// Which connection.
        connection_id: ConnectionId,
        /// Whose.
        peer_id: PeerId,
        /// Where it is.
        endpoint: ConnectedPoint,
        /// What was wrong.
        failure: Failure,
    },
}
