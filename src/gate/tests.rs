//! Two swarms with a gate each, over memory: behaviours behind a shut gate neither learn of the peer nor reach it.

mod pair;

use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::request_response::{self as rr, ProtocolSupport};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use self::pair::{Observed, Pair, Proof, Side};
use crate::gossip;
use crate::wire::{self, FrameCodec, Limits, Request};

type Asking = rr::Behaviour<FrameCodec>;

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

fn is_open<E>(observed: &Observed<E>) -> Option<()> {
    matches!(observed, Observed::Open).then_some(())
}

fn is_down<E>(observed: &Observed<E>) -> Option<()> {
    matches!(observed, Observed::Down).then_some(())
}

fn is_request(observed: &Observed<rr::Event<Request, Vec<u8>>>) -> Option<()> {
    let Observed::Inner(rr::Event::Message { message, .. }) = observed else {
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
    assert!(pair.dialer.observed.is_empty() && pair.listener.observed.is_empty());
}

/// Counts the events about peers that it gets.
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
async fn behind_a_shut_gate_no_behaviour_learns_that_the_peer_connects_or_leaves() {
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
    // An open gate passes on four things: the handler, the connection, the address, the disconnection.
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
    let refused = pair.dialers(|observed| match observed {
        Observed::Inner(rr::Event::OutboundFailure { error, .. }) => {
            Some(wire::is_unsupported(error))
        }
        _ => None,
    });
    assert!(refused.await, "refused by negotiation, not reset");
    assert!(pair.listener.observed.is_empty());
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
    assert!(pair.listener.observed.is_empty(), "it did not wait");
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
    assert!(
        pair.dialer.observed.is_empty(),
        "the listener spoke too early"
    );
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
    let subscribed = |observed: &Observed<libp2p::gossipsub::Event>| {
        let subscribed = matches!(
            observed,
            Observed::Inner(libp2p::gossipsub::Event::Subscribed { .. })
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
    let on = pair.listeners(|observed| match observed {
        Observed::Inner(rr::Event::Message { connection_id, .. }) => Some(*connection_id),
        _ => None,
    });
    assert_eq!(on.await, second.listeners);
}

#[tokio::test]
async fn only_admitted_connections_are_counted() {
    let mut pair = Pair::new(asking).await;
    let (first, second) = (pair.connect().await, pair.connect().await);
    pair.open(second).await;
    let listener = pair.listener.id();
    assert!(pair.dialer.gate().inner().is_connected(&listener));
    // The other connection stays up, but the behaviours inside the gate see the peer leave.
    pair.dialer.swarm.close_connection(second.dialers);
    pair.dialers(is_down).await;
    assert!(!pair.dialer.gate().inner().is_connected(&listener));
    assert!(pair.dialer.swarm.is_connected(&listener));
    // It was never announced to them, so its end is not either.
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
    assert!(pair.dialer.observed.is_empty(), "it is observed of once");
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
    let not_supported = pair.dialers(|observed| match observed {
        Observed::Inner(libp2p::gossipsub::Event::GossipsubNotSupported { .. }) => Some(()),
        _ => None,
    });
    not_supported.await;
}

#[tokio::test]
async fn a_gossip_stream_that_gives_up_is_reported() {
    let mut pair = Pair::new(gossiping).await;
    let both = pair.connect().await;
    // The dialer speaks to a gate that is shut: its gossip never tries again by itself.
    let (of_listener, _) = pair.permits(both);
    pair.dialer.gate().open_inbound(&of_listener);
    pair.dialer.gate().open_outbound(&of_listener);
    let gave_up = pair.dialers(|observed| match observed {
        Observed::GaveUp(id) => Some(*id),
        _ => None,
    });
    assert_eq!(gave_up.await, both.dialers);
}
