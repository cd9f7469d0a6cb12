//! libp2p's identify, which every peer must answer, without any addresses.
//!
//! Entry type: [`Identify`]. The rule it keeps: identify reveals this node's key, program and protocols, and no
//! address: neither one that this node listens on or announces, nor the peer's address as seen from here, which would
//! reveal routers in between. Addresses that peers report of themselves are ignored too. Only the overlay exchanges
//! addresses, with linked peers.

use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::identify::{Behaviour, Config, Event};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::identity::Identity;

/// The protocol version of this program's identify report.
const PROTOCOL_VERSION: &str = "/diatribe/1.0.0";

/// The identify behaviour of a node.
pub(crate) struct Identify(Behaviour);

impl Identify {
    pub(crate) fn new(identity: &Identity) -> Identify {
        let config = Config::new(PROTOCOL_VERSION.to_owned(), identity.keypair().public())
            .with_agent_version(concat!("diatribe/", env!("CARGO_PKG_VERSION")).to_owned())
            // By default it caches the addresses that peers report, and offers them for dials.
            .with_cache_size(0)
            .with_hide_listen_addrs(true);
        Identify(Behaviour::new(config))
    }
}

impl NetworkBehaviour for Identify {
    type ConnectionHandler = THandler<Behaviour>;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        // Replaces the peer's address, which the answer would contain as `observedAddr`.
        let nowhere = Multiaddr::empty();
        self.0
            .handle_established_inbound_connection(connection_id, peer, local, &nowhere)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let nowhere = Multiaddr::empty();
        self.0
            .handle_established_outbound_connection(connection_id, peer, &nowhere, role, port_use)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        // All other events concern addresses.
        if let FromSwarm::ConnectionEstablished(_) | FromSwarm::ConnectionClosed(_) = event {
            self.0.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.0
            .on_connection_handler_event(peer, connection_id, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            match self.0.poll(cx) {
                // A peer's report about its own address or ours is not trusted.
                Poll::Ready(
                    ToSwarm::NewExternalAddrCandidate(_) | ToSwarm::NewExternalAddrOfPeer { .. },
                ) => {}
                other => return other,
            }
        }
    }
}
