//! The TCP transport of a node: by IP address, by name, and by a link-local address with its interface.
//!
//! Entry type: [`Tcp`]. The rules it keeps: a name with several addresses is reached by the first that answers (see
//! [`super::happy_eyeballs`]); an error lists each address with its failure; and a listener survives errors of the
//! system.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Ready};
use futures::stream::{SelectAll, StreamExt};
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::tcp::tokio::TcpStream;
use libp2p::{Multiaddr, Transport, tcp};
use tokio::net::TcpSocket;
use tokio::time::{Instant, timeout_at};

use super::diagnosis::{of_addresses, of_tcp};
use super::dial_guard::record_socket;
use super::dial_progress::{DialObserver, DialProgress};
use super::happy_eyeballs::{interleave_families, race};
use super::link_local::{BACKLOG, LinkLocalListener};
use super::resolver::{self, Resolver};
use super::stage::{Stage, StageError};

/// Timeout for the lookup of a name and the connection together: TCP retransmits three lost packets within 7 s.
const TCP_TIMEOUT: Duration = Duration::from_secs(8);
/// Timeout for the lookup alone. The system asks its name servers again after 5 s; a later answer serves the next dial,
/// so that enough time is left for the connection.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(5500);
/// The TCP transport.
pub(super) struct Tcp {
    listening: tcp::tokio::Transport,
    link_local: SelectAll<LinkLocalListener>,
    resolver: Resolver,
    /// Receives the progress of each dial: name resolved, socket connected.
    observer: DialObserver,
}

/// The part of an address that TCP dials.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Socket(SocketAddr),
    LinkLocal(Ipv6Addr, String, u16),
    Name(String, Family, u16),
}

/// The address families that a dial of a name accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Any,
    V4,
    V6,
}

impl Tcp {
    pub(super) fn new(observer: DialObserver) -> Tcp {
        let config = tcp::Config::new().nodelay(true).listen_backlog(BACKLOG);
        Tcp {
            listening: tcp::tokio::Transport::new(config),
            link_local: SelectAll::new(),
            resolver: Resolver::default(),
            observer,
        }
    }
}

impl Transport for Tcp {
    type Output = TcpStream;
    type Error = StageError;
    type ListenerUpgrade = Ready<Result<TcpStream, StageError>>;
    type Dial = BoxFuture<'static, Result<TcpStream, StageError>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<StageError>> {
        if let Some(Target::LinkLocal(ip, zone, port)) = target_of(&address) {
            let listener = LinkLocalListener::new(id, ip, &zone, port)
                .map_err(|error| TransportError::Other(of_tcp(&error)))?;
            self.link_local.push(listener);
            return Ok(());
        }
        let begun = self.listening.listen_on(id, address);
        begun.map_err(|error| error.map(|error| of_tcp(&error)))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let mut link_local = self.link_local.iter_mut();
        match link_local.find(|listener| listener.id() == id) {
            Some(listener) => {
                listener.close();
                true
            }
            None => self.listening.remove_listener(id),
        }
    }

    /// The connection has a port of its own, whatever `opts` demands: see `runner::connections`.
    fn dial(
        &mut self,
        address: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<StageError>> {
        let Some(target) = target_of(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let (resolver, observer) = (self.resolver.clone(), self.observer.clone());
        Ok(async move {
            let deadline = Instant::now() + TCP_TIMEOUT;
            let is_name = matches!(target, Target::Name(..));
            let addresses = addresses_of(target, &resolver).await?;
            observer(DialProgress::Passed(Stage::Resolve));
            let connected = race(addresses, |address| connect(address, deadline)).await;
            let stream = connected.map_err(|failed| of_addresses(failed, is_name))?;
            record_socket(stream.0.peer_addr());
            if let (Ok(local), Ok(remote)) = (stream.0.local_addr(), stream.0.peer_addr()) {
                let (local, remote) = (local.ip(), remote.ip());
                observer(DialProgress::Connected { local, remote });
            }
            observer(DialProgress::Passed(Stage::Tcp));
            Ok(stream)
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, StageError>> {
        if let Poll::Ready(Some(event)) = self.link_local.poll_next_unpin(cx) {
            return Poll::Ready(event);
        }
        Pin::new(&mut self.listening).poll(cx).map(|event| {
            let event = event.map_err(|error| of_tcp(&error));
            // An accepted socket is connected already.
            event.map_upgrade(|accepted| match accepted.into_inner() {
                Ok(stream) => futures::future::ok(stream),
                Err(error) => futures::future::err(of_tcp(&error)),
            })
        })
    }
}

/// Returns the socket addresses to try, in order.
async fn addresses_of(target: Target, resolver: &Resolver) -> Result<Vec<SocketAddr>, StageError> {
    match target {
        Target::Socket(socket) => Ok(vec![socket]),
        Target::LinkLocal(ip, zone, port) => {
            let socket = resolver::link_local_socket(ip, &zone, port).map_err(|e| of_tcp(&e))?;
            Ok(vec![socket.into()])
        }
        Target::Name(name, family, port) => {
            let lookup = timeout_at(Instant::now() + LOOKUP_TIMEOUT, resolver.resolve(&name)).await;
            let mut found = lookup.map_err(|_| {
                let reason = format!(
                    "the name servers do not say in time where {name} is: is this machine online?"
                );
                StageError::new(Stage::Resolve, reason).with_code("TIMEOUT")
            })??;
            found.retain(|ip| family.has(ip));
            if found.is_empty() {
                let reason = format!(
                    "{name} has no address of the kind that is asked for: dial it as /dns/{name}"
                );
                return Err(StageError::new(Stage::Resolve, reason));
            }
            let sockets = found.into_iter().map(|ip| SocketAddr::new(ip, port));
            Ok(interleave_families(sockets.collect(), SocketAddr::is_ipv6))
        }
    }
}

impl Family {
    fn has(self, ip: &IpAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => ip.is_ipv4(),
            Family::V6 => ip.is_ipv6(),
        }
    }
}

/// Connects to one address.
async fn connect(address: SocketAddr, deadline: Instant) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    match timeout_at(deadline, socket.connect(address)).await {
        Ok(stream) => {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok(TcpStream(stream))
        }
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
    }
}

/// Returns the dial target of an address; none when it is not a TCP address. The parts after the port are ignored.
fn target_of(address: &Multiaddr) -> Option<Target> {
    let mut parts = address.iter();
    let host = parts.next()?;
    let zone = match host {
        Protocol::Ip6zone(zone) => Some(zone.into_owned()),
        _ => None,
    };
    let host = match zone {
        Some(_) => parts.next()?,
        None => address.iter().next()?,
    };
    let Protocol::Tcp(port) = parts.next()? else {
        return None;
    };
    Some(match (host, zone) {
        (Protocol::Ip6(ip), Some(zone)) => Target::LinkLocal(ip, zone, port),
        (_, Some(_)) => return None,
        (Protocol::Ip4(ip), _) => Target::Socket((ip, port).into()),
        (Protocol::Ip6(ip), _) => Target::Socket((ip, port).into()),
        (Protocol::Dns(name), _) => Target::Name(name.into_owned(), Family::Any, port),
        (Protocol::Dns4(name), _) => Target::Name(name.into_owned(), Family::V4, port),
        (Protocol::Dns6(name), _) => Target::Name(name.into_owned(), Family::V6, port),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
