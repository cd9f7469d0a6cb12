//! Connections with the peer under test: the kit dials it, or it dials the kit.
//!
//! Entry type: [`Connector`]. The rule it keeps: each connection belongs to the raw peer that a case has created for
//! it, with a key of its own, even if the peer dials one address again and again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::Protocol;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::latency_proxy::{self, LatencyProxy};
use super::raw_peer::{Conn, RawPeer};
use super::target::Target;
use crate::handshake::Role;
use crate::identity::Identity;
use crate::net::Address;
use crate::node::Probe;

/// The time in which a dialling peer must return: it waits at most a minute between attempts.
const REDIAL_TIMEOUT: Duration = Duration::from_secs(75);
/// The time from yamux to the first stream of a dialler.
const FIRST_STREAM_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum number of cases that run at the same time when the kit dials. With the observer's link they hold four links,
/// and a node accepts five.
const MAX_WORKERS: usize = 3;
/// Maximum number of the peer's connections that are being set up at once.
const MAX_CARRIED: usize = 32;

/// The source of connections.
pub(crate) enum Connector {
    /// The kit dials the peer.
    Dial(Box<Probe>, Address),
    /// The peer dials a port of the kit.
    Listen(ListenPort),
}

/// A port that the peer dials again and again.
pub(crate) struct ListenPort {
    listener: TcpListener,
    pub(crate) address: Multiaddr,
    /// Whether data from the peer is delayed, as by a [`latency_proxy::LatencyProxy`].
    is_delayed: bool,
}

impl ListenPort {
    /// Listens on an address of the form `/ip4|ip6/…/tcp/…/ws`.
    pub(crate) async fn open(address: &Multiaddr, is_delayed: bool) -> Result<ListenPort, String> {
        let mut parts = address.iter();
        let ip: std::net::IpAddr = match parts.next() {
            Some(Protocol::Ip4(ip)) => ip.into(),
            Some(Protocol::Ip6(ip)) => ip.into(),
            _ => return Err(unlistenable(address)),
        };
        let port = match (parts.next(), parts.next(), parts.next()) {
            (Some(Protocol::Tcp(port)), Some(Protocol::Ws(_)), None) => port,
            _ => return Err(unlistenable(address)),
        };
        let listener = TcpListener::bind((ip, port))
            .await
            .map_err(|e| format!("{address} cannot be listened on: {e}"))?;
        let bound = listener.local_addr().map_err(|e| e.to_string())?;
        let address = Multiaddr::from(bound.ip())
            .with(Protocol::Tcp(bound.port()))
            .with(Protocol::Ws("/".into()));
        Ok(ListenPort {
            listener,
            address,
            is_delayed,
        })
    }
}

fn unlistenable(address: &Multiaddr) -> String {
    format!(
        "{address} is no address to listen on here: give /ip4/…/tcp/PORT/ws or /ip6/…/tcp/PORT/ws"
    )
}

impl Connector {
    /// Returns the connectors for `target`, the observer's first. The observer's connections go through the returned
    /// latency proxy where one is possible; the caller must keep the proxy. With a single port there is no observer and
    /// no delay.
    pub(crate) async fn all(
        target: &Target,
        probe: &Probe,
        mut listening: impl FnMut(Multiaddr),
    ) -> Result<(Vec<Arc<Connector>>, Option<LatencyProxy>), String> {
        match target {
            Target::Dial(address) => {
                let line = LatencyProxy::to(address).await;
                let observed = line.as_ref().map_or(address, |line| &line.address);
                let connector =
                    |address: &Address| Connector::Dial(Box::new(probe.clone()), address.clone());
                let mut connectors = vec![Arc::new(connector(observed))];
                connectors.extend((0..MAX_WORKERS).map(|_| Arc::new(connector(address))));
                Ok((connectors, line))
            }
            Target::Listen(addresses) => {
                let mut connectors = Vec::new();
                for (n, address) in addresses.iter().enumerate() {
                    let is_delayed = n == 0 && addresses.len() > 1;
                    let port = ListenPort::open(address, is_delayed).await?;
                    listening(port.address.clone());
                    connectors.push(Arc::new(Connector::Listen(port)));
                }
                Ok((connectors, None))
            }
        }
    }

    /// Returns the kit's role in the handshakes of these connections.
    pub(crate) fn role(&self) -> Role {
        match self {
            Connector::Dial(..) => Role::Dialer,
            Connector::Listen(_) => Role::Listener,
        }
    }

    /// Creates a raw peer of this identity and a connection between it and the peer under test.
    pub(crate) async fn connect(&self, identity: Identity) -> Result<(RawPeer, Conn), String> {
        self.connect_by(identity, Version::V1).await
    }

    /// Creates a connection as [`Connector::connect`] does, for a raw peer that sends data before a stream's protocol
    /// is confirmed.
    pub(crate) async fn connect_early(
        &self,
        identity: Identity,
    ) -> Result<(RawPeer, Conn), String> {
        self.connect_by(identity, Version::V1Lazy).await
    }

    async fn connect_by(
        &self,
        identity: Identity,
        streams: Version,
    ) -> Result<(RawPeer, Conn), String> {
        match self {
            Connector::Dial(probe, address) => {
                let mut raw = RawPeer::dialer(identity, probe, streams)?;
                let conn = raw.dial(address).await;
                let conn = conn.map_err(|e| format!("the dial failed: {e}"))?;
                Ok((raw, conn))
            }
            Connector::Listen(port) => {
                let raw = RawPeer::listener(identity, true, streams).await?;
                self.taken(port, raw).await
            }
        }
    }

    /// Creates another connection of the same raw peer.
    pub(crate) async fn connect_again(&self, mut raw: RawPeer) -> Result<(RawPeer, Conn), String> {
        match self {
            Connector::Dial(_, address) => {
                let conn = raw.dial(address).await;
                let conn = conn.map_err(|e| format!("the dial failed: {e}"))?;
                Ok((raw, conn))
            }
            Connector::Listen(port) => self.taken(port, raw).await,
        }
    }

    /// Passes the peer's next connection to `raw`.
    async fn taken(&self, port: &ListenPort, mut raw: RawPeer) -> Result<(RawPeer, Conn), String> {
        let late = || {
            format!(
                "the peer did not dial {} within {REDIAL_TIMEOUT:?}",
                port.address
            )
        };
        let until = tokio::time::Instant::now() + REDIAL_TIMEOUT;
        let own = raw.address.as_ref().and_then(socket_of);
        let own = own.ok_or("a raw peer that does not listen")?;
        let mut carried = ProxiedSockets::default();
        loop {
            // Some are abandoned dials whose sockets stay open: they must not delay the others.
            carried.forget_ended();
            let mut conn = tokio::select! {
                accepted = port.listener.accept(), if carried.has_room() => {
                    let (socket, _) = accepted.map_err(|e| e.to_string())?;
                    carried.add(socket, own, port.is_delayed).await;
                    continue;
                }
                Some(conn) = raw.accept() => conn,
                () = tokio::time::sleep_until(until) => return Err(late()),
            };
            // A peer may look for another peer that it has met at this address, and close the connection to any other.
            if conn.begun(FIRST_STREAM_TIMEOUT).await {
                carried.keep(&conn.remote);
                return Ok((raw, conn));
            }
        }
    }
}

/// The peer's sockets that are proxied to a raw peer, by the local port of the proxy.
#[derive(Default)]
struct ProxiedSockets(HashMap<u16, JoinHandle<()>>);

impl ProxiedSockets {
    /// Removes the proxies that have ended.
    fn forget_ended(&mut self) {
        self.0.retain(|_, carrying| !carrying.is_finished());
    }

    fn has_room(&self) -> bool {
        self.0.len() < MAX_CARRIED
    }

    async fn add(&mut self, socket: TcpStream, to: SocketAddr, is_delayed: bool) {
        let Ok(own) = TcpStream::connect(to).await else {
            return;
        };
        if let Ok(at) = own.local_addr() {
            let carrying = match is_delayed {
                true => tokio::spawn(latency_proxy::proxy(socket, own)),
                false => tokio::spawn(proxy(socket, own)),
            };
            self.0.insert(at.port(), carrying);
        }
    }

    /// Stops tracking this proxy: it runs until either end closes.
    fn keep(&mut self, remote: &Multiaddr) {
        if let Some(at) = socket_of(remote) {
            self.0.remove(&at.port());
        }
    }
}

impl Drop for ProxiedSockets {
    fn drop(&mut self) {
        for carrying in self.0.values() {
            carrying.abort();
        }
    }
}

fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => Some((ip, port).into()),
        _ => None,
    }
}

/// Copies bytes in both directions until both ends are closed.
async fn proxy(mut socket: TcpStream, mut own: TcpStream) {
    let _ = socket.set_nodelay(true);
    let _ = own.set_nodelay(true);
    // Either end may break off: that is part of the tests.
    let _ = tokio::io::copy_bidirectional(&mut socket, &mut own).await;
}
