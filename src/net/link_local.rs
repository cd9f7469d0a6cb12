//! Listens on a link-local address of one interface, which libp2p's TCP transport cannot: its addresses have no
//! interface.
//!
//! Entry type: [`LinkLocalListener`]. The rule it keeps: a system error while accepting is reported and does not end
//! the listener.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::{Ready, ok};
use futures::stream::Stream;
use libp2p::Multiaddr;
use libp2p::core::transport::{ListenerId, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::tcp::tokio::TcpStream;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{Sleep, sleep};

use super::diagnosis::of_tcp;
use super::resolver;
use super::stage::StageError;

/// Listen backlog: many simultaneous newcomers wait in the kernel instead of being refused.
pub(super) const BACKLOG: u32 = 1024;
/// Pause after an error while accepting, such as too many open files: such an error lasts, and must not recur at every
/// turn of the event loop.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

type Event = TransportEvent<Ready<Result<TcpStream, StageError>>, StageError>;

/// A listening socket on a link-local address.
pub(super) struct LinkLocalListener {
    id: ListenerId,
    address: Multiaddr,
    /// None after [`LinkLocalListener::close`].
    listener: Option<TcpListener>,
    is_told: bool,
    is_over: bool,
    pause: Option<Pin<Box<Sleep>>>,
    /// Wakes the task that polls for the next connection.
    waker: Option<Waker>,
}

impl LinkLocalListener {
    /// Listens on `ip` of the interface `zone`.
    ///
    /// # Errors
    ///
    /// There is no such interface, or the system refuses the address or the port.
    pub(super) fn new(
        id: ListenerId,
        ip: Ipv6Addr,
        zone: &str,
        port: u16,
    ) -> io::Result<LinkLocalListener> {
        let at = resolver::link_local_socket(ip, zone, port)?;
        let socket = TcpSocket::new_v6()?;
        // Lingering connections of an earlier run do not block the port.
        socket.set_reuseaddr(true)?;
        socket.bind(at.into())?;
        let listener = socket.listen(BACKLOG)?;
        let port = listener.local_addr()?.port();
        Ok(LinkLocalListener {
            id,
            address: Multiaddr::empty()
                .with(Protocol::Ip6zone(zone.to_owned().into()))
                .with(Protocol::Ip6(ip))
                .with(Protocol::Tcp(port)),
            listener: Some(listener),
            is_told: false,
            is_over: false,
            pause: None,
            waker: None,
        })
    }

    pub(super) fn id(&self) -> ListenerId {
        self.id
    }

    /// Closes the socket. The stream then ends with a `ListenerClosed` event.
    pub(super) fn close(&mut self) {
        self.listener = None;
        self.pause = None;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn accepted(&self, stream: tokio::net::TcpStream, remote: SocketAddr) -> Event {
        // The limits count remote addresses by network, which is the same on every interface.
        let send_back_addr = Multiaddr::from(remote.ip()).with(Protocol::Tcp(remote.port()));
        // The option only improves latency: the connection works without it.
        let _ = stream.set_nodelay(true);
        TransportEvent::Incoming {
            listener_id: self.id,
            upgrade: ok(TcpStream(stream)),
            local_addr: self.address.clone(),
            send_back_addr,
        }
    }
}

impl Stream for LinkLocalListener {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let listener_id = self.id;
        if self.is_over {
            return Poll::Ready(None);
        }
        if !self.is_told {
            self.is_told = true;
            let listen_addr = self.address.clone();
            return Poll::Ready(Some(TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            }));
        }
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        let Some(listener) = &self.listener else {
            self.is_over = true;
            return Poll::Ready(Some(TransportEvent::ListenerClosed {
                listener_id,
                reason: Ok(()),
            }));
        };
        match listener.poll_accept(cx) {
            Poll::Ready(Ok((stream, remote))) => Poll::Ready(Some(self.accepted(stream, remote))),
            Poll::Ready(Err(error)) => {
                self.pause = Some(Box::pin(sleep(PAUSE_AFTER_ERROR)));
                Poll::Ready(Some(TransportEvent::ListenerError {
                    listener_id,
                    error: of_tcp(&error),
                }))
            }
            Poll::Pending => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
