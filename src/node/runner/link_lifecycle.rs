//! The life of a link across the protocols: dial, handshake, admission, link up, link down.
//!
//! Entry: [`Runner::on_handshake`]. The rule it keeps: the other protocols learn of a peer only after both rounds of its
//! handshake, and of the end of each link once. The gate opens for a proof of the handshake and for nothing else.

use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use super::Runner;
use super::effect::DialFailure;
use super::overlay::end_reason;
use crate::handshake::{self, Refusal, RejectCode, VerifiedConnection};
use crate::net::stage::{Stage, StageError};
use crate::node::event::{Direction, Event};
use crate::node::failure;
use crate::node::ingest::SyncCommand;
use crate::node::link_info::LinkInfo;
use crate::node::links::{Inserted, Link};
use crate::overlay::Reason;
use crate::sync;

const PLACE_LOST: &str =
    "the handshake took so long that its place went to another peer; try again later";

impl Runner {
    /// A connection is established. A second dial to a linked peer ends here, without a handshake.
    pub(super) fn on_established(
        &mut self,
        peer_id: PeerId,
        connection_id: ConnectionId,
        endpoint: &ConnectedPoint,
    ) {
        let now = self.clock.now();
        if endpoint.is_dialer()
            && self
                .connections
                .end_second_dial(now, connection_id, peer_id)
        {
            self.update_entries();
            let reason = "the peer is linked already";
            let failure = DialFailure {
                connection_id,
                peer_id: Some(peer_id),
                address: None,
                error: StageError::new(Stage::Link, reason).with_code("LINKED"),
            };
            self.overlay.on_dial_failed(&mut self.network, &failure);
            self.connections
                .close(&mut self.network, connection_id, reason);
        }
    }

    /// A dial, or the handshake on it, has failed. The overlay or the connection driver has asked for it.
    pub(super) fn on_dial_failed(&mut self, failure: DialFailure) {
        let of_overlay = self.overlay.on_dial_failed(&mut self.network, &failure);
        if let Some(is_wrong_peer) = of_overlay {
            tracing::debug!(error = %failure.error, "a dial of the overlay failed");
            // An entry node may run again under another key: its address counts.
            if is_wrong_peer && self.connections.forget_peers() {
                self.update_entries();
            }
            return;
        }
        let links = self.connections.count();
        let overlay = self.network.overlay();
        let wants_links = overlay.is_none_or(|overlay| overlay.wants_more_than(links));
        let now = self.clock.now();
        self.connections
            .on_dial_failed(now, failure, wants_links, &mut self.effects);
    }

    pub(super) fn on_handshake(&mut self, event: handshake::Event) {
        match event {
            handshake::Event::Authorize {
                connection_id,
                peer_id,
                instance_id,
                features,
                endpoint,
            } => {
                let is_visit = !endpoint.is_dialer() && features & handshake::VISIT != 0;
                let decision = match is_visit {
                    true => self.authorize_visit(&peer_id),
                    false => self.authorize(connection_id, peer_id, &instance_id, &endpoint),
                };
                self.network.handshake().decide(connection_id, decision);
            }
            // The protocols behind the gate learn nothing of a visit.
            handshake::Event::Verified(proof) if is_visit(&proof) => {
                self.network.handshake().gate_open(proof.connection_id());
            }
            handshake::Event::Passed {
                proof, endpoint, ..
            } if is_visit(&proof) => self.on_visit(&proof, &endpoint),
            handshake::Event::Verified(proof) => {
                let gate = self.network.gate();
                gate.open_inbound(&proof);
                if proof.is_dialer() {
                    gate.open_outbound(&proof);
                }
            }
            handshake::Event::Passed {
                proof,
                endpoint,
                took,
            } => self.on_passed(&proof, &endpoint, took),
            handshake::Event::Failed {
                connection_id,
                peer_id,
                endpoint,
                failure,
            } => self.on_handshake_failed(connection_id, peer_id, &endpoint, &failure),
        }
    }

    /// Decides whether a peer that has proved its key may become a link.
    fn authorize(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        instance_id: &[u8; 16],
        endpoint: &ConnectedPoint,
    ) -> Result<(), Refusal> {
        let (now, network) = (self.clock.now(), &mut self.network);
        self.connections
            .check_identity(now, network, connection_id, &peer_id, instance_id)?;
        self.overlay
            .admit(network, connection_id, peer_id, endpoint)
    }

    /// Decides whether a visitor that has proved its key may look. It takes no place, and its identity may be linked.
    fn authorize_visit(&self, peer_id: &PeerId) -> Result<(), Refusal> {
        let now = self.clock.now();
        let checked = self.connections.check_admission(now, peer_id);
        checked.map_err(Refusal::from)
    }

    /// A visitor has seen that this node can be linked with (`diatribe check`). Until it closes the connection, it keeps its
    /// place among the strangers.
    fn on_visit(&mut self, proof: &VerifiedConnection, endpoint: &ConnectedPoint) {
        let now = self.clock.now();
        self.connections.limit_visit(now, proof.connection_id());
        self.bus.emit(Event::Visit {
            peer_id: proof.verified().peer_id(),
            address: endpoint.get_remote_address().clone(),
        });
    }

    fn on_handshake_failed(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        endpoint: &ConnectedPoint,
        failure: &handshake::Failure,
    ) {
        // This node's own closing is no failure of the handshake.
        if self.connections.is_closing(connection_id) {
            return;
        }
        let address = endpoint.get_remote_address();
        let error = failure::of_handshake(failure);
        if let Some(referrals) = &failure.referrals {
            let network = &mut self.network;
            self.overlay
                .on_referrals(network, connection_id, peer_id, address, referrals);
        }
        // The end of a connection that the peer has closed was reported before this, and would not remove the entry.
        if self.network.is_up(connection_id) {
            let reason = error.to_string();
            self.connections.set_closing(connection_id, reason);
        }
        self.refuse(connection_id, peer_id, endpoint, error);
    }

    /// Ends the attempt of a peer to link, which has failed with `error`.
    fn refuse(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        endpoint: &ConnectedPoint,
        error: StageError,
    ) {
        self.overlay.dismiss(&mut self.network, peer_id);
        let address = endpoint.get_remote_address().clone();
        if endpoint.is_dialer() {
            self.on_dial_failed(DialFailure {
                connection_id,
                peer_id: Some(peer_id),
                address: Some(address),
                error,
            });
        } else if error.code == Some(RejectCode::Busy.name()) {
            // In a storm of newcomers this is the ordinary course: they retry.
            tracing::debug!(%peer_id, %address, "asked to come later");
        } else {
            self.connections
                .report_refused(Some(peer_id), address, error);
        }
    }

    /// A handshake has ended well on both sides: the connection becomes a link, or one of two with its peer.
    fn on_passed(&mut self, proof: &VerifiedConnection, endpoint: &ConnectedPoint, took: Duration) {
        let now = self.clock.now();
        let connection_id = proof.connection_id();
        if !self.network.is_up(connection_id) {
            // It has ended while the last message of the handshake was on its way to here.
            return self.connections.on_closed_before_link(now, connection_id);
        }
        self.network.on_verified(proof);
        let link = link_of(now, proof, endpoint);
        let peer_id = link.peer_id;
        if self.connections.refuse_duplicate(&mut self.network, &link) {
            return;
        }
        self.close_given_up();
        if !self.connections.is_linked(&peer_id)
            && self
                .overlay
                .admit(&mut self.network, connection_id, peer_id, endpoint)
                .is_err()
        {
            return self.on_place_lost(connection_id, peer_id, endpoint);
        }
        tracing::debug!(%peer_id, ?took, "the handshake passed");
        let offset_ms = link.clock_offset_ms;
        let theirs_ms = self.clocks.on_handshake(now, peer_id, offset_ms);
        self.sync.send(SyncCommand::Clock(peer_id, theirs_ms));
        let own = self.network.local_peer_id();
        match self.connections.insert(&own, link.clone()) {
            Inserted::New => self.on_link_up(&link, proof.verified().features()),
            Inserted::Close(loser) => {
                if loser != connection_id && !proof.is_dialer() {
                    self.overlay.on_link_up(&mut self.network, &link);
                }
                self.overlay.forget_dial(connection_id);
                self.connections.retire_duplicate(loser, &link);
            }
        }
        // With an overlay, the address that led here is an entry node from now on.
        self.connections.on_linked(connection_id, peer_id);
        self.update_entries();
    }

    /// The place that was reserved for a peer went to another during its slow handshake. The connection closes before it
    /// counts as a link or is reported.
    fn on_place_lost(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        endpoint: &ConnectedPoint,
    ) {
        let error = StageError::new(Stage::Link, PLACE_LOST).with_code(RejectCode::Busy.name());
        self.connections
            .close(&mut self.network, connection_id, PLACE_LOST);
        self.refuse(connection_id, peer_id, endpoint, error);
    }

    /// A peer has its first link: all protocols learn of it. The application learns of it when the peer's subscriptions have
    /// arrived.
    fn on_link_up(&mut self, link: &Link, features: u64) {
        let peer_id = link.peer_id;
        self.overlay.on_link_up(&mut self.network, link);
        self.sync.send(SyncCommand::LinkUp(peer_id));
        let supports_announcements = features & sync::ANNOUNCE_FEATURE != 0;
        if supports_announcements {
            self.sync.send(SyncCommand::SupportsAnnouncements(peer_id));
        }
        let now = link.since;
        let announce_at =
            self.gossip
                .on_link_up(now, &self.network, peer_id, supports_announcements);
        self.update_rooms_of(peer_id);
        let info = LinkInfo::of(link, now);
        self.connections
            .announce_later(announce_at, info, link.connection_id);
    }

    /// Ends the links that the overlay has given up, before a new link counts: the node never has nor reports more links than
    /// the overlay allows.
    fn close_given_up(&mut self) {
        while let Some((peer_id, reason)) = self.network.overlay().and_then(|o| o.take_close()) {
            self.give_up_link(peer_id, reason);
        }
    }

    /// The overlay has given up a link. It is reported now, and its connections close a little later.
    pub(super) fn give_up_link(&mut self, peer_id: PeerId, reason: Reason) {
        let now = self.clock.now();
        if let Some(link) = self.connections.give_up(now, &peer_id) {
            self.on_link_down(&link, end_reason(reason).to_owned());
        }
    }

    /// A peer's last link has ended: all protocols and the application learn of it.
    pub(super) fn on_link_down(&mut self, link: &Link, reason: String) {
        let (now, peer_id) = (self.clock.now(), link.peer_id);
        self.connections.announce_link(&peer_id);
        self.gossip.on_link_down(&peer_id);
        self.clocks.on_link_down(&peer_id);
        self.sync.send(SyncCommand::LinkDown(peer_id));
        let overlay = self.network.overlay();
        let has_overlay = overlay.is_some();
        let reason = match overlay.and_then(|overlay| overlay.link_down(peer_id)) {
            Some(ended) if ended != Reason::Lost => end_reason(ended).to_owned(),
            _ => reason,
        };
        self.connections.report_link_down(peer_id, reason);
        if !has_overlay {
            self.connections.redial(now, peer_id);
        }
        self.retry_publish();
    }

    /// Announces an address at which this node listens.
    pub(super) fn on_listening(&mut self, address: Multiaddr) {
        if !crate::node::builder::can_be_dialled(&address) {
            return;
        }
        let own = self.network.local_peer_id();
        let address = address.with_p2p(own).unwrap_or_else(|address| address);
        self.bus.emit(Event::Listening { address });
        self.overlay.update_addresses(&mut self.network);
    }
}

/// Returns whether a peer that dialled this node only looks, and does not link.
fn is_visit(proof: &VerifiedConnection) -> bool {
    !proof.is_dialer() && proof.verified().features() & handshake::VISIT != 0
}

fn link_of(now: crate::clock::Time, proof: &VerifiedConnection, endpoint: &ConnectedPoint) -> Link {
    let peer = proof.verified();
    Link {
        connection_id: proof.connection_id(),
        peer_id: peer.peer_id(),
        instance_id: peer.instance_id(),
        address: endpoint.get_remote_address().clone(),
        direction: match endpoint.is_dialer() {
            true => Direction::Dialer,
            false => Direction::Listener,
        },
        since: now,
        heard: now,
        rtt: None,
        clock_offset_ms: peer.clock_offset_ms(),
    }
}
