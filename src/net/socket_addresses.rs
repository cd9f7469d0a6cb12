//! The socket addresses of dialled names, and the denial of dials that the node did not request.
//!
//! Entry type: [`SocketAddresses`], a behaviour. The rule it keeps: only the node's own event loop starts a dial.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use crate::overlay::{Direction, PeerAddress, Remote};
use crate::wire::ip_of;

/// Returns the remote end of a connection that was dialled or accepted at `address`. `socket` is the address of its
/// socket if it differs.
pub(crate) fn remote_of(
    peer_id: PeerId,
    direction: Direction,
    address: &Multiaddr,
    socket: Option<&Multiaddr>,
) -> Remote<PeerAddress> {
    let at = socket.unwrap_or(address);
    let dialled = match (direction, socket) {
        (Direction::Inbound, _) => None,
        (Direction::Outbound, None) => Some(address),
        // The certificate is for the name: dialling the IP address would fail.
        (Direction::Outbound, Some(socket)) => Some(socket).filter(|_| !is_secure(address)),
    };
    let dialled = dialled.and_then(|at| PeerAddress::parse(at, Some(&peer_id)).ok());
    Remote::at(ip_of(at), dialled)
}

fn is_secure(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    parts.any(|part| matches!(part, Protocol::Tls | Protocol::Wss(_)))
}

/// A dial was denied because the event loop did not request it.
#[derive(Debug, thiserror::Error)]
#[error("a dial that this node did not ask for")]
struct UnsolicitedDial;

/// Denies dials that other behaviours request, to whatever addresses a peer may have given them, and knows the socket
/// addresses of dialled names.
#[derive(Default)]
pub(crate) struct SocketAddresses {
    /// Dials that the event loop is about to make.
    expected: HashSet<ConnectionId>,
    /// Socket addresses of connections, where they differ from the dialled address.
    sockets: HashMap<ConnectionId, Multiaddr>,
}

impl SocketAddresses {
    /// Permits the dial that the event loop is about to make.
    pub(crate) fn expect_dial(&mut self, connection_id: ConnectionId) {
        self.expected.insert(connection_id);
    }

    /// Returns the address of a connection's socket if it differs from the dialled address.
    pub(crate) fn socket_of(&self, connection_id: ConnectionId) -> Option<&Multiaddr> {
        self.sockets.get(&connection_id)
    }
}

impl NetworkBehaviour for SocketAddresses {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        match self.expected.remove(&connection_id) {
            true => Ok(Vec::new()),
            false => Err(ConnectionDenied::new(UnsolicitedDial)),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::AddressChange(change) => {
                let address = change.new.get_remote_address().clone();
                self.sockets.insert(change.connection_id, address);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.sockets.remove(&closed.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                self.expected.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
