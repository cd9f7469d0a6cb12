//! The loop's part in the overlay: it dials and closes as the state machine wants, and tells it what
//! became of it.
//!
//! The rule it keeps: every dial that the overlay asks for ends in a link or in a failure, and every
//! link that it is told of ends once.

use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::task::JoinHandle;

use super::Runner;
use crate::handshake::{Referrals, Refusal, RejectCode};
use crate::net::dial_guard::remote_of;
use crate::net::stage::StageError;
use crate::node::book;
use crate::node::event::{Cause, Direction, Event, Kind};
use crate::node::links::Link;
use crate::overlay::{
    self, Address as _, Admission, DialError, DialId, HintOutcome, PeerAddress, Reason, Remote,
    Report,
};

/// How long a link that the overlay has given up still carries what was sent on it.
const CLOSE_AFTER: Duration = Duration::from_millis(250);
/// How often people are told that nobody known answers.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// The address book is written at most this often.
pub(super) const SAVE_EVERY: Duration = Duration::from_secs(2);

impl Runner {
    pub(super) fn overlay(&mut self) -> Option<&mut overlay::Behaviour> {
        let inner = self.swarm.behaviour_mut().gate.inner_mut();
        inner.overlay.as_mut()
    }

    pub(super) fn on_overlay(&mut self, event: overlay::Event) {
        match event {
            overlay::Event::Dial {
                dial,
                peer_id,
                addresses,
                ..
            } => self.dial_for_overlay(dial, peer_id, addresses),
            overlay::Event::Close { peer_id, reason } => self.on_overlay_close(peer_id, reason),
            overlay::Event::Report(report) => self.on_report(report),
            overlay::Event::Persist(book) => {
                let at = self.clock.now() + SAVE_EVERY;
                let due = self.book.take().map_or(at, |(due, _)| due);
                self.book = Some((due, book));
            }
            overlay::Event::Violation { peer_id, reason } => {
                self.send_away(peer_id, &format!("overlay: {reason}"), "INVALID_OVERLAY");
            }
        }
    }

    fn dial_for_overlay(
        &mut self,
        dial: DialId,
        peer_id: Option<PeerId>,
        addresses: Vec<Multiaddr>,
    ) {
        if let Some(connection_id) = self.dial_any(peer_id, addresses) {
            self.overlay_dials.insert(connection_id, dial);
        } else if let Some(overlay) = self.overlay() {
            overlay.dial_failed(dial, DialError::Failed);
        }
    }

    /// A connection came to nothing; whether it was one of the overlay's.
    pub(super) fn overlay_dial_failed(
        &mut self,
        connection_id: ConnectionId,
        peer_id: Option<PeerId>,
        address: Option<&Multiaddr>,
        error: &StageError,
    ) -> bool {
        let Some(dial) = self.overlay_dials.remove(&connection_id) else {
            return false;
        };
        let error = match error.code {
            Some("WRONG_PEER") => DialError::WrongPeer,
            Some("OWN_ID") => DialError::Refused,
            Some(code) if code == RejectCode::Busy.name() => DialError::Busy {
                remote: self.remote_of_dial(connection_id, peer_id, address),
                referrals: Vec::new(),
            },
            Some("LINKED") => DialError::Duplicate,
            Some("AUTH" | "VERSION" | "NETWORK" | "POLICY" | "DUPLICATE_IDENTITY") => {
                DialError::Refused
            }
            _ => DialError::Failed,
        };
        let another = error == DialError::WrongPeer;
        if let Some(overlay) = self.overlay() {
            overlay.dial_failed(dial, error);
        }
        if another && self.dialing.forget_peers() {
            // An entry node may have come back with another key: its address is what counts.
            let entries = self.dialing.answered();
            if let Some(overlay) = self.overlay() {
                overlay.set_entries(entries);
            }
        }
        true
    }

    /// The other end of a connection that was dialled at `address`, and on which `peer_id` has answered.
    fn remote_of_dial(
        &self,
        connection_id: ConnectionId,
        peer_id: Option<PeerId>,
        address: Option<&Multiaddr>,
    ) -> Remote<PeerAddress> {
        let moved = self.swarm.behaviour().sockets.socket_of(connection_id);
        match (peer_id, address) {
            (Some(peer_id), Some(at)) => {
                remote_of(peer_id, overlay::Direction::Outbound, at, moved)
            }
            _ => Remote::at(None, None),
        }
    }

    /// Whether a peer that proved its key may become a link.
    pub(super) fn admit(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        endpoint: &ConnectedPoint,
    ) -> Result<(), Refusal> {
        let direction = overlay_direction(endpoint.is_dialer());
        let moved = self.swarm.behaviour().sockets.socket_of(connection_id);
        let remote = remote_of(peer_id, direction, endpoint.get_remote_address(), moved);
        match self
            .overlay()
            .map(|overlay| overlay.admit(peer_id, direction, &remote))
        {
            None | Some(Admission::Accept) => Ok(()),
            Some(Admission::Busy { referrals }) => Err(Refusal {
                code: RejectCode::Busy,
                referrals: Referrals::new(overlay::encode_contacts(&referrals)),
            }),
        }
    }

    /// A node that had no place has named others. What it says of them is no more than its word:
    /// the overlay dials them within its budget.
    pub(super) fn on_referrals(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        address: &Multiaddr,
        referrals: &Referrals,
    ) {
        let remote = self.remote_of_dial(connection_id, Some(peer_id), Some(address));
        match overlay::decode_contacts(referrals.as_bytes()) {
            Ok(contacts) => {
                if let Some(overlay) = self.overlay() {
                    overlay.referred(remote, contacts);
                }
            }
            Err(error) => tracing::debug!(%peer_id, %error, "referrals that cannot be read"),
        }
    }

    pub(super) fn dismiss(&mut self, peer_id: PeerId) {
        if let Some(overlay) = self.overlay() {
            overlay.dismiss(peer_id);
        }
    }

    /// A link has brought a batch that was new here: it does not only hold a place.
    pub(super) fn note_brought(&mut self, peer_id: PeerId) {
        if let Some(overlay) = self.overlay() {
            overlay.brought(peer_id);
        }
    }

    /// A peer's first connection has passed.
    pub(super) fn tell_overlay_of(&mut self, link: &Link) {
        let dial = self.overlay_dials.remove(&link.connection_id);
        let moved = self.swarm.behaviour().sockets.socket_of(link.connection_id);
        let direction = overlay_direction(link.direction == Direction::Dialer);
        let remote = remote_of(link.peer_id, direction, &link.address, moved);
        if let Some(overlay) = self.overlay() {
            overlay.link_up(link.peer_id, direction, remote, dial);
        }
    }

    /// Closes the links that the overlay has given up. Called before a new link counts, so that the
    /// node never has, nor tells of, more links than the overlay allows.
    pub(super) fn close_given_up(&mut self) {
        while let Some((peer_id, reason)) = self.overlay().and_then(|o| o.take_close()) {
            self.on_overlay_close(peer_id, reason);
        }
    }

    /// The overlay gives a link up. People hear of it now; its connections close a little later.
    fn on_overlay_close(&mut self, peer_id: PeerId, reason: Reason) {
        let at = self.clock.now() + CLOSE_AFTER;
        let connections = self.links.connections_of(&peer_id);
        if connections.is_empty() {
            return;
        }
        for connection_id in connections {
            self.ending.push((at, connection_id));
            if let Some((link, true)) = self.links.remove(connection_id) {
                self.link_is_down(&link, why(reason).to_owned());
            }
        }
    }

    fn on_report(&mut self, report: Report<PeerId, PeerAddress>) {
        match report {
            Report::Redirected {
                dialer,
                to,
                address,
            } => self.bus.emit(Event::Redirected {
                peer_id: dialer,
                to,
                address: address.map(Into::into),
            }),
            Report::Hint {
                from,
                to,
                address,
                outcome,
            } => self.bus.emit(Event::Hint {
                from,
                to,
                address: address.map(Into::into),
                outcome: name_of(outcome),
            }),
            // Told with the end of the connection.
            Report::LinkEnded { .. } => {}
            Report::Offence { peer, what } => {
                if self.bus.may_log(Kind::Offence, Some(Cause::Peer(peer))) {
                    tracing::warn!(peer_id = %peer, what, "a peer broke a rule of the overlay");
                }
            }
            Report::Searching { backoff, .. } => self.on_searching(backoff),
        }
    }

    /// Everybody known was dialled in vain. A first node that knows nobody has nothing to complain of.
    fn on_searching(&mut self, backoff: Duration) {
        let now = self.clock.now();
        let knows = self.overlay().is_some_and(|o| o.knows_peers());
        let lately = self
            .complained
            .is_some_and(|at| now.since(at) < COMPLAIN_EVERY);
        if !knows || lately {
            return;
        }
        self.complained = Some(now);
        self.bus.emit(Event::Error {
            reason: format!(
                "no link, and nobody known answers; the next is tried in {:.1} s, and so on",
                backoff.as_secs_f64()
            ),
        });
    }

    /// Tells the overlay where this node listens.
    pub(super) fn tell_addresses(&mut self) {
        let own = *self.swarm.local_peer_id();
        let mut addresses: Vec<PeerAddress> = Vec::new();
        let external = self.swarm.external_addresses();
        for address in external.chain(self.swarm.listeners()) {
            match PeerAddress::parse(address, Some(&own)) {
                Ok(address) if !addresses.contains(&address) => addresses.push(address),
                Ok(_) => {}
                Err(reason) => tracing::debug!(%address, %reason, "peers are not told of it"),
            }
        }
        one_of_each_version_first(&mut addresses);
        if let Some(overlay) = self.overlay() {
            overlay.set_addresses(addresses);
        }
    }

    /// Writes the address book when it is due by `now`, on a thread of its own.
    pub(super) fn save_book(&mut self, now: crate::clock::Time) -> Option<JoinHandle<()>> {
        let (_, book) = self.book.take_if(|(at, _)| *at <= now)?;
        let directory = self.directory.clone()?;
        Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = book::save(&directory, &book) {
                tracing::warn!(%error, "the address book could not be written");
            }
        }))
    }
}

fn overlay_direction(is_dialer: bool) -> overlay::Direction {
    match is_dialer {
        true => overlay::Direction::Outbound,
        false => overlay::Direction::Inbound,
    }
}

/// Of each scope the first IPv4 address and the first IPv6 address come first: of many only two are told.
fn one_of_each_version_first(addresses: &mut Vec<PeerAddress>) {
    let kind = |address: &PeerAddress| (address.reach(), address.ip().is_ipv4());
    let mut ranked: Vec<(usize, PeerAddress)> = Vec::new();
    for address in addresses.drain(..) {
        let before = ranked.iter().filter(|(_, a)| kind(a) == kind(&address));
        ranked.push((before.count(), address));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    addresses.extend(ranked.into_iter().map(|(_, address)| address));
}

/// Why a link ended, for people.
pub(super) fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Handover => "handover: the link has moved to another peer",
        Reason::Surplus => "surplus: there is no room for it",
        Reason::Refused => "refused: the peer has no room for it",
        Reason::Aborted => "aborted: the handover that it belonged to has failed",
        Reason::Leaving => "leaving: the peer stops",
        Reason::Idle => "idle: it brought nothing, and another peer needed its place",
        Reason::Crowded => {
            "crowded: its network holds more places than its share, and another needed one"
        }
        Reason::Lost => "lost",
    }
}

fn name_of(outcome: HintOutcome) -> &'static str {
    match outcome {
        HintOutcome::Linked => "linked",
        HintOutcome::Unreachable => "unreachable",
        HintOutcome::WrongPeer => "wrong_peer",
        HintOutcome::Rejected => "rejected",
        HintOutcome::Cancelled => "cancelled",
        HintOutcome::NotALink => "not_a_link",
        HintOutcome::Ourselves => "ourselves",
        HintOutcome::AlreadyLinked => "already_linked",
        HintOutcome::Scope => "scope",
        HintOutcome::TooMany => "too_many",
        HintOutcome::Busy => "busy",
        HintOutcome::NotDialable => "not_dialable",
    }
}
