//! A slow line to a node: a TCP proxy with a limited throughput.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use diatribe::Address;
use libp2p::multiaddr::Protocol;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::cluster::Member;

/// Size of the socket buffers at both ends of the line: small, so that the sender notices that it is slow.
const BUFFER: u32 = 16 << 10;
/// With the segments of loopback, of 64 KiB, a sender buffers a mebibyte before it notices anything.
const SEGMENT: u32 = 1400;

/// One direction, shared by all connections.
struct Direction {
    a_second: u64,
    free_at: Mutex<Instant>,
    carried: AtomicU64,
}

/// The line of one node; it ends with the test's runtime.
pub(crate) struct Line {
    address: Address,
    from_it: Arc<Direction>,
    to_it: Arc<Direction>,
}

impl Direction {
    fn new(a_second: u64) -> Arc<Direction> {
        Arc::new(Direction {
            a_second,
            free_at: Mutex::new(Instant::now()),
            carried: AtomicU64::new(0),
        })
    }

    async fn carry(self: Arc<Self>, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            let through_at = {
                let mut free_at = self.free_at.lock().await;
                let takes = Duration::from_micros(read as u64 * 1_000_000 / self.a_second);
                *free_at = (*free_at).max(Instant::now()) + takes;
                *free_at
            };
            tokio::time::sleep_until(through_at).await;
            self.carried.fetch_add(read as u64, Ordering::Relaxed);
            if to.write_all(&chunk[..read]).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    }
}

impl Line {
    /// Creates a line to `member` with these rates, in bytes a second, from it and to it.
    pub(crate) async fn to(member: &Member, from_it: u64, to_it: u64) -> Line {
        let address = member.node.addresses()[0].clone();
        let port_of = |part| match part {
            Protocol::Tcp(port) => Some(port),
            _ => None,
        };
        let port = address.iter().find_map(port_of).expect("a TCP port");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        SockRef::from(&listener)
            .set_recv_buffer_size(BUFFER as usize)
            .expect("it can be set before anyone connects");
        let own = listener.local_addr().expect("it listens").port();
        let proxied = address.iter().map(|part| match part {
            Protocol::Tcp(_) => Protocol::Tcp(own),
            part => part,
        });
        let address: libp2p::Multiaddr = proxied.collect();
        let line = Line {
            address: address.try_into().expect("it can be dialled"),
            from_it: Direction::new(from_it),
            to_it: Direction::new(to_it),
        };
        let (from_it, to_it) = (line.from_it.clone(), line.to_it.clone());
        tokio::spawn(async move {
            while let Ok((far, _)) = listener.accept().await {
                let near = connect(([127, 0, 0, 1], port).into()).await;
                let ((far_read, far_write), (near_read, near_write)) =
                    (far.into_split(), near.into_split());
                tokio::spawn(from_it.clone().carry(near_read, far_write));
                tokio::spawn(to_it.clone().carry(far_read, near_write));
            }
        });
        line
    }

    pub(crate) fn address(&self) -> Address {
        self.address.clone()
    }

    /// The bytes that it has carried from its node.
    pub(crate) fn carried_from_it(&self) -> u64 {
        self.from_it.carried.load(Ordering::Relaxed)
    }

    /// The bytes that it has carried to its node.
    pub(crate) fn carried_to_it(&self) -> u64 {
        self.to_it.carried.load(Ordering::Relaxed)
    }
}

async fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .set_recv_buffer_size(BUFFER)
        .expect("it can be set before it connects");
    SockRef::from(&socket)
        .set_tcp_mss(SEGMENT)
        .expect("it can be set before it connects");
    socket.connect(to).await.expect("the node listens")
}
