//! The loop's part in links: dials, handshakes, connections that come and go.
//!
//! The rule it keeps: whoever waits for a link is answered, once, with the link or the reason.

use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionError, ConnectionId};
use libp2p::{Multiaddr, PeerId, identify, ping};

use super::Runner;
use super::overlay::why;
use super::visitors::is_visit;
use crate::clock::Time;
use crate::handshake::{self, Refusal, RejectCode, VerifiedConnection};
use crate::net::half_open;
use crate::net::stage::{Stage, StageError};
use crate::node::behaviour::PING_TIMEOUT;
use crate::node::error::ConnectError;
use crate::node::event::{Direction, Event, Kind};
use crate::node::failure;
use crate::node::handle::LinkInfo;
use crate::node::ingest::Note;
use crate::node::links::{Duplicate, Inserted, Link};
use crate::overlay::Reason;
use crate::sync;
use crate::wire::is_refusal;

/// A connection that lost against another is closed this much later, so that what travels on it
/// arrives.
const RETIRE_AFTER: Duration = Duration::from_secs(2);

const PLACE_LOST: &str =
    "the handshake took so long that its place went to another peer; try again later";

const TWICE: &str = "another live node with this identity is linked already: the same key runs twice; \
     stop one of the two, or give it a key of its own";

impl Runner {
    pub(super) fn close(&mut self, connection_id: ConnectionId, why: impl Into<String>) {
        if self.swarm.close_connection(connection_id) {
            self.swarm.behaviour_mut().handshake.abandon(connection_id);
            self.closing
                .entry(connection_id)
                .or_insert_with(|| why.into());
        }
    }

    /// Puts other peer lists in place, and closes the links with peers that they no longer admit.
    pub(super) fn set_peer_lists(&mut self, trust: Vec<PeerId>, deny: Vec<PeerId>) {
        self.admission.set_lists(trust, deny);
        let now = self.clock.now();
        let peers: Vec<PeerId> = self.links.all().iter().map(|link| link.peer_id).collect();
        for peer_id in peers {
            if self.admission.check(now, &peer_id).is_err() {
                for connection_id in self.links.connections_of(&peer_id) {
                    self.close(connection_id, "the peer lists no longer admit this peer");
                }
            }
        }
    }

    /// A connection that waits for its handshake has lost its place to another. It may have passed just now.
    pub(super) fn on_evicted(&mut self, connection_id: ConnectionId) {
        if self.links.get(connection_id).is_none() {
            self.close(connection_id, half_open::evicted().reason);
        }
    }

    pub(super) fn on_established(
        &mut self,
        peer_id: PeerId,
        connection_id: ConnectionId,
        at: &ConnectedPoint,
    ) {
        // A second dial to a peer that is linked: the link that stands serves.
        if at.is_dialer()
            && let Some(link) = self.links.of(&peer_id)
        {
            let link = LinkInfo::of(link, self.clock.now());
            self.answer(connection_id, || Ok(link.clone()));
            self.introduced(connection_id, peer_id);
            let error =
                StageError::new(Stage::Link, "the peer is linked already").with_code("LINKED");
            self.overlay_dial_failed(connection_id, Some(peer_id), None, &error);
            self.close(connection_id, "the peer is linked already");
        }
    }

    pub(super) fn on_dial_failed(
        &mut self,
        connection_id: ConnectionId,
        peer_id: Option<PeerId>,
        address: Option<Multiaddr>,
        error: StageError,
    ) {
        let remote = address.as_ref();
        if self.overlay_dial_failed(connection_id, peer_id, remote, &error) {
            tracing::debug!(%error, "a dial of the overlay failed");
            return;
        }
        let awaited = self.answer(connection_id, || Err(ConnectError::Stage(error.clone())));
        let now = self.clock.now();
        let address = address.or_else(|| self.dialing.address_of(connection_id));
        if error.code == Some(failure::OWN_ID)
            && let Some(is_first) = self.dialing.led_to_self(now, connection_id)
        {
            if is_first {
                self.dial_failed(peer_id, address.unwrap_or_else(Multiaddr::empty), error);
            }
            return;
        }
        let busy = error.code == Some(RejectCode::Busy.name());
        if busy && !self.has_room() {
            // It answered, and there is no need of it now: it is a way in when links are lost.
            self.dialing.not_needed(connection_id);
            return self.tell_entries();
        }
        match self.dialing.failed(now, connection_id, busy, &mut self.rng) {
            Some(true) => {
                self.dial_failed(peer_id, address.unwrap_or_else(Multiaddr::empty), error);
            }
            Some(false) => tracing::info!(%error, "a dial failed again"),
            None if awaited => {}
            None => match address {
                Some(address) => self.dial_failed(peer_id, address, error),
                // A request to a peer that has just gone: nobody asked for this dial.
                None => tracing::debug!(?peer_id, %error, "a dial that nobody waits for failed"),
            },
        }
    }

    /// Answers whoever waits for a dial; whether anybody did.
    pub(super) fn answer(
        &mut self,
        connection_id: ConnectionId,
        answer: impl Fn() -> Result<LinkInfo, ConnectError>,
    ) -> bool {
        let waiters = self.waiters.remove(&connection_id).unwrap_or_default();
        let awaited = !waiters.is_empty();
        for waiter in waiters {
            let _ = waiter.send(answer());
        }
        awaited
    }

    /// Tells that a dial came to nothing. It has a limit of its own, so that a flood of strangers hides none of
    /// the dials that the operator asked for.
    fn dial_failed(&mut self, peer_id: Option<PeerId>, address: Multiaddr, error: StageError) {
        let event = Event::Refused {
            peer_id,
            address,
            error,
        };
        self.bus.emit_as(Some(Kind::DialFailed), event);
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
                    false => self
                        .judge(connection_id, &peer_id, &instance_id)
                        .map_err(Refusal::from)
                        .and_then(|()| self.admit(connection_id, peer_id, &endpoint)),
                    true => self.judge_visit(&peer_id),
                };
                self.swarm
                    .behaviour_mut()
                    .handshake
                    .decide(connection_id, decision);
            }
            // What is behind the gate hears nothing of a visit.
            handshake::Event::Verified(proof) if is_visit(&proof) => {
                let handshake = &mut self.swarm.behaviour_mut().handshake;
                handshake.gate_open(proof.connection_id());
            }
            handshake::Event::Passed {
                proof, endpoint, ..
            } if is_visit(&proof) => self.on_visit(&proof, &endpoint),
            handshake::Event::Verified(proof) => {
                let gate = &mut self.swarm.behaviour_mut().gate;
                gate.open_inbound(&proof);
                if proof.is_dialer() {
                    gate.open_outbound(&proof);
                }
            }
            handshake::Event::Passed {
                proof,
                endpoint,
                took,
            } => {
                self.on_passed(&proof, &endpoint, took);
            }
            handshake::Event::Failed {
                connection_id,
                peer_id,
                endpoint,
                failure,
            } => {
                // Our own closing is no failure of the handshake.
                if self.closing.contains_key(&connection_id) {
                    return;
                }
                let address = endpoint.get_remote_address().clone();
                let error = failure::of_handshake(&failure);
                if let Some(referrals) = &failure.referrals {
                    self.on_referrals(connection_id, peer_id, &address, referrals);
                }
                // When the peer hung up, the connection's end was told before this: nothing would
                // ever take the entry away again.
                if self.is_up(connection_id) {
                    self.closing.insert(connection_id, error.to_string());
                }
                self.on_handshake_failed(connection_id, peer_id, address, &endpoint, error);
            }
        }
    }

    pub(super) fn on_handshake_failed(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        address: Multiaddr,
        endpoint: &ConnectedPoint,
        error: StageError,
    ) {
        self.dismiss(peer_id);
        if endpoint.is_dialer() {
            self.on_dial_failed(connection_id, Some(peer_id), Some(address), error);
        } else if error.code == Some(RejectCode::Busy.name()) {
            // In a storm of newcomers this is the ordinary course: they come again.
            tracing::debug!(%peer_id, %address, "asked to come later");
        } else {
            self.refused(Some(peer_id), address, error);
        }
    }

    pub(super) fn judge(
        &mut self,
        connection_id: ConnectionId,
        peer_id: &PeerId,
        instance_id: &[u8; 16],
    ) -> Result<(), RejectCode> {
        let now = self.clock.now();
        self.admission.check(now, peer_id)?;
        match self.links.duplicate(peer_id, instance_id, now) {
            Duplicate::None => Ok(()),
            Duplicate::Alive => Err(RejectCode::DuplicateIdentity),
            Duplicate::Dead(old) if old != connection_id => {
                self.close(old, "the peer runs anew and its old link was dead");
                Ok(())
            }
            Duplicate::Dead(_) => Ok(()),
        }
    }

    pub(super) fn on_passed(
        &mut self,
        proof: &VerifiedConnection,
        endpoint: &ConnectedPoint,
        took: Duration,
    ) {
        if !self.is_up(proof.connection_id()) {
            // It ended while the handshake's last word was on its way here.
            return self.on_closed_before_link(proof.connection_id());
        }
        let now = self.clock.now();
        let behaviour = self.swarm.behaviour_mut();
        behaviour.limits.verified(proof.connection_id());
        if !proof.is_dialer() {
            behaviour.gate.open_outbound(proof);
        }
        let peer_id = proof.verified().peer_id();
        let instance_id = proof.verified().instance_id();
        if self.links.duplicate(&peer_id, &instance_id, now) == Duplicate::Alive {
            // Both were in their handshakes at once, so that neither was a link when it was judged.
            let error = StageError::new(Stage::Link, TWICE).with_code("DUPLICATE_IDENTITY");
            self.close(proof.connection_id(), TWICE);
            self.refused(
                Some(peer_id),
                endpoint.get_remote_address().clone(),
                error.clone(),
            );
            self.answer(proof.connection_id(), || {
                Err(ConnectError::Stage(error.clone()))
            });
            return;
        }
        self.close_given_up();
        if self.links.of(&peer_id).is_none()
            && self
                .admit(proof.connection_id(), peer_id, endpoint)
                .is_err()
        {
            return self.on_place_lost(proof.connection_id(), peer_id, endpoint);
        }
        let link = Link {
            connection_id: proof.connection_id(),
            peer_id,
            instance_id,
            address: endpoint.get_remote_address().clone(),
            direction: if endpoint.is_dialer() {
                Direction::Dialer
            } else {
                Direction::Listener
            },
            since: now,
            heard: now,
            rtt: None,
            clock_offset_ms: proof.verified().clock_offset_ms(),
        };
        tracing::debug!(%peer_id, ?took, "the handshake passed");
        let info = LinkInfo::of(&link, now);
        let clocks = &mut self.channels.clocks;
        let theirs_ms = clocks.on_offset(now, peer_id, link.clock_offset_ms);
        self.note(Note::Clock(peer_id, theirs_ms));
        match self.links.insert(self.swarm.local_peer_id(), link.clone()) {
            Inserted::New => {
                self.tell_overlay_of(&link);
                self.note(Note::LinkUp(peer_id));
                if proof.verified().features() & sync::OFFERS != 0 {
                    self.rooms.set_takes_offers(peer_id);
                    self.note(Note::TakesOffers(peer_id));
                }
                self.tell_rooms_of(peer_id);
                let gossip = &self.swarm.behaviour().gate.inner().gossip;
                let has_said = gossip
                    .all_peers()
                    .any(|(peer, rooms)| *peer == peer_id && !rooms.is_empty());
                let until = self.rooms.await_subscriptions(now, peer_id, has_said);
                self.rising.push((until, info, proof.connection_id()));
            }
            Inserted::Close(loser) => {
                if loser != proof.connection_id() && !proof.is_dialer() {
                    self.tell_overlay_of(&link);
                }
                // Two that one side dialled may have passed in another order there: its dialer
                // closes first.
                let wait = match proof.is_dialer() {
                    true => RETIRE_AFTER,
                    false => RETIRE_AFTER * 3 / 2,
                };
                self.retiring.push((now + wait, loser));
                self.overlay_dials.remove(&proof.connection_id());
                self.answer(proof.connection_id(), || Ok(info.clone()));
            }
        }
        self.introduced(proof.connection_id(), peer_id);
    }

    /// A handshake took so long that the place that was held for its peer went to another. The
    /// connection closes before it counts as a link or anybody is told of it.
    fn on_place_lost(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        endpoint: &ConnectedPoint,
    ) {
        let error = StageError::new(Stage::Link, PLACE_LOST).with_code(RejectCode::Busy.name());
        self.close(connection_id, PLACE_LOST);
        let address = endpoint.get_remote_address().clone();
        self.on_handshake_failed(connection_id, peer_id, address, endpoint, error);
    }

    /// A peer is linked that may be one of those to keep dialling. With an overlay, one contact is
    /// what such an address is for: from then on it is a way in when all links are lost.
    fn introduced(&mut self, connection_id: ConnectionId, peer_id: PeerId) {
        self.dialing.linked(connection_id, peer_id);
        self.tell_entries();
    }

    fn tell_entries(&mut self) {
        let entries = self.dialing.answered();
        if let Some(overlay) = self.overlay() {
            overlay.set_entries(entries);
        }
    }

    /// Whether the node wants more links than it has.
    fn has_room(&mut self) -> bool {
        let links = self.links.count();
        self.overlay()
            .is_none_or(|overlay| overlay.wants_more_than(links))
    }

    /// Tells of the links that are ready.
    pub(super) fn rise(&mut self, ready: impl Fn(&(Time, LinkInfo, ConnectionId)) -> bool) {
        let risen: Vec<_> = self.rising.extract_if(.., |r| ready(r)).collect();
        for (_, info, connection_id) in risen {
            // A link that has ended already is told of as it was while it stood.
            let ended = self.links.of(&info.peer_id).is_none();
            self.bus.emit(Event::LinkUp {
                peer_id: info.peer_id,
                address: info.address.clone(),
                direction: info.direction,
                links: self.links.count() + usize::from(ended),
            });
            self.answer(connection_id, || Ok(info.clone()));
        }
    }

    pub(super) fn on_closed(
        &mut self,
        connection_id: ConnectionId,
        cause: Option<&ConnectionError>,
    ) {
        let ours = self.closing.remove(&connection_id);
        self.retiring.retain(|(_, id)| *id != connection_id);
        let Some((link, last)) = self.links.remove(connection_id) else {
            // A handshake that is cut short says so itself, after this, and why.
            if ours.is_some() {
                self.on_closed_before_link(connection_id);
            }
            return;
        };
        if last {
            self.link_is_down(&link, ours.unwrap_or_else(|| failure::of_close(cause)));
        }
    }

    /// A peer's last connection is gone, or is as good as gone.
    pub(super) fn link_is_down(&mut self, link: &Link, reason: String) {
        let now = self.clock.now();
        self.rise(|(_, info, _)| info.peer_id == link.peer_id);
        self.rooms.forget(&link.peer_id);
        self.channels.clocks.on_link_down(&link.peer_id);
        self.note(Note::LinkDown(link.peer_id));
        let ended = self.overlay().and_then(|o| o.link_down(link.peer_id));
        let reason = match ended {
            Some(ended) if ended != Reason::Lost => why(ended).to_owned(),
            _ => reason,
        };
        let links = self.links.count();
        self.bus.emit(Event::LinkDown {
            peer_id: link.peer_id,
            reason,
            links,
        });
        if self.overlay().is_none() {
            self.dialing.unlinked(now, link.peer_id, &mut self.rng);
        }
        self.retry_deferred(now);
    }

    /// Whether the connection stands.
    fn is_up(&self, connection_id: ConnectionId) -> bool {
        let handshake = &self.swarm.behaviour().handshake;
        handshake.stage(connection_id).is_some()
    }

    /// Whoever still waits for a connection that we closed is told that it is gone.
    pub(super) fn on_closed_before_link(&mut self, connection_id: ConnectionId) {
        let error = StageError::new(Stage::Handshake1, "the connection was closed");
        self.answer(connection_id, || Err(ConnectError::Stage(error.clone())));
        self.dialing
            .failed(self.clock.now(), connection_id, false, &mut self.rng);
    }

    pub(super) fn on_ping(&mut self, event: ping::Event) {
        match event.result {
            Ok(rtt) => self
                .links
                .note_alive(event.connection, self.clock.now(), Some(rtt)),
            Err(ping::Failure::Unsupported) => {}
            Err(ping::Failure::Other { error }) if is_refusal(&*error) => {}
            // It waits behind something large on a slow link.
            Err(error)
                if self
                    .channels
                    .send_windows
                    .is_in_use(&event.peer, PING_TIMEOUT) =>
            {
                tracing::debug!(peer_id = %event.peer, %error, "no pong, but a sign of life");
                self.links
                    .note_alive(event.connection, self.clock.now(), None);
            }
            Err(error) => {
                if self.links.get(event.connection).is_some() {
                    self.close(
                        event.connection,
                        format!("the peer gives no sign of life: {error}"),
                    );
                }
            }
        }
    }

    pub(super) fn on_identify(&mut self, event: &identify::Event) {
        if let identify::Event::Received {
            connection_id,
            peer_id,
            info,
        } = event
        {
            tracing::debug!(%peer_id, agent = %info.agent_version, "identified");
            self.links
                .note_alive(*connection_id, self.clock.now(), None);
        }
    }
}
