//! Dials that the application or the operator asked for, and the callers that wait for them.
//!
//! Entry type: [`Dials`]. The rule it keeps: every caller is answered once.

use std::collections::HashMap;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::oneshot;

use crate::clock::Time;
use crate::handshake::RejectCode;
use crate::net::address::Address;
use crate::net::stage::{Stage, StageError};
use crate::node::dialing::Dialing;
use crate::node::error::ConnectError;
use crate::node::event::{Event, EventBus, Kind};
use crate::node::failure;
use crate::node::link_info::LinkInfo;
use crate::node::runner::effect::{DialFailure, Effect, Effects};
use crate::node::runner::network::{Network, dial_address};

type Waiter = oneshot::Sender<Result<LinkInfo, ConnectError>>;

/// The dials, and the callers that wait for each.
pub(super) struct Dials {
    bus: EventBus,
    dialing: Dialing,
    waiters: HashMap<ConnectionId, Vec<Waiter>>,
    rng: StdRng,
}

impl Dials {
    pub(super) fn new(bus: EventBus) -> Dials {
        Dials {
            bus,
            dialing: Dialing::default(),
            waiters: HashMap::new(),
            rng: StdRng::from_rng(&mut rand::rng()),
        }
    }

    /// Returns when [`Dials::start_due`] is next due.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.dialing.deadline()
    }

    /// Keeps dialling an address, from `now` on.
    pub(super) fn keep_dialing(&mut self, now: Time, address: Address) {
        self.dialing.add(now, address);
    }

    /// Dials the kept addresses after their back-off.
    pub(super) fn start_due(&mut self, now: Time, network: &mut Network, effects: &mut Effects) {
        for address in self.dialing.due(now) {
            let opts = dial_address(&address);
            let connection_id = opts.connection_id();
            self.dialing.started(&address, connection_id);
            if let Err(error) = network.dial(opts) {
                effects.push_back(Effect::DialFailed(DialFailure {
                    connection_id,
                    peer_id: address.peer_id(),
                    address: Some(address.multiaddr().clone()),
                    error: failure::of_dial(&error),
                }));
            }
        }
    }

    /// Dials an address once, and answers `reply` with the result.
    pub(super) fn connect(&mut self, network: &mut Network, address: &Address, reply: Waiter) {
        let opts = dial_address(address);
        let connection_id = opts.connection_id();
        match network.dial(opts) {
            Ok(()) => self.waiters.entry(connection_id).or_default().push(reply),
            Err(error) => {
                let _ = reply.send(Err(ConnectError::Stage(failure::of_dial(&error))));
            }
        }
    }

    /// Answers the callers that wait for a dial. Returns whether there were any.
    pub(super) fn answer(
        &mut self,
        connection_id: ConnectionId,
        answer: impl Fn() -> Result<LinkInfo, ConnectError>,
    ) -> bool {
        let waiters = self.waiters.remove(&connection_id).unwrap_or_default();
        let has_waiters = !waiters.is_empty();
        for waiter in waiters {
            let _ = waiter.send(answer());
        }
        has_waiters
    }

    /// Answers the callers, schedules the next dial and reports the failure where people want to see it. Returns whether the
    /// peer answered and is not needed now, so that it is a new entry node.
    pub(super) fn on_failed(&mut self, now: Time, failure: DialFailure, wants_links: bool) -> bool {
        let DialFailure {
            connection_id,
            peer_id,
            address,
            error,
        } = failure;
        let is_awaited = self.answer(connection_id, || Err(ConnectError::Stage(error.clone())));
        let address = address.or_else(|| self.dialing.address_of(connection_id));
        if error.code == Some(failure::OWN_ID)
            && let Some(is_first) = self.dialing.led_to_self(now, connection_id)
        {
            if is_first {
                self.report(peer_id, address, error);
            }
            return false;
        }
        let is_busy = error.code == Some(RejectCode::Busy.name());
        if is_busy && !wants_links {
            self.dialing.not_needed(connection_id);
            return true;
        }
        let rng = &mut self.rng;
        match self.dialing.failed(now, connection_id, is_busy, rng) {
            Some(true) => self.report(peer_id, address, error),
            Some(false) => tracing::info!(%error, "a dial failed again"),
            None if is_awaited => {}
            None if address.is_some() => self.report(peer_id, address, error),
            // A request to a peer that has just gone: nobody asked for this dial.
            None => tracing::debug!(?peer_id, %error, "a dial that nobody waits for failed"),
        }
        false
    }

    /// Reports a failed dial. Dials have a rate limit of their own, so that a flood of strangers hides none of the dials that
    /// the operator asked for.
    fn report(&self, peer_id: Option<PeerId>, address: Option<Multiaddr>, error: StageError) {
        let event = Event::Refused {
            peer_id,
            address: address.unwrap_or_else(Multiaddr::empty),
            error,
        };
        self.bus.emit_as(Some(Kind::DialFailed), event);
    }

    /// A connection was closed before it became a link.
    pub(super) fn on_closed(&mut self, now: Time, connection_id: ConnectionId) {
        let error = StageError::new(Stage::Handshake1, "the connection was closed");
        self.answer(connection_id, || Err(ConnectError::Stage(error.clone())));
        let rng = &mut self.rng;
        self.dialing.failed(now, connection_id, false, rng);
    }

    /// A peer is linked, by whichever side dialled.
    pub(super) fn on_linked(&mut self, connection_id: ConnectionId, peer_id: PeerId) {
        self.dialing.linked(connection_id, peer_id);
    }

    /// Dials the address of a peer again, after its last link has ended.
    pub(super) fn on_unlinked(&mut self, now: Time, peer_id: PeerId) {
        self.dialing.unlinked(now, peer_id, &mut self.rng);
    }

    /// Forgets which peers have answered at addresses without a peer id. Returns whether any was forgotten.
    pub(super) fn forget_peers(&mut self) -> bool {
        self.dialing.forget_peers()
    }

    /// Returns the addresses that have answered, and the peers that did.
    pub(super) fn entries(&self) -> Vec<(Option<PeerId>, Vec<Multiaddr>)> {
        self.dialing.answered()
    }

    /// Returns whether a connection of this node with itself may be one of these dials.
    pub(super) fn may_lead_to_self(&self, now: Time) -> bool {
        self.dialing.may_lead_to_self(now) || !self.waiters.is_empty()
    }
}
