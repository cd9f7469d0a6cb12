//! The overlay driver: carries out the outputs of the overlay's state machine, and reports the results to it.
//!
//! Entry type: [`OverlayDriver`]. The rule it keeps: every dial of the overlay ends in a link or in a failure, and every link
//! that it has learnt of ends once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::task::JoinHandle;

use super::effect::{DialFailure, Effect, Effects};
use super::network::Network;
use crate::clock::Time;
use crate::handshake::{Referrals, Refusal, RejectCode};
use crate::net::socket_addresses::remote_of;
use crate::net::stage::StageError;
use crate::node::book;
use crate::node::event::{Cause, Direction, Event, EventBus, Kind};
use crate::node::links::Link;
use crate::overlay::{
    self, Address as _, Admission, DialError, DialId, HintOutcome, PeerAddress, Reason, Remote,
    Report, Saved,
};

/// Minimum time between two warnings that no known peer answers.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// Minimum time between two writes of the address book.
const SAVE_INTERVAL: Duration = Duration::from_secs(2);

/// The overlay's dials and address book.
pub(super) struct OverlayDriver {
    bus: EventBus,
    /// Dials of the overlay that are in progress.
    dials: HashMap<ConnectionId, DialId>,
    /// The directory of the address book; none when it is not saved.
    directory: Option<PathBuf>,
    /// The address book, and when to write it.
    book: Option<(Time, Vec<Saved<PeerId, PeerAddress>>)>,
    /// When people were last warned that no known peer answers.
    last_warning: Option<Time>,
}

impl OverlayDriver {
    pub(super) fn new(bus: EventBus, directory: Option<PathBuf>) -> OverlayDriver {
        OverlayDriver {
            bus,
            dials: HashMap::new(),
            directory,
            book: None,
            last_warning: None,
        }
    }

    /// Returns when the address book is to be written.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.book.as_ref().map(|(at, _)| *at)
    }

    /// Carries out an output of the overlay.
    pub(super) fn on_event(
        &mut self,
        now: Time,
        network: &mut Network,
        event: overlay::Event,
        effects: &mut Effects,
    ) {
        match event {
            overlay::Event::Dial {
                dial,
                peer_id,
                addresses,
                ..
            } => self.dial(network, dial, peer_id, addresses),
            overlay::Event::Close { peer_id, reason } => {
                effects.push_back(Effect::GiveUpLink { peer_id, reason });
            }
            overlay::Event::Report(report) => self.on_report(now, network, report),
            overlay::Event::Persist(book) => {
                let at = now + SAVE_INTERVAL;
                let due = self.book.take().map_or(at, |(due, _)| due);
                self.book = Some((due, book));
            }
            overlay::Event::Violation { peer_id, reason } => effects.push_back(Effect::Ban {
                peer_id,
                reason: format!("overlay: {reason}"),
                code: "INVALID_OVERLAY",
            }),
        }
    }

    fn dial(
        &mut self,
        network: &mut Network,
        dial: DialId,
        peer_id: Option<PeerId>,
        addresses: Vec<Multiaddr>,
    ) {
        if let Some(connection_id) = network.dial_any(peer_id, addresses) {
            self.dials.insert(connection_id, dial);
        } else if let Some(overlay) = network.overlay() {
            overlay.dial_failed(dial, DialError::Failed);
        }
    }

    /// Returns whether a dial of the overlay is in progress.
    pub(super) fn is_dialing(&self) -> bool {
        !self.dials.is_empty()
    }

    /// Reports a failed dial to the overlay. Returns none when it was not one of the overlay's dials, otherwise whether
    /// another peer than the expected one has answered.
    pub(super) fn on_dial_failed(
        &mut self,
        network: &mut Network,
        failure: &DialFailure,
    ) -> Option<bool> {
        let dial = self.dials.remove(&failure.connection_id)?;
        let error = dial_error(network, failure);
        let is_wrong_peer = error == DialError::WrongPeer;
        if let Some(overlay) = network.overlay() {
            overlay.dial_failed(dial, error);
        }
        Some(is_wrong_peer)
    }

    /// Decides whether a peer that has proved its key may become a link.
    ///
    /// # Errors
    ///
    /// A refusal with referrals to other nodes, when there is no room for the link.
    pub(super) fn admit(
        &self,
        network: &mut Network,
        connection_id: ConnectionId,
        peer_id: PeerId,
        endpoint: &ConnectedPoint,
    ) -> Result<(), Refusal> {
        let direction = overlay_direction(endpoint.is_dialer());
        let socket = network.socket_of(connection_id);
        let remote = remote_of(peer_id, direction, endpoint.get_remote_address(), socket);
        let overlay = network.overlay();
        match overlay.map(|overlay| overlay.admit(peer_id, direction, &remote)) {
            None | Some(Admission::Accept) => Ok(()),
            Some(Admission::Busy { referrals }) => Err(Refusal {
                code: RejectCode::Busy,
                referrals: Referrals::new(overlay::encode_contacts(&referrals)),
            }),
        }
    }

    /// Releases the place that was reserved for a peer, after its handshake has failed.
    pub(super) fn dismiss(&self, network: &mut Network, peer_id: PeerId) {
        if let Some(overlay) = network.overlay() {
            overlay.dismiss(peer_id);
        }
    }

    /// Passes on the referrals of a node without room. They are unverified claims: the overlay dials them within its budget.
    pub(super) fn on_referrals(
        &self,
        network: &mut Network,
        connection_id: ConnectionId,
        peer_id: PeerId,
        address: &Multiaddr,
        referrals: &Referrals,
    ) {
        let remote = dialed_remote(network, connection_id, Some(peer_id), Some(address));
        match overlay::decode_contacts(referrals.as_bytes()) {
            Ok(contacts) => {
                if let Some(overlay) = network.overlay() {
                    overlay.referred(remote, contacts);
                }
            }
            Err(error) => tracing::debug!(%peer_id, %error, "referrals that cannot be read"),
        }
    }

    /// Reports a new link to the overlay.
    pub(super) fn on_link_up(&mut self, network: &mut Network, link: &Link) {
        let dial = self.dials.remove(&link.connection_id);
        let socket = network.socket_of(link.connection_id);
        let direction = overlay_direction(link.direction == Direction::Dialer);
        let remote = remote_of(link.peer_id, direction, &link.address, socket);
        if let Some(overlay) = network.overlay() {
            overlay.link_up(link.peer_id, direction, remote, dial);
        }
    }

    /// Forgets a dial that has ended in a second connection to a linked peer.
    pub(super) fn forget_dial(&mut self, connection_id: ConnectionId) {
        self.dials.remove(&connection_id);
    }

    /// Passes the addresses at which this node listens to the overlay.
    pub(super) fn update_addresses(&self, network: &mut Network) {
        let own = network.local_peer_id();
        let mut addresses: Vec<PeerAddress> = Vec::new();
        for address in network.addresses() {
            match PeerAddress::parse(&address, Some(&own)) {
                Ok(address) if !addresses.contains(&address) => addresses.push(address),
                Ok(_) => {}
                Err(reason) => tracing::debug!(%address, %reason, "not announced to peers"),
            }
        }
        one_of_each_version_first(&mut addresses);
        if let Some(overlay) = network.overlay() {
            overlay.set_addresses(addresses);
        }
    }

    /// Writes the address book on a thread of its own, if that is due by `now`.
    pub(super) fn on_time(&mut self, now: Time) {
        if self.book.as_ref().is_some_and(|(at, _)| *at <= now) {
            self.save_book();
        }
    }

    /// Writes the address book on a thread of its own, if it has changed since the last time.
    pub(super) fn save_book(&mut self) -> Option<JoinHandle<()>> {
        let (_, book) = self.book.take()?;
        let directory = self.directory.clone()?;
        Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = book::save(&directory, &book) {
                tracing::warn!(%error, "the address book could not be written");
            }
        }))
    }

    fn on_report(&mut self, now: Time, network: &mut Network, report: Report<PeerId, PeerAddress>) {
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
            // Reported when the connection ends.
            Report::LinkEnded { .. } => {}
            Report::Offence { peer, what } => {
                if self.bus.may_log(Kind::Offence, Some(Cause::Peer(peer))) {
                    tracing::warn!(peer_id = %peer, what, "a peer broke a rule of the overlay");
                }
            }
            Report::Searching { backoff, .. } => self.on_searching(now, network, backoff),
        }
    }

    /// Warns that no known peer answers. A first node, which knows no peer, gives no warning.
    fn on_searching(&mut self, now: Time, network: &mut Network, backoff: Duration) {
        let knows_peers = network.overlay().is_some_and(|o| o.knows_peers());
        let is_recent = |at| now.since(at) < WARNING_INTERVAL;
        if !knows_peers || self.last_warning.is_some_and(is_recent) {
            return;
        }
        self.last_warning = Some(now);
        self.bus.emit(Event::Error {
            reason: format!(
                "not connected: none of the known peers answers; trying again (next in {:.1} s). Give --dial ADDR, or see \
                 `diatribe check ADDR`",
                backoff.as_secs_f64()
            ),
        });
    }
}

fn dial_error(network: &Network, failure: &DialFailure) -> DialError<PeerId, PeerAddress> {
    let DialFailure {
        connection_id,
        peer_id,
        address,
        error: StageError { code, .. },
    } = failure;
    match *code {
        Some("WRONG_PEER") => DialError::WrongPeer,
        Some("OWN_ID") => DialError::Refused,
        Some(code) if code == RejectCode::Busy.name() => DialError::Busy {
            remote: dialed_remote(network, *connection_id, *peer_id, address.as_ref()),
            referrals: Vec::new(),
        },
        Some("LINKED") => DialError::Duplicate,
        Some("AUTH" | "VERSION" | "NETWORK" | "POLICY" | "DUPLICATE_IDENTITY") => {
            DialError::Refused
        }
        _ => DialError::Failed,
    }
}

/// Returns the other end of a connection that was dialled at `address`, and on which `peer_id` has answered.
fn dialed_remote(
    network: &Network,
    connection_id: ConnectionId,
    peer_id: Option<PeerId>,
    address: Option<&Multiaddr>,
) -> Remote<PeerAddress> {
    let socket = network.socket_of(connection_id);
    match (peer_id, address) {
        (Some(peer_id), Some(at)) => remote_of(peer_id, overlay::Direction::Outbound, at, socket),
        _ => Remote::at(None, None),
    }
}

fn overlay_direction(is_dialer: bool) -> overlay::Direction {
    match is_dialer {
        true => overlay::Direction::Outbound,
        false => overlay::Direction::Inbound,
    }
}

/// Moves the first IPv4 address and the first IPv6 address of each scope to the front: only two addresses are announced.
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

/// Returns the reason why a link ended, for people.
pub(super) fn end_reason(reason: Reason) -> &'static str {
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
