//! The swarm as the drivers use it: its behaviours by name, dials, and questions about connections and subscriptions.
//!
//! Entry type: [`Network`]. The rule it keeps: every dial of the node begins here, from a port of its own.

use futures::StreamExt;
use libp2p::gossipsub::{MessageAcceptance, MessageId, TopicHash};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};

use crate::gate::Gate;
use crate::gossip;
use crate::handshake::{self, VerifiedConnection};
use crate::model::RoomName;
use crate::net::address::Address;
use crate::net::staggered_dial::stagger_dials;
use crate::node::behaviour::{Behaviour, BehaviourEvent, Verified};
use crate::overlay;
use crate::wire::RequestResponse;

/// The swarm of a node.
pub(super) struct Network {
    swarm: Swarm<Behaviour>,
}

impl Network {
    pub(super) fn new(swarm: Swarm<Behaviour>) -> Network {
        Network { swarm }
    }

    /// Waits for the swarm's next event.
    pub(super) async fn next(&mut self) -> SwarmEvent<BehaviourEvent> {
        self.swarm.select_next_some().await
    }

    pub(super) fn local_peer_id(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    /// Returns the overlay; none when the node has fixed links.
    pub(super) fn overlay(&mut self) -> Option<&mut overlay::Behaviour> {
        self.gate().inner_mut().overlay.as_mut()
    }

    pub(super) fn gossip(&mut self) -> &mut gossip::Behaviour {
        &mut self.gate().inner_mut().gossip
    }

    pub(super) fn sync(&mut self) -> &mut RequestResponse {
        &mut self.gate().inner_mut().sync
    }

    pub(super) fn handshake(&mut self) -> &mut handshake::Behaviour {
        &mut self.swarm.behaviour_mut().handshake
    }

    pub(super) fn gate(&mut self) -> &mut Gate<Verified> {
        &mut self.swarm.behaviour_mut().gate
    }

    /// Returns all addresses at which the node can be dialled, the announced ones first.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        let external = self.swarm.external_addresses();
        external.chain(self.swarm.listeners()).cloned().collect()
    }

    /// Returns whether the connection is up and in or past its handshake.
    pub(super) fn is_up(&self, connection_id: ConnectionId) -> bool {
        let handshake = &self.swarm.behaviour().handshake;
        handshake.stage(connection_id).is_some()
    }

    /// Returns the address of a connection's socket, where it differs from the dialled address.
    pub(super) fn socket_of(&self, connection_id: ConnectionId) -> Option<&Multiaddr> {
        self.swarm.behaviour().sockets.socket_of(connection_id)
    }

    /// Counts the connection as verified in the limits for strangers, and lets this node's own streams out.
    pub(super) fn on_verified(&mut self, proof: &VerifiedConnection) {
        let behaviour = self.swarm.behaviour_mut();
        behaviour.limits.verified(proof.connection_id());
        if !proof.is_dialer() {
            behaviour.gate.open_outbound(proof);
        }
    }

    /// Starts to close the connection. Returns false when it is closed already.
    pub(super) fn close(&mut self, connection_id: ConnectionId) -> bool {
        let is_closing = self.swarm.close_connection(connection_id);
        if is_closing {
            self.handshake().abandon(connection_id);
        }
        is_closing
    }

    /// Starts to close all connections.
    pub(super) fn close_all(&mut self) {
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer_id in peers {
            let _ = self.swarm.disconnect_peer_id(peer_id);
        }
    }

    /// Waits until all connections are closed.
    pub(super) async fn all_closed(&mut self) {
        while self.swarm.connected_peers().next().is_some() {
            self.next().await;
        }
    }

    /// Begins the dial. The swarm denies dials that a behaviour asks for by itself.
    ///
    /// # Errors
    ///
    /// The reason why the dial cannot begin.
    pub(super) fn dial(&mut self, opts: DialOpts) -> Result<(), DialError> {
        let sockets = &mut self.swarm.behaviour_mut().sockets;
        sockets.expect_dial(opts.connection_id());
        self.swarm.dial(opts)
    }

    /// Dials a peer at any of these addresses, staggered; without a peer id only at the first, because each address would be
    /// a dial of its own. Returns none when no dial can begin.
    pub(super) fn dial_any(
        &mut self,
        peer_id: Option<PeerId>,
        addresses: Vec<Multiaddr>,
    ) -> Option<ConnectionId> {
        match peer_id {
            Some(peer_id) => stagger_dials(addresses, |addresses| {
                self.try_dial(dial_peer(peer_id, addresses))
            }),
            None => {
                let first = addresses.into_iter().next()?;
                self.try_dial(dial_unknown(first))
            }
        }
    }

    fn try_dial(&mut self, opts: DialOpts) -> Option<ConnectionId> {
        let (connection_id, peer_id) = (opts.connection_id(), opts.get_peer_id());
        match self.dial(opts) {
            Ok(()) => Some(connection_id),
            Err(error) => {
                tracing::debug!(?peer_id, %error, "a dial was refused at once");
                None
            }
        }
    }

    /// Returns the linked peers in a room.
    pub(super) fn peers_in(&self, topic: &TopicHash) -> Vec<PeerId> {
        let gossip = &self.swarm.behaviour().gate.inner().gossip;
        gossip
            .all_peers()
            .filter(|(_, topics)| topics.contains(&topic))
            .map(|(peer_id, _)| *peer_id)
            .collect()
    }

    /// Returns the rooms of a linked peer, as gossipsub knows them.
    pub(super) fn rooms_of(&self, peer_id: &PeerId) -> Vec<String> {
        let gossip = &self.swarm.behaviour().gate.inner().gossip;
        gossip
            .all_peers()
            .filter(|(peer, _)| *peer == peer_id)
            .flat_map(|(_, topics)| topics)
            .filter_map(|topic| RoomName::from_topic(topic.as_str()))
            .map(|room| room.as_str().to_owned())
            .collect()
    }

    /// Returns whether a peer has sent subscriptions.
    pub(super) fn has_subscribed(&self, peer_id: &PeerId) -> bool {
        let gossip = &self.swarm.behaviour().gate.inner().gossip;
        gossip
            .all_peers()
            .any(|(peer, topics)| peer == peer_id && !topics.is_empty())
    }

    /// Passes the verdict on a message to gossipsub, which forwards accepted ones.
    pub(super) fn report_validation(
        &mut self,
        id: &MessageId,
        from: &PeerId,
        acceptance: MessageAcceptance,
    ) {
        let gossip = self.gossip();
        gossip.report_message_validation_result(id, from, acceptance);
    }
}

/// Returns the options of a dial to one address. All dials leave from a port of their own: from the listening port, two nodes
/// that dial each other at once would meet in one TCP connection of which both are the dialer.
pub(super) fn dial_address(address: &Address) -> DialOpts {
    let multiaddr = address.multiaddr().clone();
    match address.peer_id() {
        Some(peer_id) => dial_peer(peer_id, vec![multiaddr]),
        None => dial_unknown(multiaddr),
    }
}

fn dial_peer(peer_id: PeerId, addresses: Vec<Multiaddr>) -> DialOpts {
    DialOpts::peer_id(peer_id)
        .condition(PeerCondition::Always)
        .addresses(addresses)
        .allocate_new_port()
        .build()
}

fn dial_unknown(address: Multiaddr) -> DialOpts {
    DialOpts::unknown_peer_id()
        .address(address)
        .allocate_new_port()
        .build()
}
