//! Persistent dials: addresses that a node dials until they answer, with exponential back-off and jitter.
//!
//! Entry type: [`Dialing`], pure: time and randomness are arguments, addresses to dial are results. The rule it keeps:
//! one dial at a time for each address, and none while its peer is linked.

use std::time::Duration;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use rand::{Rng, RngExt};

use crate::clock::Time;
use crate::net::address::Address;

/// The wait after the first failure; it doubles with each failure.
const MIN_WAIT: Duration = Duration::from_millis(500);
/// Maximum number of doublings for a busy peer: its wait grows up to 2 s.
const MAX_BUSY_DOUBLINGS: u32 = 3;
/// Number of busy answers in a row after which the failure is reported.
const BUSY_REPORT_THRESHOLD: u32 = 8;
/// Maximum wait.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The wait before an address of this node itself is tried again: another node may have it by then.
const OWN_ADDRESS_RETRY_INTERVAL: Duration = Duration::from_secs(600);
/// Maximum time by which the listening end of a dial to this node itself ends after the dial.
const OWN_DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The addresses to keep dialling.
#[derive(Debug, Default)]
pub(crate) struct Dialing {
    targets: Vec<Target>,
    /// Time of the last dial that reached this node itself.
    own_at: Option<Time>,
}

#[derive(Debug)]
struct Target {
    address: Address,
    /// The peer that answered last.
    peer_id: Option<PeerId>,
    failures: u32,
    /// Whether the address was found to be this node's own, which has been reported.
    is_own: bool,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Waiting(Time),
    Dialing(ConnectionId),
    Linked(PeerId),
    /// The peer has answered, and no link is needed now.
    NotNeeded,
}

impl Dialing {
    /// Keeps dialling `address` from `now` on. A known address stays as it is.
    pub(crate) fn add(&mut self, now: Time, address: Address) {
        if self.targets.iter().any(|t| t.address == address) {
            return;
        }
        let peer_id = address.peer_id();
        self.targets.push(Target {
            address,
            peer_id,
            failures: 0,
            is_own: false,
            state: State::Waiting(now),
        });
    }

    /// Returns the time at which [`Dialing::due`] returns another address.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.targets
            .iter()
            .filter_map(|t| match t.state {
                State::Waiting(until) => Some(until),
                _ => None,
            })
            .min()
    }

    /// Returns the addresses with an expired wait. The caller dials each and calls [`Dialing::started`].
    pub(crate) fn due(&self, now: Time) -> Vec<Address> {
        self.targets
            .iter()
            .filter(|t| matches!(t.state, State::Waiting(until) if until <= now))
            .map(|t| t.address.clone())
            .collect()
    }

    /// Records that `address` is being dialled as this connection.
    pub(crate) fn started(&mut self, address: &Address, connection_id: ConnectionId) {
        if let Some(target) = self.targets.iter_mut().find(|t| t.address == *address) {
            target.state = State::Dialing(connection_id);
        }
    }

    /// Returns the address that is being dialled as this connection.
    pub(crate) fn address_of(&self, connection_id: ConnectionId) -> Option<Multiaddr> {
        let dialed = |t: &&Target| t.state == State::Dialing(connection_id);
        self.targets
            .iter()
            .find(dialed)
            .map(|t| t.address.multiaddr().clone())
    }

    /// Records a failed dial. Returns whether to report it: the first failure in a row, or a peer that stays busy; none
    /// when it was not one of these dials.
    pub(crate) fn failed(
        &mut self,
        now: Time,
        connection_id: ConnectionId,
        busy: bool,
        rng: &mut impl Rng,
    ) -> Option<bool> {
        let target = self
            .targets
            .iter_mut()
            .find(|t| t.state == State::Dialing(connection_id))?;
        target.failures += 1;
        // A busy peer is retried soon, because slots become free quickly.
        let steps = if busy {
            target.failures.min(MAX_BUSY_DOUBLINGS)
        } else {
            target.failures
        };
        target.state = State::Waiting(now + wait(steps, rng));
        Some(target.failures == if busy { BUSY_REPORT_THRESHOLD } else { 1 })
    }

    /// Records that a dial reached this node itself, as happens with one list of addresses for all nodes. Returns
    /// whether to report it, which is true once; none when it was not one of these dials.
    pub(crate) fn led_to_self(&mut self, now: Time, connection_id: ConnectionId) -> Option<bool> {
        let target = self
            .targets
            .iter_mut()
            .find(|t| t.state == State::Dialing(connection_id))?;
        target.state = State::Waiting(now + OWN_ADDRESS_RETRY_INTERVAL);
        self.own_at = Some(now);
        Some(!std::mem::replace(&mut target.is_own, true))
    }

    /// Returns whether a connection of this node with itself may be one of these dials: one is in progress, or has just
    /// ended.
    pub(crate) fn may_lead_to_self(&self, now: Time) -> bool {
        let mut targets = self.targets.iter();
        targets.any(|t| matches!(t.state, State::Dialing(_)))
            || self
                .own_at
                .is_some_and(|at| now.since(at) < OWN_DIAL_TIMEOUT)
    }

    /// Records that a peer is linked, no matter which end dialled.
    pub(crate) fn linked(&mut self, connection_id: ConnectionId, peer_id: PeerId) {
        for target in &mut self.targets {
            let dialled = target.state == State::Dialing(connection_id);
            if dialled || target.peer_id == Some(peer_id) {
                target.peer_id = Some(peer_id);
                target.failures = 0;
                target.state = State::Linked(peer_id);
            }
        }
    }

    /// Records that the peer answered and is not needed: it is not dialled again.
    pub(crate) fn not_needed(&mut self, connection_id: ConnectionId) {
        for target in &mut self.targets {
            if target.state == State::Dialing(connection_id) {
                target.state = State::NotNeeded;
            }
        }
    }

    /// Returns the addresses that have answered, with their peers.
    pub(crate) fn answered(&self) -> Vec<(Option<PeerId>, Vec<Multiaddr>)> {
        self.targets
            .iter()
            .filter(|t| matches!(t.state, State::Linked(_) | State::NotNeeded))
            .map(|t| (t.peer_id, vec![t.address.multiaddr().clone()]))
            .collect()
    }

    /// Forgets the peers of addresses without a peer id. Returns whether any was forgotten.
    pub(crate) fn forget_peers(&mut self) -> bool {
        let mut forgotten = false;
        for target in &mut self.targets {
            forgotten |= target.peer_id != target.address.peer_id();
            target.peer_id = target.address.peer_id();
        }
        forgotten
    }

    /// Records that a peer has lost its last link, and schedules a dial soon.
    pub(crate) fn unlinked(&mut self, now: Time, peer_id: PeerId, rng: &mut impl Rng) {
        for target in &mut self.targets {
            if target.state == State::Linked(peer_id) {
                target.state = State::Waiting(now + wait(1, rng));
            }
        }
    }
}

/// Returns the exponential back-off with jitter over its upper half, so that many nodes do not retry at the same time.
fn wait(failures: u32, rng: &mut impl Rng) -> Duration {
    let full = MIN_WAIT
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(MAX_WAIT);
    full.mul_f64(rng.random_range(0.5..1.0))
}

#[cfg(test)]
mod tests;
