//! Two swarms with a gate each, over memory: what stands behind a shut gate hears and says nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::Endpoint;
use libp2p::core::transport::{MemoryTransport, PortUse};
use libp2p::core::upgrade::Version;
use libp2p::request_response::{self as rr, ProtocolSupport};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, Swarm, SwarmEvent, THandler,
    THandlerInEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Transport, identity, noise, yamux};

use super::{Event, Gate, Permit};
use crate::gossip;
use crate::wire::{self, FrameCodec, Limits, Request};

type Asking = rr::Behaviour<FrameCodec>;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it waits to see that nothing comes: several round trips in memory.
const SILENCE: Duration = Duration::from_millis(300);

struct Proof(PeerId, ConnectionId);

impl Permit for Proof {
    fn peer_id(&self) -> PeerId {
        self.0
    }

    fn connection_id(&self) -> ConnectionId {
        self.1
    }
}

/// One side, and what it has told.
struct Side<B: NetworkBehaviour> {
    swarm: Swarm<Gate<B>>,
    told: VecDeque<Told<B::ToSwarm>>,
}

#[derive(Debug)]
enum Told<E> {
    Up(ConnectionId),
    Down,
    Open,
    GaveUp(ConnectionId),
    Inner(E),
}

impl<B> Side<B>
where
    B: NetworkBehaviour<ToSwarm: std::fmt::Debug>,
{
    fn new(inner: B) -> Side<B> {
        let key = identity::Keypair::generate_ed25519();
        let transport = MemoryTransport::default()
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(&key).expect("an Ed25519 key"))
            .multiplex(yamux::Config::default())
            .boxed();
        let config = libp2p::swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(Duration::from_secs(60))
            .with_substream_upgrade_protocol_override(Version::V1Lazy);
        let own = key.public().to_peer_id();
        Side {
            swarm: Swarm::new(transport, Gate::new(inner), own, config),
            told: VecDeque::new(),
        }
    }

    fn id(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    fn gate(&mut self) -> &mut Gate<B> {
        self.swarm.behaviour_mut()
    }

    fn hear(&mut self, event: SwarmEvent<Event<B::ToSwarm>>) {
        let told = match event {
            SwarmEvent::ConnectionEstablished { connection_id, .. } => Told::Up(connection_id),
            SwarmEvent::ConnectionClosed { .. } => Told::Down,
            SwarmEvent::Behaviour(Event::Open { .. }) => Told::Open,
            SwarmEvent::Behaviour(Event::GaveUp { connection_id, .. }) => {
                Told::GaveUp(connection_id)
            }
            SwarmEvent::Behaviour(Event::Inner(event)) => Told::Inner(event),
            _ => return,
        };
        self.told.push_back(told);
    }
}

/// Two sides, run together.
struct Pair<B: NetworkBehaviour> {
    dialer: Side<B>,
    listener: Side<B>,
    address: Multiaddr,
}

/// A connection as each side numbers it.
#[derive(Clone, Copy)]
struct Both {
    dialers: ConnectionId,
    listeners: ConnectionId,
}

impl<B> Pair<B>
where
    B: NetworkBehaviour<ToSwarm: std::fmt::Debug>,
{
    async fn new(inner: impl Fn() -> B) -> Pair<B> {
        let (dialer, mut listener) = (Side::new(inner()), Side::new(inner()));
        let any = "/memory/0".parse().expect("a multiaddr");
        listener
            .swarm
            .listen_on(any)
            .expect("memory can be listened on");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } =
                listener.swarm.select_next_some().await
            {
                break address;
            }
        };
        Pair {
            dialer,
            listener,
            address,
        }
    }

    async fn connect(&mut self) -> Both {
        self.dialer
            .swarm
            .dial(self.address.clone())
            .expect("it can be dialled");
        let dialers = self.dialers(|told| match told {
            Told::Up(id) => Some(*id),
            _ => None,
        });
        let dialers = dialers.await;
        let listeners = self.listeners(|told| match told {
            Told::Up(id) => Some(*id),
            _ => None,
        });
        Both {
            dialers,
            listeners: listeners.await,
        }
    }

    /// Runs both until the dialer has told what `wanted` picks; what it told before is gone.
    async fn dialers<T>(&mut self, wanted: impl Fn(&Told<B::ToSwarm>) -> Option<T>) -> T {
        let found = async {
            loop {
                while let Some(told) = self.dialer.told.pop_front() {
                    if let Some(found) = wanted(&told) {
                        return found;
                    }
                }
                self.step().await;
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .expect("it comes")
    }

    async fn listeners<T>(&mut self, wanted: impl Fn(&Told<B::ToSwarm>) -> Option<T>) -> T {
        let found = async {
            loop {
                while let Some(told) = self.listener.told.pop_front() {
                    if let Some(found) = wanted(&told) {
                        return found;
                    }
                }
                self.step().await;
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .expect("it comes")
    }

    async fn step(&mut self) {
        tokio::select! {
            event = self.dialer.swarm.select_next_some() => self.dialer.hear(event),
            event = self.listener.swarm.select_next_some() => self.listener.hear(event),
        }
    }

    async fn settle(&mut self) {
        let run = async {
            loop {
                self.step().await;
            }
        };
        let _: Result<(), _> = tokio::time::timeout(SILENCE, run).await;
    }

    fn permits(&self, both: Both) -> (Proof, Proof) {
        let of_listener = Proof(self.listener.id(), both.dialers);
        let of_dialer = Proof(self.dialer.id(), both.listeners);
        (of_listener, of_dialer)
    }

    /// Opens both gates wholly.
    async fn open(&mut self, both: Both) {
        let (of_listener, of_dialer) = self.permits(both);
        self.listener.gate().open_inbound(&of_dialer);
        self.listeners(is_open).await;
        self.dialer.gate().open_inbound(&of_listener);
        self.dialers(is_open).await;
        self.dialer.gate().open_outbound(&of_listener);
        self.listener.gate().open_outbound(&of_dialer);
    }
}

fn asking() -> Asking {
    let limits = Limits {
        request: 64,
        response: 64,
    };
    rr::Behaviour::with_codec(
        FrameCodec::new(limits),
        [(StreamProtocol::new("/ask/1"), ProtocolSupport::Full)],
        rr::Config::default(),
    )
}

fn gossiping() -> gossip::Behaviour {
    let mut gossip = gossip::behaviour().expect("the configuration is sound");
    let room = "lobby".parse().expect("a room");
    gossip
        .subscribe(&gossip::topic(&room))
        .expect("a room's topic");
    gossip
}

fn is_open<E>(told: &Told<E>) -> Option<()> {
    matches!(told, Told::Open).then_some(())
}

fn is_down<E>(told: &Told<E>) -> Option<()> {
    matches!(told, Told::Down).then_some(())
}

fn is_request(told: &Told<rr::Event<Request, Vec<u8>>>) -> Option<()> {
    let Told::Inner(rr::Event::Message { message, .. }) = told else {
        return None;
    };
    matches!(message, rr::Message::Request { .. }).then_some(())
}

fn has_peers(side: &Side<gossip::Behaviour>) -> bool {
    side.swarm.behaviour().inner().all_peers().next().is_some()
}

#[tokio::test]
async fn behind_a_shut_gate_gossip_has_no_peers() {
    let mut pair = Pair::new(gossiping).await;
    pair.connect().await;
    pair.settle().await;
    assert!(!has_peers(&pair.dialer) && !has_peers(&pair.listener));
    assert!(pair.dialer.told.is_empty() && pair.listener.told.is_empty());
}

/// Counts what it hears of peers.
#[derive(Default)]
struct Spy {
    heard: usize,
}

impl NetworkBehaviour for Spy {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.heard += 1;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.heard += 1;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let of_a_peer = matches!(
            event,
            FromSwarm::ConnectionEstablished(_)
                | FromSwarm::ConnectionClosed(_)
                | FromSwarm::NewExternalAddrOfPeer(_)
        );
        self.heard += usize::from(of_a_peer);
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn behind_a_shut_gate_nobody_hears_of_the_peer_from_its_coming_to_its_going() {
    let mut pair = Pair::new(Spy::default).await;
    let both = pair.connect().await;
    let (listener, address) = (pair.listener.id(), pair.address.clone());
    pair.dialer
        .swarm
        .add_peer_address(listener, address.clone());
    pair.dialer.swarm.close_connection(both.dialers);
    pair.dialers(is_down).await;
    pair.listeners(is_down).await;
    assert_eq!(pair.dialer.gate().inner().heard, 0);
    assert_eq!(pair.listener.gate().inner().heard, 0);
    // Through an open one all of it is told: the handler, the coming, the address, the going.
    let both = pair.connect().await;
    pair.open(both).await;
    pair.dialer.swarm.add_peer_address(listener, address);
    pair.dialer.swarm.close_connection(both.dialers);
    pair.dialers(is_down).await;
    assert_eq!(pair.dialer.gate().inner().heard, 4);
}

#[tokio::test]
async fn a_stream_to_a_shut_gate_is_refused_although_ours_is_open() {
    let mut pair = Pair::new(asking).await;
    let both = pair.connect().await;
    let (of_listener, _) = pair.permits(both);
    pair.dialer.gate().open_inbound(&of_listener);
    pair.dialer.gate().open_outbound(&of_listener);
    let listener = pair.listener.id();
    pair.dialer
        .gate()
        .inner_mut()
        .send_request(&listener, Ok(vec![1]));
    let refused = pair.dialers(|told| match told {
        Told::Inner(rr::Event::OutboundFailure { error, .. }) => Some(wire::is_unsupported(error)),
        _ => None,
    });
    assert!(refused.await, "refused by negotiation, not reset");
    assert!(pair.listener.told.is_empty());
}

#[tokio::test]
async fn our_streams_wait_until_the_gate_is_open_outbound() {
    let mut pair = Pair::new(asking).await;
    let both = pair.connect().await;
    let (of_listener, of_dialer) = pair.permits(both);
    pair.listener.gate().open_inbound(&of_dialer);
    pair.dialer.gate().open_inbound(&of_listener);
    pair.dialers(is_open).await;
    pair.listeners(is_open).await;
    let listener = pair.listener.id();
    pair.dialer
        .gate()
        .inner_mut()
        .send_request(&listener, Ok(vec![1]));
    pair.settle().await;
    assert!(pair.listener.told.is_empty(), "it did not wait");
    pair.dialer.gate().open_outbound(&of_listener);
    pair.listeners(is_request).await;
}

#[tokio::test]
async fn the_peers_first_stream_opens_ours() {
    let mut pair = Pair::new(asking).await;
    let both = pair.connect().await;
    let (of_listener, of_dialer) = pair.permits(both);
    pair.listener.gate().open_inbound(&of_dialer);
    pair.listeners(is_open).await;
    pair.dialer.gate().open_inbound(&of_listener);
    pair.dialers(is_open).await;
    pair.dialer.gate().open_outbound(&of_listener);
    let (dialer, listener) = (pair.dialer.id(), pair.listener.id());
    pair.listener
        .gate()
        .inner_mut()
        .send_request(&dialer, Ok(vec![2]));
    pair.settle().await;
    assert!(pair.dialer.told.is_empty(), "the listener spoke too early");
    pair.dialer
        .gate()
        .inner_mut()
        .send_request(&listener, Ok(vec![1]));
    pair.dialers(is_request).await;
}

#[tokio::test]
async fn through_open_gates_gossip_flows() {
    let mut pair = Pair::new(gossiping).await;
    let both = pair.connect().await;
    pair.open(both).await;
    let subscribed = |told: &Told<libp2p::gossipsub::Event>| {
        let subscribed = matches!(
            told,
            Told::Inner(libp2p::gossipsub::Event::Subscribed { .. })
        );
        subscribed.then_some(())
    };
    pair.dialers(subscribed).await;
    pair.listeners(subscribed).await;
}

#[tokio::test]
async fn a_permit_for_one_connection_opens_no_other() {
    let mut pair = Pair::new(asking).await;
    let (first, second) = (pair.connect().await, pair.connect().await);
    pair.open(second).await;
    let stranger = Proof(PeerId::random(), first.listeners);
    pair.listener.gate().open_inbound(&stranger);
    let listener = pair.listener.id();
    pair.dialer
        .gate()
        .inner_mut()
        .send_request(&listener, Ok(vec![1]));
    let on = pair.listeners(|told| match told {
        Told::Inner(rr::Event::Message { connection_id, .. }) => Some(*connection_id),
        _ => None,
    });
    assert_eq!(on.await, second.listeners);
}

#[tokio::test]
async fn connections_are_counted_without_those_that_are_not_bound() {
    let mut pair = Pair::new(asking).await;
    let (first, second) = (pair.connect().await, pair.connect().await);
    pair.open(second).await;
    let listener = pair.listener.id();
    assert!(pair.dialer.gate().inner().is_connected(&listener));
    // The unbound one stays: for what is behind the gate, the peer is gone all the same.
    pair.dialer.swarm.close_connection(second.dialers);
    pair.dialers(is_down).await;
    assert!(!pair.dialer.gate().inner().is_connected(&listener));
    assert!(pair.dialer.swarm.is_connected(&listener));
    // And its end, which was never told of, is not told of either.
    pair.dialer.swarm.close_connection(first.dialers);
    pair.dialers(is_down).await;
    assert!(pair.dialer.gate().connections.is_empty());
}

#[tokio::test]
async fn a_gate_that_is_opened_twice_or_too_late_stays_as_it_is() {
    let mut pair = Pair::new(asking).await;
    let both = pair.connect().await;
    pair.open(both).await;
    let (of_listener, _) = pair.permits(both);
    pair.dialer.gate().open_inbound(&of_listener);
    pair.dialer.gate().open_outbound(&of_listener);
    pair.settle().await;
    assert!(pair.dialer.told.is_empty(), "it is told of once");
    pair.dialer.swarm.close_connection(both.dialers);
    pair.dialers(is_down).await;
    pair.dialer.gate().open_inbound(&of_listener);
    pair.dialer.gate().open_outbound(&of_listener);
    let listener = pair.listener.id();
    assert!(!pair.dialer.gate().inner().is_connected(&listener));
}

#[tokio::test]
async fn gossip_learns_that_the_peer_refuses_all_of_its_protocols() {
    let mut pair = Pair::new(gossiping).await;
    let both = pair.connect().await;
    let (of_listener, _) = pair.permits(both);
    pair.dialer.gate().open_inbound(&of_listener);
    pair.dialer.gate().open_outbound(&of_listener);
    let not_supported = pair.dialers(|told| match told {
        Told::Inner(libp2p::gossipsub::Event::GossipsubNotSupported { .. }) => Some(()),
        _ => None,
    });
    not_supported.await;
}

#[tokio::test]
async fn gossip_that_gives_up_is_told_of() {
    let mut pair = Pair::new(gossiping).await;
    let both = pair.connect().await;
    // The dialer speaks to a gate that is shut: its gossip never tries again by itself.
    let (of_listener, _) = pair.permits(both);
    pair.dialer.gate().open_inbound(&of_listener);
    pair.dialer.gate().open_outbound(&of_listener);
    let gave_up = pair.dialers(|told| match told {
        Told::GaveUp(id) => Some(*id),
        _ => None,
    });
    assert_eq!(gave_up.await, both.dialers);
}
