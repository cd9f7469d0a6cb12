//! One link as the overlay sees it.
//!
//! Entry type: [`Link`]. The rule it keeps: a link is provisional until it is confirmed, and a confirmed link never becomes
//! provisional again.

use std::sync::Arc;

use super::activity::Activity;
use super::address::{Address, Remote};
use super::event::Direction;
use super::scope::Reach;
use crate::clock::Time;

/// Which side wanted a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// This node picked the peer.
    Chosen,
    /// The peer dialled this node.
    Inbound,
    /// A third node picked the peer by a redirect hint. At most half of all links: see `HandoverSlot::may_receive`.
    Hint,
}

/// A link with a peer.
#[derive(Clone, Debug)]
pub struct Link<I, A: Address> {
    peer: I,
    direction: Direction,
    origin: Origin,
    since: Time,
    /// Addresses at which the peer listens, as far as they are known.
    listens: Arc<[A]>,
    reach: Reach,
    host: A::Host,
    is_confirmed: bool,
    /// The peer does not speak the overlay's protocol.
    is_plain: bool,
    /// The peer has sent its Join.
    has_joined: bool,
    /// This node has joined through the peer, which may still revoke its consent.
    is_revocable: bool,
    /// This node has agreed to do without the link.
    is_redundant: bool,
    /// The peer has sent its Leave.
    is_leaving: bool,
    /// An offence of the peer was reported.
    is_reported: bool,
    /// Time at which the peer's last unsolicited contacts were read.
    last_offer: Option<Time>,
    /// Time at which this node last agreed to receive a link of the peer's.
    last_proposal: Option<Time>,
    activity: Activity,
}

impl<I: Copy, A: Address> Link<I, A> {
    /// Returns a provisional link that began at `now`.
    pub(super) fn new(now: Time, peer: I, direction: Direction, remote: Remote<A>) -> Link<I, A> {
        let (origin, dialled_at) = match direction {
            Direction::Outbound => (Origin::Chosen, remote.address),
            Direction::Inbound => (Origin::Inbound, None),
        };
        Link {
            peer,
            direction,
            origin,
            since: now,
            listens: dialled_at.into_iter().collect(),
            reach: remote.reach,
            host: remote.host,
            is_confirmed: false,
            is_plain: false,
            has_joined: false,
            is_revocable: false,
            is_redundant: false,
            is_leaving: false,
            is_reported: false,
            last_offer: None,
            last_proposal: None,
            activity: Activity::new(now),
        }
    }

    /// Returns the peer at the other end.
    pub fn peer(&self) -> I {
        self.peer
    }

    /// Returns whether the link is confirmed; a provisional one may still be closed for want of room.
    pub fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    pub(super) fn since(&self) -> Time {
        self.since
    }

    /// Returns the scope of the connection: the peer may name addresses of this scope or a wider one over it.
    pub(super) fn reach(&self) -> Reach {
        self.reach
    }

    /// Returns the network at the other end of the connection.
    pub(super) fn network(&self) -> A::Host {
        A::network(self.host)
    }

    pub(super) fn listens(&self) -> &Arc<[A]> {
        &self.listens
    }

    pub(super) fn set_listens(&mut self, listens: Arc<[A]>) {
        self.listens = listens;
    }

    /// Returns the peer's addresses on the host that the connection is with: only these are more than the peer's claim.
    pub(super) fn own_listens(&self) -> Arc<[A]> {
        let listens = self.listens.iter();
        listens.filter(|a| a.host() == self.host).cloned().collect()
    }

    /// Returns whether the link is of this node's own choice, and its peer speaks the overlay.
    pub(super) fn is_own_choice(&self) -> bool {
        self.origin == Origin::Chosen && !self.is_plain
    }

    /// Returns whether the link is confirmed and its peer speaks the overlay.
    pub(super) fn is_full_member(&self) -> bool {
        self.is_confirmed && !self.is_plain
    }

    pub(super) fn confirm(&mut self) {
        self.is_confirmed = true;
    }

    /// Confirms the link with another origin than it began with.
    pub(super) fn confirm_as(&mut self, origin: Origin) {
        (self.is_confirmed, self.origin) = (true, origin);
    }

    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Records that the peer does not speak the overlay's protocol.
    pub(super) fn mark_plain(&mut self) {
        self.is_plain = true;
    }

    pub(super) fn has_joined(&self) -> bool {
        self.has_joined
    }

    /// Records the peer's Join. Returns whether it had joined before.
    pub(super) fn mark_joined(&mut self) -> bool {
        std::mem::replace(&mut self.has_joined, true)
    }

    /// Records that the peer has dialled again before this node noticed the end of its connection: for the peer it is a new
    /// link, on which it may join.
    pub(super) fn reconnect(&mut self, direction: Direction) {
        self.has_joined &= direction == Direction::Outbound;
    }

    pub(super) fn is_revocable(&self) -> bool {
        self.is_revocable
    }

    /// Records that this node has joined through the peer, which may revoke its consent until it grants the link.
    pub(super) fn mark_revocable(&mut self) {
        self.is_revocable = true;
    }

    /// Confirms the link for good: the peer can no longer revoke its consent.
    pub(super) fn grant(&mut self) {
        (self.is_revocable, self.is_confirmed) = (false, true);
    }

    pub(super) fn is_redundant(&self) -> bool {
        self.is_redundant
    }

    pub(super) fn set_redundant(&mut self, is_redundant: bool) {
        self.is_redundant = is_redundant;
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    pub(super) fn mark_leaving(&mut self) {
        self.is_leaving = true;
    }

    /// Records that an offence of the peer was reported. Returns whether it is the first on this link.
    pub(super) fn mark_reported(&mut self) -> bool {
        !std::mem::replace(&mut self.is_reported, true)
    }

    /// Rate limit for unsolicited contacts: returns whether an offer may be read, at most one in each `interval`.
    pub(super) fn try_offer(&mut self, now: Time, interval: std::time::Duration) -> bool {
        let is_due = self.last_offer.is_none_or(|at| now.since(at) >= interval);
        if is_due {
            self.last_offer = Some(now);
        }
        is_due
    }

    /// Rate limit for ProposeHandover requests: returns whether `interval` has passed since the last one that was agreed to.
    pub(super) fn may_propose(&self, now: Time, interval: std::time::Duration) -> bool {
        self.last_proposal
            .is_none_or(|at| now.since(at) >= interval)
    }

    pub(super) fn record_proposal(&mut self, now: Time) {
        self.last_proposal = Some(now);
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    pub(super) fn activity_mut(&mut self) -> &mut Activity {
        &mut self.activity
    }
}
