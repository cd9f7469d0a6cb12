//! Guards outbound dials: refuses malformed addresses and dials that the node did not request, and reports the socket
//! address to which a name led.
//!
//! Entry types: [`DialGuard`], the outermost transport, and [`SocketAddresses`], the behaviour that receives its
//! reports. The rules they keep: an address with a path, or any other part that could inject its author's text into our
//! request, is never dialled, from any source; and only the node's own event loop starts a dial.
//!
//! Names are resolved below WebSocket, which needs the name for its own request, so that the swarm knows only the
//! dialled address. TCP records the socket's address while the dial's future is polled, and the muxer reports it to the
//! swarm as a change of the connection's address.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use libp2p::core::transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId, Transport};

use super::address::Address;
use super::staggered_dial;
use crate::overlay::{Direction, PeerAddress, Remote};
use crate::wire::ip_of;

tokio::task_local! {
    /// The remote address of the socket of the dial that is being polled.
    static SOCKET: Arc<OnceLock<SocketAddr>>;
}

/// Records a socket's remote address for the dial that is being polled.
pub(super) fn record_socket(remote: io::Result<SocketAddr>) {
    if let Ok(remote) = remote {
        // An accepted socket belongs to no dial, and its address is known to the swarm.
        let _ = SOCKET.try_with(|socket| socket.set(remote));
    }
}

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

/// Returns `address` with the IP address and the port of `socket` in place of its name and port.
fn with_socket(address: &Multiaddr, socket: SocketAddr) -> Multiaddr {
    let rest = address.iter().skip(2);
    let at = Multiaddr::from(socket.ip().to_canonical()).with(Protocol::Tcp(socket.port()));
    rest.fold(at, Multiaddr::with)
}

/// A transport that dials only valid [`Address`]es, and reports the socket address of a name.
pub(super) struct DialGuard<T>(pub(super) T);

impl<T> Transport for DialGuard<T>
where
    T: Transport<Output = (PeerId, StreamMuxerBox)> + Unpin,
    T::Error: Send + 'static,
    T::Dial: Send + 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        match has_path(&address) {
            true => Err(TransportError::MultiaddrNotSupported(address)),
            false => self.0.listen_on(id, address),
        }
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        if Address::try_from(address.clone()).is_err() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        let dial = self.0.dial(address.clone(), opts)?;
        let dial = match staggered_dial::take_slot(&address) {
            Some(slot) => slot.run(dial).boxed(),
            None => dial.boxed(),
        };
        if ip_of(&address).is_some() {
            return Ok(dial);
        }
        let socket = Arc::new(OnceLock::new());
        let dial = SOCKET.scope(socket.clone(), dial);
        let named = move |(peer_id, muxer)| {
            let moved = socket.get().map(|socket| with_socket(&address, *socket));
            (peer_id, StreamMuxerBox::new(RemappedMuxer { muxer, moved }))
        };
        Ok(dial.map(|result| result.map(named)).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Returns whether a WebSocket part of this address has a path.
fn has_path(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    parts.any(|part| match part {
        Protocol::Ws(path) | Protocol::Wss(path) => path != "/",
        _ => false,
    })
}

/// A muxer that first reports the address of its connection's socket.
struct RemappedMuxer {
    muxer: StreamMuxerBox,
    moved: Option<Multiaddr>,
}

impl StreamMuxer for RemappedMuxer {
    type Substream = SubstreamBox;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<SubstreamBox>> {
        Pin::new(&mut self.muxer).poll_inbound(cx)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<SubstreamBox>> {
        Pin::new(&mut self.muxer).poll_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.muxer).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        match self.moved.take() {
            Some(address) => Poll::Ready(Ok(StreamMuxerEvent::AddressChange(address))),
            None => Pin::new(&mut self.muxer).poll(cx),
        }
    }
}

/// A dial was denied because the event loop did not request it.
#[derive(Debug, thiserror::Error)]
#[error("a dial that this node did not ask for")]
struct UnsolicitedDial;

/// Denies dials that other behaviours request, to whatever addresses a peer may have given them, and knows the socket
/// addresses of dialled names.
#[derive(Default)]
pub(crate) struct SocketAddresses {
    asked: HashSet<ConnectionId>,
    moved: HashMap<ConnectionId, Multiaddr>,
}

impl SocketAddresses {
    /// Permits the dial that the event loop is about to make.
    pub(crate) fn expect_dial(&mut self, connection_id: ConnectionId) {
        self.asked.insert(connection_id);
    }

    /// Returns the address of a connection's socket if it differs from the dialled address.
    pub(crate) fn socket_of(&self, connection_id: ConnectionId) -> Option<&Multiaddr> {
        self.moved.get(&connection_id)
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
        match self.asked.remove(&connection_id) {
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
                self.moved.insert(change.connection_id, address);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.moved.remove(&closed.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                self.asked.remove(&failure.connection_id);
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
