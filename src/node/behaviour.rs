//! The behaviours of a node, in the order that matters.
//!
//! Entry type: [`Behaviour`]. The rule it keeps: what denies a connection stands first and the gate
//! last, because gossipsub never forgets a connection that a later behaviour denied.

use std::sync::Arc;
use std::time::Duration;

use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{connection_limits, memory_connection_limits, ping};

use super::identify::Identify;
use crate::clock::Clock;
use crate::gate::{self, Gate, Permit};
use crate::gossip::{self, MessageIds};
use crate::handshake::{self, HandshakeLimit, HandshakeRateLimiter, Local};
use crate::identity::Identity;
use crate::net::dial_guard::SocketAddresses;
use crate::net::limits;
use crate::overlay;
use crate::sync;
use crate::wire::RequestResponse;

/// Connections with one peer: the second is there only while two that crossed are sorted out.
const MAX_PER_PEER: u32 = 2;
/// New connections are refused while the process takes this much more memory than when the node began: 512 MiB. What a
/// program that contains the node needs for itself keeps nobody out.
const MAX_MEMORY: usize = 512 << 20;
/// A link is asked for a sign of life this often.
const PING_EVERY: Duration = Duration::from_secs(5);
/// A link that gives none for this long is lost.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How much memory the process may take until new connections are refused.
fn max_memory() -> usize {
    let now = memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem);
    now.saturating_add(MAX_MEMORY)
}

/// What verified peers may speak, in all: the protocols of the contract that stand behind the gate.
const GATED: [&str; 5] = [
    gossip::PROTOCOLS[0],
    gossip::PROTOCOLS[1],
    gossip::PROTOCOLS[2],
    overlay::PROTOCOL,
    sync::message::PROTOCOL,
];

/// Everything on a connection.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: limits::Behaviour,
    pub(crate) sockets: SocketAddresses,
    per_peer: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    identify: Identify,
    ping: ping::Behaviour,
    pub(crate) handshake: handshake::Behaviour,
    pub(crate) gate: Gate<Verified>,
}

/// What only verified peers reach.
#[derive(NetworkBehaviour)]
pub(crate) struct Verified {
    /// None when the node links only as it is told.
    pub(crate) overlay: Toggle<overlay::Behaviour>,
    pub(crate) gossip: gossip::Behaviour,
    pub(crate) sync: RequestResponse,
}

/// The one thing that opens a gate.
impl gate::sealed::Sealed for handshake::VerifiedConnection {}

impl Permit for handshake::VerifiedConnection {
    fn peer_id(&self) -> libp2p::PeerId {
        self.verified().peer_id()
    }

    fn connection_id(&self) -> libp2p::swarm::ConnectionId {
        self.connection_id()
    }
}

impl Behaviour {
    pub(crate) fn new(
        identity: &Identity,
        local: Arc<Local>,
        clock: Clock,
        limits: limits::Behaviour,
        handshake_limit: HandshakeLimit,
        overlay: Option<overlay::Behaviour>,
        ids: Arc<MessageIds>,
    ) -> Result<Behaviour, String> {
        let per_peer = connection_limits::ConnectionLimits::default()
            .with_max_established_per_peer(Some(MAX_PER_PEER));
        Ok(Behaviour {
            limits,
            sockets: SocketAddresses::default(),
            per_peer: connection_limits::Behaviour::new(per_peer),
            memory: memory_connection_limits::Behaviour::with_max_bytes(max_memory()),
            identify: Identify::new(identity),
            ping: ping::Behaviour::new(
                ping::Config::new()
                    .with_interval(PING_EVERY)
                    .with_timeout(PING_TIMEOUT),
            ),
            handshake: handshake::Behaviour::new(
                local,
                clock,
                HandshakeRateLimiter::new(handshake_limit),
            ),
            gate: Gate::new(Verified {
                overlay: overlay.into(),
                gossip: gossip::behaviour_with(ids)?,
                sync: sync::behaviour(),
            })
            .speaking_only(&GATED),
        })
    }
}
