//! TLS between TCP and WebSocket. libp2p's WebSocket transport has TLS of its own, but cannot replace its certificate
//! and lacks TLS 1.2.
//!
//! Entry types: [`TlsLayer`], below the WebSocket transport, and [`PublicAddresses`], above it. The rule they keep:
//! above both, addresses have their public form (`/tls/ws`, `/wss`); the WebSocket transport between them sees only
//! forms that it takes for plain `/ws`, so that it leaves TLS alone; and the form tells the layer below whether TLS is
//! wanted.

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, Either, FutureExt, MapErr, TryFutureExt};
use futures::io::{AsyncRead, AsyncWrite};
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Transport};
use libp2p_websocket::error::Error as WebsocketError;

use super::context::{Acceptor, TlsContext, TlsStream};
use crate::net::diagnosis::{of_visitor, of_websocket};
use crate::net::stage::StageError;
use crate::net::upgrade_request::{self, ReplayedStream};

/// A stream with TLS, or without.
type Stream<S> = ReplayedStream<Either<TlsStream<S>, S>>;

/// Returns the internal form of `address` for the WebSocket transport: `/tls/http/ws` for `/tls/ws`, `/https/ws` for
/// `/wss`. Users cannot enter either: both are refused as addresses to dial and to listen on.
fn below(address: &Multiaddr) -> Multiaddr {
    let mut spelt = Multiaddr::empty();
    let mut parts = address.iter().peekable();
    while let Some(part) = parts.next() {
        match part {
            Protocol::Tls if matches!(parts.peek(), Some(Protocol::Ws(_))) => {
                spelt.push(Protocol::Tls);
                spelt.push(Protocol::Http);
            }
            Protocol::Wss(path) => {
                spelt.push(Protocol::Https);
                spelt.push(Protocol::Ws(path));
            }
            part => spelt.push(part),
        }
    }
    spelt
}

/// Returns the public form of an internal address; reverses [`below`].
fn above(address: &Multiaddr) -> Multiaddr {
    let mut spelt = Multiaddr::empty();
    let mut parts = address.iter().peekable();
    while let Some(part) = parts.next() {
        match (part, parts.peek()) {
            (Protocol::Http, Some(Protocol::Ws(_))) => {}
            (Protocol::Https, Some(Protocol::Ws(path))) => {
                spelt.push(Protocol::Wss(path.clone()));
                parts.next();
            }
            (part, _) => spelt.push(part),
        }
    }
    spelt
}

/// The parts of an internal address that request TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    TlsHttp,
    Https,
}

impl Mark {
    /// Splits the mark off an internal address.
    fn split(address: &Multiaddr) -> (Multiaddr, Option<Mark>) {
        let mut rest = Multiaddr::empty();
        let mut mark = None;
        for part in address.iter() {
            match part {
                Protocol::Tls => {}
                Protocol::Http => mark = Some(Mark::TlsHttp),
                Protocol::Https => mark = Some(Mark::Https),
                part => rest.push(part),
            }
        }
        (rest, mark)
    }

    fn put_on(mark: Option<Mark>, address: Multiaddr) -> Multiaddr {
        match mark {
            None => address,
            Some(Mark::TlsHttp) => address.with(Protocol::Tls).with(Protocol::Http),
            Some(Mark::Https) => address.with(Protocol::Https),
        }
    }
}

/// A transport that applies TLS where the address requests it, and passes on inbound streams that request WebSocket.
pub(in crate::net) struct TlsLayer<T> {
    inner: T,
    tls: TlsContext,
    listeners: HashMap<ListenerId, Option<Mark>>,
}

impl<T> TlsLayer<T> {
    pub(in crate::net) fn new(inner: T, tls: TlsContext) -> TlsLayer<T> {
        TlsLayer {
            inner,
            tls,
            listeners: HashMap::new(),
        }
    }

    fn mark_of(&self, id: ListenerId) -> Option<Mark> {
        self.listeners.get(&id).copied().flatten()
    }
}

impl<T> Transport for TlsLayer<T>
where
    T: Transport<Error = StageError> + Unpin,
    T::Output: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    type Output = Stream<T::Output>;
    type Error = StageError;
    type ListenerUpgrade = BoxFuture<'static, Result<Self::Output, StageError>>;
    type Dial = BoxFuture<'static, Result<Self::Output, StageError>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<StageError>> {
        let (plain, mark) = Mark::split(&address);
        if mark.is_some() && self.tls.acceptor().is_none() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.inner.listen_on(id, plain)?;
        self.listeners.insert(id, mark);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<StageError>> {
        let (plain, mark) = Mark::split(&address);
        let connector = match mark {
            Some(_) => Some(self.tls.connector(&plain).map_err(TransportError::Other)?),
            None => None,
        };
        let dial = self.inner.dial(plain, opts)?;
        Ok(async move {
            let stream = dial.await?;
            Ok(ReplayedStream::fresh(match connector {
                None => Either::Right(stream),
                Some(connector) => Either::Left(connector.connect(stream).await?),
            }))
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, StageError>> {
        let this = &mut *self;
        let Poll::Ready(mut event) = Pin::new(&mut this.inner).poll(cx) else {
            return Poll::Pending;
        };
        let mut mark = None;
        match &mut event {
            TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            }
            | TransportEvent::AddressExpired {
                listener_id,
                listen_addr,
            } => {
                let mark = this.mark_of(*listener_id);
                *listen_addr = Mark::put_on(mark, listen_addr.clone());
            }
            TransportEvent::Incoming {
                listener_id,
                local_addr,
                send_back_addr,
                ..
            } => {
                mark = this.mark_of(*listener_id);
                for address in [local_addr, send_back_addr] {
                    *address = Mark::put_on(mark, address.clone());
                }
            }
            TransportEvent::ListenerClosed { listener_id, .. } => {
                this.listeners.remove(listener_id);
            }
            TransportEvent::ListenerError { .. } => {}
        }
        let acceptor = mark.and(this.tls.acceptor());
        Poll::Ready(event.map_upgrade(|upgrade| accept(upgrade, acceptor).boxed()))
    }
}

/// Accepts TLS if there is an acceptor, then reads the client's request for WebSocket.
async fn accept<S>(
    upgrade: impl Future<Output = Result<S, StageError>>,
    acceptor: Option<Acceptor>,
) -> Result<Stream<S>, StageError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = upgrade.await?;
    let stream = match acceptor {
        None => Either::Right(stream),
        Some(acceptor) => Either::Left(acceptor.accept(stream).await?),
    };
    upgrade_request::read_upgrade_request(stream).await
}

/// The WebSocket transport with addresses in their public form (see [`below`]), and with errors of this program.
pub(in crate::net) struct PublicAddresses<T>(pub(in crate::net) T);

impl<T> Transport for PublicAddresses<T>
where
    T: Transport<Error = WebsocketError<StageError>> + Unpin,
{
    type Output = T::Output;
    type Error = StageError;
    type ListenerUpgrade = MapErr<T::ListenerUpgrade, fn(T::Error) -> StageError>;
    type Dial = MapErr<T::Dial, fn(T::Error) -> StageError>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<StageError>> {
        self.0.listen_on(id, below(&address)).map_err(spelt_above)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<StageError>> {
        let dial = self.0.dial(below(&address), opts).map_err(spelt_above)?;
        Ok(dial.map_err(of_websocket as fn(_) -> _))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, StageError>> {
        let Poll::Ready(mut event) = Pin::new(&mut self.0).poll(cx) else {
            return Poll::Pending;
        };
        match &mut event {
            TransportEvent::NewAddress { listen_addr, .. }
            | TransportEvent::AddressExpired { listen_addr, .. } => {
                *listen_addr = above(listen_addr);
            }
            TransportEvent::Incoming {
                local_addr,
                send_back_addr,
                ..
            } => {
                *local_addr = above(local_addr);
                *send_back_addr = above(send_back_addr);
            }
            TransportEvent::ListenerClosed { .. } | TransportEvent::ListenerError { .. } => {}
        }
        let event = event.map_upgrade(|upgrade| upgrade.map_err(of_visitor as fn(_) -> _));
        Poll::Ready(event.map_err(of_websocket))
    }
}

fn spelt_above(error: TransportError<WebsocketError<StageError>>) -> TransportError<StageError> {
    match error {
        TransportError::MultiaddrNotSupported(address) => {
            TransportError::MultiaddrNotSupported(above(&address))
        }
        TransportError::Other(error) => TransportError::Other(of_websocket(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Address;

    #[test]
    fn an_address_reads_the_same_above_however_it_is_spelt_below() {
        let id = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        for (text, spelt) in [
            ("/ip4/1.2.3.4/tcp/9/ws", "/ip4/1.2.3.4/tcp/9/ws"),
            (
                "/ip4/1.2.3.4/tcp/9/tls/ws",
                "/ip4/1.2.3.4/tcp/9/tls/http/ws",
            ),
            ("/dns/a/tcp/9/wss", "/dns/a/tcp/9/https/ws"),
        ] {
            for end in ["", &format!("/p2p/{id}")] {
                let address: Multiaddr = format!("{text}{end}").parse().expect("a multiaddr");
                assert_eq!(below(&address).to_string(), format!("{spelt}{end}"));
                assert_eq!(above(&below(&address)), address);
            }
            let is_secure = text != spelt;
            let typed = spelt.parse::<Address>();
            assert_eq!(typed.is_err(), is_secure, "{spelt} cannot be typed");
        }
    }
}
