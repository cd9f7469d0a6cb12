//! Guards outbound dials: refuses malformed addresses, and reports the socket address to which a name led.
//!
//! Entry type: [`DialGuard`], the outermost transport. The rule it keeps: an address with a path, or any other part that
//! could inject its author's text into our request, is never dialled, from any source.
//!
//! Names are resolved below WebSocket, which needs the name for its own request, so that the swarm knows only the
//! dialled address. TCP records the socket's address while the dial's future is polled, and the muxer reports it to the
//! swarm as a change of the connection's address, which [`super::socket_addresses`] receives.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, SubstreamBox};
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Transport};

use super::address::Address;
use super::muxer_layer::{LayeredMuxer, MuxerLayer};
use super::staggered_dial;
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
            let at = socket.get().map(|socket| with_socket(&address, *socket));
            let layer = ReportSocket(at);
            (peer_id, StreamMuxerBox::new(LayeredMuxer { muxer, layer }))
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

/// A muxer layer that first reports the address of its connection's socket.
struct ReportSocket(Option<Multiaddr>);

impl MuxerLayer<StreamMuxerBox> for ReportSocket {
    type Substream = SubstreamBox;

    fn wrap_inbound(&self, stream: SubstreamBox) -> SubstreamBox {
        stream
    }

    fn wrap_outbound(&self, stream: SubstreamBox) -> SubstreamBox {
        stream
    }

    fn poll(
        &mut self,
        muxer: Pin<&mut StreamMuxerBox>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<StreamMuxerEvent>> {
        match self.0.take() {
            Some(address) => Poll::Ready(Ok(StreamMuxerEvent::AddressChange(address))),
            None => muxer.poll(cx),
        }
    }
}

#[cfg(test)]
mod tests;
