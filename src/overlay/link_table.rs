//! The table of links: those that are up, places reserved for verified peers, and links that are closing.
//!
//! Entry type: [`LinkTable`]. The rule it keeps: a peer has at most one link, and a link that this node has closed counts no
//! more, though its connection takes a moment to end.

use std::time::Duration;

use super::address::{Address, NodeId};
use super::event::Reason;
use super::link::{Link, Origin};
use super::scope::Reach;
use crate::clock::Time;

/// The links of one node: HyParView's active view.
#[derive(Clone, Debug)]
pub(super) struct LinkTable<I, A: Address> {
    /// Links that are up, the oldest first.
    links: Vec<Link<I, A>>,
    /// Places reserved for verified peers, and when each reservation expires.
    reserved: Vec<(I, Time)>,
    /// Links that this node has closed, and that still have a connection.
    closing: Vec<(I, Reason)>,
    /// Time at which a link last moved to another peer, or the node began.
    last_move: Time,
}

impl<I: NodeId, A: Address> LinkTable<I, A> {
    pub(super) fn new(now: Time) -> LinkTable<I, A> {
        LinkTable {
            links: Vec::new(),
            reserved: Vec::new(),
            closing: Vec::new(),
            last_move: now,
        }
    }

    /// Returns the links, the oldest first.
    pub(super) fn all(&self) -> &[Link<I, A>] {
        &self.links
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Link<I, A>> {
        self.links.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Link<I, A>> {
        self.links.iter_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(super) fn contains(&self, peer: I) -> bool {
        self.get(peer).is_some()
    }

    pub(super) fn get(&self, peer: I) -> Option<&Link<I, A>> {
        self.links.iter().find(|link| link.peer() == peer)
    }

    pub(super) fn get_mut(&mut self, peer: I) -> Option<&mut Link<I, A>> {
        self.links.iter_mut().find(|link| link.peer() == peer)
    }

    /// Returns the scope of the link with `peer`; none without a link.
    pub(super) fn reach_of(&self, peer: I) -> Option<Reach> {
        self.get(peer).map(Link::reach)
    }

    pub(super) fn peers(&self) -> Vec<I> {
        self.links.iter().map(Link::peer).collect()
    }

    pub(super) fn push(&mut self, link: Link<I, A>) {
        self.links.push(link);
    }

    pub(super) fn remove(&mut self, peer: I) -> Option<Link<I, A>> {
        let at = self.links.iter().position(|link| link.peer() == peer)?;
        Some(self.links.remove(at))
    }

    /// Confirms the link with `peer`, if there is one.
    pub(super) fn confirm(&mut self, peer: I) {
        if let Some(link) = self.get_mut(peer) {
            link.confirm();
        }
    }

    /// Confirms the link with `peer` and gives it another origin.
    pub(super) fn confirm_as(&mut self, peer: I, origin: Origin) {
        if let Some(link) = self.get_mut(peer) {
            link.confirm_as(origin);
        }
    }

    /// Confirms the link with `peer` for good: it can no longer be revoked.
    pub(super) fn grant(&mut self, peer: I) {
        if let Some(link) = self.get_mut(peer) {
            link.grant();
        }
    }

    /// Confirms links that were not revoked within `timeout` of their beginning.
    pub(super) fn grant_overdue(&mut self, now: Time, timeout: Duration) {
        let overdue =
            |link: &&mut Link<I, A>| link.is_revocable() && now.since(link.since()) >= timeout;
        for link in self.links.iter_mut().filter(overdue) {
            link.grant();
        }
    }

    /// Returns the time at which the next revocable link counts as granted.
    pub(super) fn next_grant(&self, timeout: Duration) -> Option<Time> {
        let revocable = self.links.iter().filter(|link| link.is_revocable());
        revocable.map(|link| link.since() + timeout).min()
    }

    /// Returns the number of links with peers that others have picked.
    pub(super) fn hinted(&self) -> usize {
        let hinted = |link: &&Link<I, A>| link.origin() == Origin::Hint;
        self.links.iter().filter(hinted).count()
    }

    /// Returns the number of inbound links from `network`.
    pub(super) fn inbound_of(&self, network: A::Host) -> usize {
        let of = |link: &&Link<I, A>| link.origin() == Origin::Inbound && link.network() == network;
        self.links.iter().filter(of).count()
    }

    /// Returns the link to close when there are more than `max`: the newest provisional one, or else the newest.
    pub(super) fn surplus(&self, max: usize) -> Option<I> {
        if self.links.len() <= max {
            return None;
        }
        let provisional = self.links.iter().rfind(|link| !link.is_confirmed());
        provisional.or(self.links.last()).map(Link::peer)
    }

    /// Moves the link with `peer` to those that are closing. Returns whether there was one.
    pub(super) fn close(&mut self, peer: I, reason: Reason) -> bool {
        let is_linked = self.remove(peer).is_some();
        if is_linked {
            self.closing.push((peer, reason));
        }
        is_linked
    }

    /// Records that a connection without a place is closing.
    pub(super) fn close_unlinked(&mut self, peer: I, reason: Reason) {
        self.closing.push((peer, reason));
    }

    pub(super) fn is_closing(&self, peer: I) -> bool {
        self.closing.iter().any(|(id, _)| *id == peer)
    }

    /// Removes `peer` from the links that are closing. Returns the reason if it was one of them.
    pub(super) fn end_closing(&mut self, peer: I) -> Option<Reason> {
        let at = self.closing.iter().position(|(id, _)| *id == peer)?;
        Some(self.closing.swap_remove(at).1)
    }

    /// Reserves a place for a verified peer until `until`.
    pub(super) fn reserve(&mut self, peer: I, until: Time) {
        self.reserved.push((peer, until));
    }

    pub(super) fn release(&mut self, peer: I) {
        self.reserved.retain(|(id, _)| *id != peer);
    }

    pub(super) fn release_expired(&mut self, now: Time) {
        self.reserved.retain(|(_, until)| *until > now);
    }

    pub(super) fn has_reservation(&self, now: Time, peer: I) -> bool {
        let valid = |(id, until): &(I, Time)| *id == peer && *until > now;
        self.reserved.iter().any(valid)
    }

    /// Returns the time at which the next reservation expires.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.reserved.iter().map(|(_, until)| *until).min()
    }

    /// Returns the number of peers that have a link or a reserved place.
    pub(super) fn occupied(&self) -> usize {
        let reserved = self.reserved.iter().filter(|(id, _)| !self.contains(*id));
        self.links.len() + reserved.count()
    }

    /// Returns the peers that have a link, a closing link or a reserved place.
    pub(super) fn engaged(&self) -> impl Iterator<Item = I> + '_ {
        let closing = self.closing.iter().map(|(id, _)| *id);
        let reserved = self.reserved.iter().map(|(id, _)| *id);
        self.links
            .iter()
            .map(Link::peer)
            .chain(closing)
            .chain(reserved)
    }

    /// Records that a link has moved to another peer.
    pub(super) fn record_move(&mut self, now: Time) {
        self.last_move = now;
    }

    pub(super) fn last_move(&self) -> Time {
        self.last_move
    }
}
