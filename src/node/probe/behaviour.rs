//! The protocols of a probe: identify and the handshake, and none behind a gate.

use libp2p::swarm::NetworkBehaviour;

use crate::handshake;
use crate::node::identify::Identify;

/// The behaviour of a probe's swarm.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) identify: Identify,
    pub(super) handshake: handshake::Behaviour,
}
