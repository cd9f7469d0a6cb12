//! A connection of a raw peer, and the commands by which it and its peer direct the task that drives the swarm.
//!
//! Entry type: [`Conn`]. The rule it keeps: a connection ends when its [`Conn`] is dropped or the peer ends it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use libp2p::swarm::{ConnectionId, Stream};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::stream_handler::{InboundStream, OpenError};
use crate::net::Address;

/// The time in which a stream must be negotiated.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A command to the task that drives the swarm.
pub(super) enum Command {
    Dial(Address, oneshot::Sender<String>),
    Open(
        ConnectionId,
        StreamProtocol,
        oneshot::Sender<Result<Stream, OpenError>>,
    ),
    Close(ConnectionId),
}

/// A connection that is established up to yamux.
pub struct Conn {
    id: ConnectionId,
    /// The peer that noise has authenticated.
    pub peer: PeerId,
    /// The address of the other end.
    pub remote: Multiaddr,
    /// The time at which it was established.
    pub at: Instant,
    /// The first inbound stream, if [`Conn::begun`] has received one. The mutex makes `Conn` Sync.
    first: Mutex<Option<InboundStream>>,
    inbound: mpsc::UnboundedReceiver<InboundStream>,
    ended: watch::Receiver<Option<Instant>>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        // The driver may have ended, and the connection with it.
        let _ = self.commands.send(Command::Close(self.id));
    }
}

impl Conn {
    pub(super) fn new(
        id: ConnectionId,
        peer: PeerId,
        remote: Multiaddr,
        inbound: mpsc::UnboundedReceiver<InboundStream>,
        ended: watch::Receiver<Option<Instant>>,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Conn {
        Conn {
            id,
            peer,
            remote,
            at: Instant::now(),
            first: Mutex::new(None),
            inbound,
            ended,
            commands,
        }
    }

    /// Returns the id of the connection.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Opens a stream.
    ///
    /// # Errors
    ///
    /// If the peer refuses the protocol, does not answer in time, or the connection is gone.
    pub async fn open(&self, protocol: &'static str) -> Result<Stream, OpenError> {
        let (reply, answer) = oneshot::channel();
        let _ = self
            .commands
            .send(Command::Open(self.id, StreamProtocol::new(protocol), reply));
        match timeout(OPEN_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(OpenError::Lost("the connection is gone".to_owned())),
            Err(_) => Err(OpenError::Lost(format!("no answer in {OPEN_TIMEOUT:?}"))),
        }
    }

    /// Waits for the first stream that the peer opens. Returns false if the peer closes the connection before.
    pub async fn begun(&mut self, within: Duration) -> bool {
        if let Ok(first) = timeout(within, self.stream()).await {
            let begun = first.is_some();
            *self.first() = first;
            return begun;
        }
        // The peer is silent: the case has to decide.
        true
    }

    /// Waits for the next stream that the peer opens. None when the connection has ended.
    pub async fn stream(&mut self) -> Option<InboundStream> {
        let first = self.first().take();
        if first.is_some() {
            return first;
        }
        let mut ended = self.ended.clone();
        tokio::select! {
            biased;
            inbound = self.inbound.recv() => inbound,
            _ = ended.wait_for(Option::is_some) => None,
        }
    }

    fn first(&mut self) -> &mut Option<InboundStream> {
        self.first.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the receiver of all further inbound streams.
    pub fn take_inbound(&mut self) -> mpsc::UnboundedReceiver<InboundStream> {
        let (_, none) = mpsc::unbounded_channel();
        std::mem::replace(&mut self.inbound, none)
    }

    /// Returns a stream that the peer has already opened.
    pub fn opened(&mut self) -> Option<InboundStream> {
        let first = self.first().take();
        first.or_else(|| self.inbound.try_recv().ok())
    }

    /// Returns whether the peer or the network has ended the connection.
    pub fn is_gone(&self) -> bool {
        self.ended.borrow().is_some() || self.ended.has_changed().is_err()
    }

    /// Waits until the peer has ended the connection; returns its lifetime, or none if it is still up after `within`.
    pub async fn gone(&self, within: Duration) -> Option<Duration> {
        let mut ended = self.ended.clone();
        let at = match timeout(within, ended.wait_for(Option::is_some)).await {
            Ok(Ok(at)) => at.unwrap_or_else(Instant::now),
            // The driver has ended.
            Ok(Err(_)) => Instant::now(),
            Err(_) => return None,
        };
        Some(at.saturating_duration_since(self.at))
    }
}
