//! The swarm of a raw peer: real transport, noise and yamux, identify, answered pings, and one protocol-blind behaviour
//! that opens streams on command and passes on inbound ones. The integration tests use it too.
//!
//! Entry: [`swarm`]. The rule it keeps: no stream is opened, answered or closed unasked.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, PortUse};
use libp2p::core::upgrade::Version;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{
    Config, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Swarm,
    THandler, THandlerInEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Transport, identify, noise, tcp, yamux};
use tokio::sync::mpsc;

use super::stream_handler::{Handler, Protocols, Reply, ToHandler};
use crate::handshake;
use crate::identity::Identity;
use crate::net::half_close::DeferredHalfClose;

pub use super::stream_handler::{InboundStream, OpenError, PING};

/// The gossip protocol of an honest node.
pub const MESHSUB: &str = "/meshsub/1.1.0";
/// The protocols whose inbound streams are accepted, among them forbidden ones, so that a peer that opens them is
/// noticed.
const INBOUND: [&str; 6] = [
    handshake::PROTOCOL,
    "/meshsub/1.3.0",
    "/meshsub/1.2.0",
    MESHSUB,
    "/meshsub/1.0.0",
    "/floodsub/1.0.0",
];

/// Creates a swarm that acts only on command. With `V1Lazy` it sends data before the other side has confirmed a
/// stream's protocol; a refusal is then an error of the first read.
///
/// # Errors
///
/// If noise cannot use the key.
pub fn swarm(
    identity: &Identity,
    identify: bool,
    streams: Version,
    inbound: mpsc::UnboundedSender<InboundStream>,
) -> Result<Swarm<Behaviour>, noise::Error> {
    let noise = noise::Config::new(identity.keypair())?;
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
    let transport = libp2p_websocket::Config::new(tcp)
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(DeferredHalfClose::around(muxer))))
        .boxed();
    Ok(swarm_over(transport, identity, identify, streams, inbound))
}

/// Creates a swarm as [`swarm`] does, over another transport.
pub(crate) fn swarm_over(
    transport: Boxed<(PeerId, StreamMuxerBox)>,
    identity: &Identity,
    identify: bool,
    streams: Version,
    inbound: mpsc::UnboundedSender<InboundStream>,
) -> Swarm<Behaviour> {
    let identify = identify.then_some("raw/1");
    let behaviour = Behaviour::new(identity, identify, &INBOUND, inbound);
    Swarm::new(
        transport,
        behaviour,
        identity.peer_id(),
        Config::with_tokio_executor().with_substream_upgrade_protocol_override(streams),
    )
}

#[derive(NetworkBehaviour)]
pub struct Behaviour {
    identify: Toggle<identify::Behaviour>,
    pub streams: Streams,
}

impl Behaviour {
    /// Creates a behaviour that identifies itself as this agent, if any, and accepts streams of these protocols.
    pub fn new(
        identity: &Identity,
        agent: Option<&str>,
        protocols: &[&'static str],
        inbound: mpsc::UnboundedSender<InboundStream>,
    ) -> Behaviour {
        let public = identity.keypair().public();
        let identify = agent.map(|agent| {
            let config = identify::Config::new("/raw/1".to_owned(), public);
            identify::Behaviour::new(config.with_agent_version(agent.to_owned()))
        });
        Behaviour {
            identify: Toggle::from(identify),
            streams: Streams::new(protocols, inbound),
        }
    }
}

/// Opens streams on command and passes on inbound ones.
pub struct Streams {
    protocols: Protocols,
    actions: VecDeque<ToSwarm<Infallible, ToHandler>>,
    peers: HashMap<ConnectionId, PeerId>,
    inbound: mpsc::UnboundedSender<InboundStream>,
}

impl Streams {
    fn new(protocols: &[&'static str], inbound: mpsc::UnboundedSender<InboundStream>) -> Streams {
        let protocols = protocols.iter().copied().chain([PING]);
        Streams {
            protocols: Protocols::new(protocols),
            actions: VecDeque::new(),
            peers: HashMap::new(),
            inbound,
        }
    }

    pub fn open(&mut self, connection_id: ConnectionId, protocol: StreamProtocol, reply: Reply) {
        if let Some(peer_id) = self.peers.get(&connection_id) {
            self.actions.push_back(ToSwarm::NotifyHandler {
                peer_id: *peer_id,
                handler: NotifyHandler::One(connection_id),
                event: (protocol, reply),
            });
        }
    }

    fn enter(&mut self, connection_id: ConnectionId, peer_id: PeerId) -> Handler {
        self.peers.insert(connection_id, peer_id);
        Handler::new(connection_id, self.protocols.clone(), self.inbound.clone())
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.enter(connection_id, peer_id))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.enter(connection_id, peer_id))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = event {
            self.peers.remove(&closed.connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.actions.pop_front() {
            Some(action) => Poll::Ready(action),
            None => Poll::Pending,
        }
    }
}
