//! A scripted peer: real transport and noise, and above them only the data that a case sends.
//!
//! Entry types: [`RawPeer`], [`Conn`]. The rule they keep: nothing is sent unasked except the answers of ping and
//! identify, and a connection ends when its [`Conn`] is dropped or the peer ends it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::upgrade::Version;
use libp2p::swarm::{ConnectionId, Stream, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::raw_driver::{Command, Driver};
use super::streams::{Behaviour, InboundStream, OpenError, swarm, swarm_over};
use crate::identity::Identity;
use crate::net::Address;
use crate::node::Probe;

/// The time in which a stream must be negotiated.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer that acts only on command. Its connections end with it.
pub struct RawPeer {
    /// Its identity.
    pub identity: Identity,
    /// Its instance id.
    pub instance_id: [u8; 16],
    /// The address on which it listens, if any.
    pub address: Option<Multiaddr>,
    commands: mpsc::UnboundedSender<Command>,
    arrivals: mpsc::UnboundedReceiver<Conn>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        self.driver.abort();
    }
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

impl RawPeer {
    /// Creates a peer that dials, over the transport of `probe`.
    ///
    /// # Errors
    ///
    /// If the transport cannot be built.
    pub fn dialer(identity: Identity, probe: &Probe, streams: Version) -> Result<RawPeer, String> {
        let (inbound_out, inbound) = mpsc::unbounded_channel();
        let transport = probe.transport(&identity).map_err(|e| e.to_string())?;
        let swarm = swarm_over(transport, &identity, true, streams, inbound_out);
        Ok(RawPeer::run(swarm, identity, None, inbound))
    }

    /// Creates a peer that listens on a port of loopback, and identifies itself if `identify` is set.
    ///
    /// # Errors
    ///
    /// If loopback cannot be listened on.
    pub async fn listener(
        identity: Identity,
        identify: bool,
        streams: Version,
    ) -> Result<RawPeer, String> {
        let (inbound_out, inbound) = mpsc::unbounded_channel();
        let swarm = swarm(&identity, identify, streams, inbound_out);
        let mut swarm = swarm.map_err(|e| e.to_string())?;
        let own = Multiaddr::from(std::net::Ipv4Addr::LOCALHOST)
            .with(libp2p::multiaddr::Protocol::Tcp(0))
            .with(libp2p::multiaddr::Protocol::Ws("/".into()));
        swarm.listen_on(own).map_err(|e| e.to_string())?;
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => {
                    return Ok(RawPeer::run(swarm, identity, Some(address), inbound));
                }
                SwarmEvent::ListenerError { error, .. } => return Err(error.to_string()),
                _ => {}
            }
        }
    }

    fn run(
        swarm: Swarm<Behaviour>,
        identity: Identity,
        address: Option<Multiaddr>,
        inbound: mpsc::UnboundedReceiver<InboundStream>,
    ) -> RawPeer {
        let (commands, commands_in) = mpsc::unbounded_channel();
        let (arrivals_out, arrivals) = mpsc::unbounded_channel();
        let driver = Driver::new(swarm, inbound, arrivals_out, commands.clone());
        RawPeer {
            identity,
            instance_id: rand::random(),
            address,
            commands,
            arrivals,
            driver: tokio::spawn(driver.run(commands_in)),
        }
    }

    /// Dials and waits until yamux is established.
    ///
    /// # Errors
    ///
    /// If the dial fails, with its reason.
    pub async fn dial(&mut self, address: &Address) -> Result<Conn, String> {
        let (failed, failure) = oneshot::channel();
        let _ = self.commands.send(Command::Dial(address.clone(), failed));
        tokio::select! {
            conn = self.arrivals.recv() => conn.ok_or_else(|| "the dial was given up".to_owned()),
            Ok(failure) = failure => Err(failure),
        }
    }

    /// Waits for the next inbound connection.
    pub async fn accept(&mut self) -> Option<Conn> {
        self.arrivals.recv().await
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
