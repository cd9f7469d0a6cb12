//! The result of a successful handshake.
//!
//! Entry type: [`VerifiedPeer`]. The rule it keeps: only a [`Machine`](super::Machine) makes one, after the peer has
//! proved its key in both rounds.

use libp2p::PeerId;

use super::protocol::Role;
use super::round::Peer;
use crate::identity::PublicKey;

/// A peer that has proved its key in both rounds of a handshake.
#[derive(Debug)]
pub struct VerifiedPeer {
    peer: Box<Peer>,
    role: Role,
}

impl VerifiedPeer {
    pub(super) fn new(peer: Peer, role: Role) -> VerifiedPeer {
        VerifiedPeer {
            peer: Box::new(peer),
            role,
        }
    }

    /// Returns the peer's public id, as noise and the handshake proved it.
    pub fn peer_id(&self) -> PeerId {
        self.peer.public_key.peer_id()
    }

    /// Returns the peer's public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.peer.public_key
    }

    /// Returns the random id of the peer's running process.
    pub fn instance_id(&self) -> [u8; 16] {
        self.peer.core.instance_id
    }

    /// Returns the X25519 public key for messages that are sealed to the peer.
    pub fn sealing_key(&self) -> [u8; 32] {
        self.peer.core.enc_key
    }

    /// Returns the feature bits that the peer announces. Unknown bits have no meaning.
    pub fn features(&self) -> u64 {
        self.peer.core.features
    }

    /// Returns by how many milliseconds the peer's clock is ahead of this node's; negative when it is behind.
    ///
    /// A correct clock seems to be behind by the network delay. The handshake proves that the peer sent the value, not that
    /// it is true: it may be any number.
    pub fn clock_offset_ms(&self) -> i64 {
        self.peer.clock_offset_ms
    }

    /// Returns which end of the connection this node is.
    pub fn role(&self) -> Role {
        self.role
    }
}
