//! The proof that a handshake ends with.
//!
//! Entry type: [`VerifiedPeer`]. The rule it keeps: only a [`Machine`](super::Machine) makes one, when the peer has
//! proved its key in both rounds.

use libp2p::PeerId;

use super::io::Role;
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

    /// Its public id, as noise and the handshake proved it.
    pub fn peer_id(&self) -> PeerId {
        self.peer.public_key.peer_id()
    }

    /// Its public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.peer.public_key
    }

    /// Which running process of it.
    pub fn instance_id(&self) -> [u8; 16] {
        self.peer.core.instance_id
    }

    /// The X25519 key to which others seal for it.
    pub fn sealing_key(&self) -> [u8; 32] {
        self.peer.core.enc_key
    }

    /// The features it names; those that this node does not know mean nothing.
    pub fn features(&self) -> u64 {
        self.peer.core.features
    }

    /// How many milliseconds the peer's clock is ahead of this node's, by its own account; negative when it is behind.
    ///
    /// What it said took some time to arrive, so that a clock that is right seems to be behind by that. The number is
    /// proved to be the peer's, not to be true: it may be anything, up to the largest of the type.
    pub fn clock_offset_ms(&self) -> i64 {
        self.peer.clock_offset_ms
    }

    /// Which end of the connection this node is.
    pub fn role(&self) -> Role {
        self.role
    }
}

/// How far ahead of `own_ms` a peer's clock is.
pub(super) fn clock_offset_ms(theirs_ms: u64, own_ms: u64) -> i64 {
    let difference = i128::from(theirs_ms) - i128::from(own_ms);
    i64::try_from(difference).unwrap_or(match difference < 0 {
        true => i64::MIN,
        false => i64::MAX,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_may_say_anything() {
        assert_eq!(clock_offset_ms(1_500, 1_000), 500);
        assert_eq!(clock_offset_ms(1_000, 1_500), -500);
        assert_eq!(clock_offset_ms(u64::MAX, 0), i64::MAX);
        assert_eq!(clock_offset_ms(0, u64::MAX), i64::MIN);
    }
}
