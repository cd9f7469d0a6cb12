//! The libp2p behaviours of a node.
//!
//! Entry type: [`Behaviour`]. The rule it keeps: behaviours that deny connections are first and the gate is last, because
//! gossipsub never forgets a connection that a later behaviour denied.

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
use crate::net::limits;
use crate::net::socket_addresses::SocketAddresses;
use crate::overlay;
use crate::sync;
use crate::wire::RequestResponse;

/// Maximum number of connections with one peer: a second one exists only while one of two crossing dials is being closed.
const MAX_PER_PEER: u32 = 2;
/// New connections are refused while the process uses this much more memory than at the start of the node: 512 MiB. Memory
/// that the embedding program used before does not count.
const MAX_MEMORY: usize = 512 << 20;
/// Interval of pings on a link.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Time after which a link without an answer to a ping is closed.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the memory above which new connections are refused.
fn max_memory() -> usize {
    let now = memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem);
    now.saturating_add(MAX_MEMORY)
}

/// The protocols that verified peers may use: those of the contract behind the gate.
const GATED: [&str; 5] = [
    gossip::PROTOCOLS[0],
    gossip::PROTOCOLS[1],
    gossip::PROTOCOLS[2],
    overlay::PROTOCOL,
    sync::message::PROTOCOL,
];

/// All behaviours, in the order in which they are asked.
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

/// The behaviours behind the gate: only verified peers reach them.
#[derive(NetworkBehaviour)]
pub(crate) struct Verified {
    /// None when the node has fixed links.
    pub(crate) overlay: Toggle<overlay::Behaviour>,
    pub(crate) gossip: gossip::Behaviour,
    pub(crate) sync: RequestResponse,
}

/// Only the proof of a handshake opens a gate.
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
                    .with_interval(PING_INTERVAL)
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
