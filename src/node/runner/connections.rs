//! The connection driver: which connections are links, which are closing and why, and which peers may link.
//!
//! Entry type: [`Connections`]. The rule it keeps: a caller that waits for a link is answered, once, with the link or the
//! reason; a link that was announced is reported when it ends.

mod dials;
mod strangers;

use std::collections::HashMap;
use std::time::Duration;

use libp2p::swarm::{ConnectionError, ConnectionId};
use libp2p::{Multiaddr, PeerId, identify, ping};
use tokio::sync::oneshot;

use self::dials::Dials;
use super::effect::{DialFailure, Effect, Effects};
use super::network::Network;
use crate::clock::Time;
use crate::handshake::RejectCode;
use crate::net::address::Address;
use crate::net::backpressure::SendWindows;
use crate::net::half_open;
use crate::net::stage::{Stage, StageError};
use crate::node::admission::Admission;
use crate::node::behaviour::PING_TIMEOUT;
use crate::node::error::ConnectError;
use crate::node::event::{Direction, Event, EventBus};
use crate::node::failure;
use crate::node::link_info::LinkInfo;
use crate::node::links::{Duplicate, Inserted, Link, Links};
use crate::wire::is_refusal;

/// Delay before the loser of two connections with a peer is closed, so that data in flight on it arrives.
const DUPLICATE_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay before the connections of a link that the overlay has given up are closed, so that data sent on them arrives.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);
/// Maximum time that a visitor may stay after its handshake. It closes a quarter of a second later by itself.
const VISIT_TIMEOUT: Duration = Duration::from_secs(2);

const TWICE: &str = "another live node with this identity is linked already: the same key runs twice; \
     stop one of the two, or give it a key of its own";

/// A link that is announced to the application once the peer's subscriptions have arrived, or at this time.
struct PendingLink {
    at: Time,
    info: LinkInfo,
    connection_id: ConnectionId,
}

/// All connections of a node, and its dials.
pub(super) struct Connections {
    bus: EventBus,
    links: Links,
    dials: Dials,
    admission: Admission,
    send_windows: SendWindows,
    pending_links: Vec<PendingLink>,
    /// Connections that this node is closing, and the reasons.
    closing: HashMap<ConnectionId, String>,
    /// Losers of two connections with one peer, and when to close them.
    duplicate_connections: Vec<(Time, ConnectionId)>,
    /// Connections of ended links and of visitors, and when to close them.
    draining_connections: Vec<(Time, ConnectionId)>,
}

impl Connections {
    pub(super) fn new(
        bus: EventBus,
        admission: Admission,
        send_windows: SendWindows,
    ) -> Connections {
        Connections {
            dials: Dials::new(bus.clone()),
            bus,
            links: Links::default(),
            admission,
            send_windows,
            pending_links: Vec::new(),
            closing: HashMap::new(),
            duplicate_connections: Vec::new(),
            draining_connections: Vec::new(),
        }
    }

    /// Returns when [`Connections::on_time`] is next due.
    pub(super) fn deadline(&self) -> Option<Time> {
        let duplicate = self.duplicate_connections.iter().map(|(at, _)| *at);
        let draining = self.draining_connections.iter().map(|(at, _)| *at);
        let pending = self.pending_links.iter().map(|link| link.at);
        let dials = self.dials.deadline();
        duplicate.chain(draining).chain(pending).chain(dials).min()
    }

    /// Runs the dials, closes and announcements that are due by `now`.
    pub(super) fn on_time(&mut self, now: Time, network: &mut Network, effects: &mut Effects) {
        self.dials.start_due(now, network, effects);
        let is_due = |(at, _): &mut (Time, ConnectionId)| *at <= now;
        let duplicates: Vec<_> = self.duplicate_connections.extract_if(.., is_due).collect();
        for (_, connection_id) in duplicates {
            // The peer may have kept this one and closed the other.
            if self.links.is_one_of_several(connection_id) {
                let reason = "another connection to the same peer was kept";
                self.close(network, connection_id, reason);
            }
        }
        let drained: Vec<_> = self.draining_connections.extract_if(.., is_due).collect();
        for (_, connection_id) in drained {
            self.close(network, connection_id, "the link has ended");
        }
        self.announce_links(|link| link.at <= now);
    }

    /// Returns the links, the oldest first.
    pub(super) fn infos(&self, now: Time) -> Vec<LinkInfo> {
        let links = self.links.all().into_iter();
        links.map(|link| LinkInfo::of(link, now)).collect()
    }

    /// Returns the number of linked peers.
    pub(super) fn count(&self) -> usize {
        self.links.count()
    }

    /// Returns whether a peer has a link.
    pub(super) fn is_linked(&self, peer_id: &PeerId) -> bool {
        self.links.of(peer_id).is_some()
    }

    /// Returns whether this node is closing the connection.
    pub(super) fn is_closing(&self, connection_id: ConnectionId) -> bool {
        self.closing.contains_key(&connection_id)
    }

    /// Records the reason for the end of a connection that is about to end.
    pub(super) fn set_closing(&mut self, connection_id: ConnectionId, reason: String) {
        self.closing.insert(connection_id, reason);
    }

    /// Starts to close the connection.
    pub(super) fn close(
        &mut self,
        network: &mut Network,
        connection_id: ConnectionId,
        reason: impl Into<String>,
    ) {
        if network.close(connection_id) {
            self.closing
                .entry(connection_id)
                .or_insert_with(|| reason.into());
        }
    }

    /// Replaces the peer lists, and closes the links with peers that they no longer admit.
    pub(super) fn set_peer_lists(
        &mut self,
        now: Time,
        network: &mut Network,
        trust: Vec<PeerId>,
        deny: Vec<PeerId>,
    ) {
        self.admission.set_lists(trust, deny);
        let peers: Vec<PeerId> = self.links.all().iter().map(|link| link.peer_id).collect();
        for peer_id in peers {
            if self.admission.check(now, &peer_id).is_err() {
                let reason = "the peer lists no longer admit this peer";
                self.close_all_of(network, &peer_id, reason);
            }
        }
    }

    fn close_all_of(&mut self, network: &mut Network, peer_id: &PeerId, reason: &str) {
        for connection_id in self.links.connections_of(peer_id) {
            self.close(network, connection_id, reason);
        }
    }

    /// Closes the links with a peer that broke a rule, and bans it for a while.
    pub(super) fn disconnect_and_ban(
        &mut self,
        now: Time,
        network: &mut Network,
        peer_id: PeerId,
        reason: &str,
        code: &'static str,
    ) {
        self.admission.ban(now, peer_id);
        let Some(link) = self.links.of(&peer_id).cloned() else {
            return;
        };
        self.close_all_of(network, &peer_id, reason);
        let error = StageError::new(Stage::Link, reason).with_code(code);
        self.report_refused(Some(peer_id), link.address, error);
    }

    /// Closes a connection that lost its place among the strangers to another, unless its handshake has just ended.
    pub(super) fn on_evicted(&mut self, network: &mut Network, connection_id: ConnectionId) {
        if self.links.get(connection_id).is_none() {
            self.close(network, connection_id, half_open::evicted().reason);
        }
    }

    /// Decides whether a peer that has proved its key may stay, by the peer lists and bans.
    ///
    /// # Errors
    ///
    /// The code of the refusal.
    pub(super) fn check_admission(&self, now: Time, peer_id: &PeerId) -> Result<(), RejectCode> {
        self.admission.check(now, peer_id)
    }

    /// Decides whether a peer that has proved its key may link: it is admitted, and its identity is not linked by another
    /// process. Closes the dead link of an earlier process.
    ///
    /// # Errors
    ///
    /// The code of the refusal.
    pub(super) fn check_identity(
        &mut self,
        now: Time,
        network: &mut Network,
        connection_id: ConnectionId,
        peer_id: &PeerId,
        instance_id: &[u8; 16],
    ) -> Result<(), RejectCode> {
        self.check_admission(now, peer_id)?;
        match self.links.duplicate(peer_id, instance_id, now) {
            Duplicate::None => Ok(()),
            Duplicate::Alive => Err(RejectCode::DuplicateIdentity),
            Duplicate::Dead(old) => {
                if old != connection_id {
                    let reason = "the peer runs anew and its old link was dead";
                    self.close(network, old, reason);
                }
                Ok(())
            }
        }
    }

    /// Closes a connection if another process linked the peer's identity while both were in their handshakes. Returns
    /// false when there is no such link.
    pub(super) fn refuse_duplicate(&mut self, network: &mut Network, link: &Link) -> bool {
        let now = link.since;
        if self.links.duplicate(&link.peer_id, &link.instance_id, now) != Duplicate::Alive {
            return false;
        }
        let error = StageError::new(Stage::Link, TWICE).with_code("DUPLICATE_IDENTITY");
        self.close(network, link.connection_id, TWICE);
        self.report_refused(Some(link.peer_id), link.address.clone(), error.clone());
        self.dials.answer(link.connection_id, || {
            Err(ConnectError::Stage(error.clone()))
        });
        true
    }

    /// Adds a connection that has passed its handshake.
    pub(super) fn insert(&mut self, own: &PeerId, link: Link) -> Inserted {
        self.links.insert(own, link)
    }

    /// Announces a new link at `at` or when the peer's subscriptions arrive.
    pub(super) fn announce_later(&mut self, at: Time, info: LinkInfo, connection_id: ConnectionId) {
        self.pending_links.push(PendingLink {
            at,
            info,
            connection_id,
        });
    }

    /// Closes the loser of two connections with a peer a little later, and answers the callers that wait for the new one.
    pub(super) fn retire_duplicate(&mut self, loser: ConnectionId, new: &Link) {
        let delay = match new.direction == Direction::Dialer {
            true => DUPLICATE_TIMEOUT,
            // Of two connections from one side, the ends may have seen the handshakes end in different orders: the dialer
            // closes first.
            false => DUPLICATE_TIMEOUT * 3 / 2,
        };
        self.duplicate_connections.push((new.since + delay, loser));
        let info = LinkInfo::of(new, new.since);
        self.dials.answer(new.connection_id, || Ok(info.clone()));
    }

    /// Announces the pending link of a peer.
    pub(super) fn announce_link(&mut self, peer_id: &PeerId) {
        self.announce_links(|link| link.info.peer_id == *peer_id);
    }

    /// Reports pending links to the application, and answers the callers that wait for them.
    fn announce_links(&mut self, is_ready: impl Fn(&PendingLink) -> bool) {
        let ready = self.pending_links.extract_if(.., |link| is_ready(link));
        for link in ready.collect::<Vec<_>>() {
            let info = link.info;
            // A link that has ended already is reported as it was, before its end.
            let has_ended = !self.is_linked(&info.peer_id);
            self.bus.emit(Event::LinkUp {
                peer_id: info.peer_id,
                address: info.address.clone(),
                direction: info.direction,
                links: self.links.count() + usize::from(has_ended),
            });
            self.dials.answer(link.connection_id, || Ok(info.clone()));
        }
    }

    /// Ends the link of a peer: its connections close a little later. Returns the link, if the peer has one.
    pub(super) fn give_up(&mut self, now: Time, peer_id: &PeerId) -> Option<Link> {
        let mut last = None;
        for connection_id in self.links.connections_of(peer_id) {
            let at = now + DRAIN_TIMEOUT;
            self.draining_connections.push((at, connection_id));
            if let Some((link, true)) = self.links.remove(connection_id) {
                last = Some(link);
            }
        }
        last
    }

    /// Closes a visitor's connection, if it does not close it by itself.
    pub(super) fn limit_visit(&mut self, now: Time, connection_id: ConnectionId) {
        let at = now + VISIT_TIMEOUT;
        self.draining_connections.push((at, connection_id));
    }

    /// Handles the end of a connection.
    pub(super) fn on_closed(
        &mut self,
        now: Time,
        connection_id: ConnectionId,
        cause: Option<&ConnectionError>,
        effects: &mut Effects,
    ) {
        let ours = self.closing.remove(&connection_id);
        self.duplicate_connections
            .retain(|(_, id)| *id != connection_id);
        match self.links.remove(connection_id) {
            Some((link, true)) => {
                let reason = ours.unwrap_or_else(|| failure::of_close(cause));
                effects.push_back(Effect::LinkDown { link, reason });
            }
            Some((_, false)) => {}
            // A handshake that is cut short reports that itself, after this.
            None if ours.is_some() => self.dials.on_closed(now, connection_id),
            None => {}
        }
    }

    /// Answers callers that wait for a connection that was closed before it became a link.
    pub(super) fn on_closed_before_link(&mut self, now: Time, connection_id: ConnectionId) {
        self.dials.on_closed(now, connection_id);
    }

    /// Reports the end of a link to the application.
    pub(super) fn report_link_down(&self, peer_id: PeerId, reason: String) {
        self.bus.emit(Event::LinkDown {
            peer_id,
            reason,
            links: self.links.count(),
        });
    }

    /// Handles the result of a ping: a sign of life, or the end of a dead link.
    pub(super) fn on_ping(&mut self, now: Time, network: &mut Network, event: ping::Event) {
        let connection_id = event.connection;
        match event.result {
            Ok(rtt) => self.links.note_alive(connection_id, now, Some(rtt)),
            Err(ping::Failure::Unsupported) => {}
            Err(ping::Failure::Other { error }) if is_refusal(&*error) => {}
            // The ping waits behind large data on a slow link.
            Err(error) if self.send_windows.is_in_use(&event.peer, PING_TIMEOUT) => {
                tracing::debug!(peer_id = %event.peer, %error, "no pong, but a sign of life");
                self.links.note_alive(connection_id, now, None);
            }
            Err(error) => {
                if self.links.get(connection_id).is_some() {
                    let reason = format!("the peer gives no sign of life: {error}");
                    self.close(network, connection_id, reason);
                }
            }
        }
    }

    /// Takes an identify message as a sign of life.
    pub(super) fn on_identify(&mut self, now: Time, event: &identify::Event) {
        if let identify::Event::Received {
            connection_id,
            peer_id,
            info,
        } = event
        {
            tracing::debug!(%peer_id, agent = %info.agent_version, "identified");
            self.links.note_alive(*connection_id, now, None);
        }
    }

    /// Dials an address once for a caller; a peer that is linked already is not dialled again.
    pub(super) fn connect(
        &mut self,
        now: Time,
        network: &mut Network,
        address: &Address,
        reply: oneshot::Sender<Result<LinkInfo, ConnectError>>,
    ) {
        let peer_id = address.peer_id();
        match peer_id.and_then(|peer_id| self.links.of(&peer_id)) {
            Some(link) => {
                let _ = reply.send(Ok(LinkInfo::of(link, now)));
            }
            None => self.dials.connect(network, address, reply),
        }
    }

    /// Keeps dialling an address, from `now` on.
    pub(super) fn keep_dialing(&mut self, now: Time, address: Address) {
        self.dials.keep_dialing(now, address);
    }

    /// Ends a second dial to a linked peer: the existing link serves. Returns false when the peer has no link.
    pub(super) fn end_second_dial(
        &mut self,
        now: Time,
        connection_id: ConnectionId,
        peer_id: PeerId,
    ) -> bool {
        let Some(link) = self.links.of(&peer_id) else {
            return false;
        };
        let link = LinkInfo::of(link, now);
        self.dials.answer(connection_id, || Ok(link.clone()));
        self.dials.on_linked(connection_id, peer_id);
        true
    }

    /// Handles a failed dial of this driver. `wants_links` says whether the node wants more links.
    pub(super) fn on_dial_failed(
        &mut self,
        now: Time,
        failure: DialFailure,
        wants_links: bool,
        effects: &mut Effects,
    ) {
        if self.dials.on_failed(now, failure, wants_links) {
            effects.push_back(Effect::EntriesChanged);
        }
    }

    /// A peer is linked: an address that led to it need not be dialled.
    pub(super) fn on_linked(&mut self, connection_id: ConnectionId, peer_id: PeerId) {
        self.dials.on_linked(connection_id, peer_id);
    }

    /// A peer's last link is gone: dials its address again. For nodes without an overlay, which repairs links otherwise.
    pub(super) fn redial(&mut self, now: Time, peer_id: PeerId) {
        self.dials.on_unlinked(now, peer_id);
    }

    /// Forgets which peers have answered at addresses without a peer id. Returns whether any was forgotten.
    pub(super) fn forget_peers(&mut self) -> bool {
        self.dials.forget_peers()
    }

    /// Returns the dialled addresses that have answered: entry nodes, which are dialled again when all links are lost.
    pub(super) fn entries(&self) -> Vec<(Option<PeerId>, Vec<Multiaddr>)> {
        self.dials.entries()
    }
}
