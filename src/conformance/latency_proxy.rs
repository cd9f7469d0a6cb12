//! A TCP proxy that delays data from the peer, as the distance between two nodes would.
//!
//! Entry type: [`LatencyProxy`]. On loopback yamux keeps its windows small, so that errors in filling a large window do
//! not show. The proxy adds latency and does not limit throughput.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::net::Address;

/// Added latency: far more than reading a window takes, far less than any timeout.
const LATENCY: Duration = Duration::from_millis(25);
/// Maximum size of one read, and maximum number of pieces in flight: 8 MiB in all.
const MAX_PIECE: usize = 64 * 1024;
const MAX_PIECES: usize = 128;

/// A port of loopback whose connections are proxied to a peer. Dropping it closes the port; existing connections stay
/// up.
pub(crate) struct LatencyProxy {
    /// The address to dial instead of the peer's own.
    pub(super) address: Address,
    accepting: JoinHandle<()>,
}

impl Drop for LatencyProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl LatencyProxy {
    /// Creates a proxy to the peer at `address`. Returns none for a DNS name and for TLS, whose certificate is for that
    /// name.
    pub(super) async fn to(address: &Address) -> Option<LatencyProxy> {
        let peer = socket_of(address.multiaddr())?;
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.ok()?;
        let own = Multiaddr::from(std::net::Ipv4Addr::LOCALHOST)
            .with(Protocol::Tcp(listener.local_addr().ok()?.port()))
            .with(Protocol::Ws("/".into()));
        let own = match address.peer_id() {
            Some(peer_id) => own.with(Protocol::P2p(peer_id)),
            None => own,
        };
        Some(LatencyProxy {
            address: Address::try_from(own).ok()?,
            accepting: tokio::spawn(accept(listener, peer)),
        })
    }
}

async fn accept(listener: TcpListener, peer: SocketAddr) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            if let Ok(to_peer) = TcpStream::connect(peer).await {
                proxy(to_peer, socket).await;
            }
        });
    }
}

/// Returns the socket address of a websocket without TLS at an IP address.
fn socket_of(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: std::net::IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match (parts.next()?, parts.next()?) {
        (Protocol::Tcp(port), Protocol::Ws(_)) => Some((ip, port).into()),
        _ => None,
    }
}

/// Copies bytes in both directions until both ends are closed: from `peer` after [`LATENCY`], from `own` at once.
pub(super) async fn proxy(peer: TcpStream, own: TcpStream) {
    let _ = peer.set_nodelay(true);
    let _ = own.set_nodelay(true);
    let (from_peer, mut to_peer) = peer.into_split();
    let (mut from_own, to_own) = own.into_split();
    let at_once = async {
        // Either end may break off: that is part of the tests.
        let _ = tokio::io::copy(&mut from_own, &mut to_peer).await;
        let _ = to_peer.shutdown().await;
    };
    tokio::join!(at_once, carry_late(from_peer, to_own));
}

async fn carry_late(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let (late, mut due) = mpsc::channel::<(Instant, Bytes)>(MAX_PIECES);
    let reading = async move {
        loop {
            let mut piece = BytesMut::with_capacity(MAX_PIECE);
            match from.read_buf(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            if late
                .send((Instant::now() + LATENCY, piece.freeze()))
                .await
                .is_err()
            {
                break;
            }
        }
        drop(late);
        // Data in flight is still delivered.
        std::future::pending::<()>().await;
    };
    let writing = async {
        while let Some((at, piece)) = due.recv().await {
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}
