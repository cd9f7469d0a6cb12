//! Eviction: which link makes room when another peer needs its place.
//!
//! Entry type: [`Eviction`]. The rules it keeps: no link is evicted while nobody waits; an idle link goes before a useful one;
//! and among useful ones only a network that holds more than its share loses a link, to a peer of another network.

use std::time::Duration;

use super::address::{Address, NodeId};
use super::event::Reason;
use super::link::{Link, Origin};
use super::link_table::LinkTable;
use super::options::Options;
use crate::clock::Time;

/// Time without a handover after which a node with too few links of its own choice closes another link instead of moving it.
const MAX_WITHOUT_HANDOVER: Duration = Duration::from_secs(120);

/// A view of the links by which evictions are decided.
pub(super) struct Eviction<'a, I, A: Address> {
    now: Time,
    options: &'a Options,
    links: &'a LinkTable<I, A>,
}

impl<'a, I: NodeId, A: Address> Eviction<'a, I, A> {
    pub(super) fn new(
        now: Time,
        options: &'a Options,
        links: &'a LinkTable<I, A>,
    ) -> Eviction<'a, I, A> {
        Eviction {
            now,
            options,
            links,
        }
    }

    fn is_idle(&self, link: &Link<I, A>) -> bool {
        link.activity().is_idle(self.now, self.options)
    }

    /// Returns whether a link may take part in a move: it is confirmed, and its peer speaks the overlay and answers.
    pub(super) fn is_able(&self, link: &Link<I, A>) -> bool {
        link.is_full_member() && link.activity().is_responsive(self.now, self.options)
    }

    /// Returns whether any confirmed link is idle.
    pub(super) fn has_idle(&self) -> bool {
        let mut links = self.links.iter();
        links.any(|link| link.is_confirmed() && self.is_idle(link))
    }

    /// Returns the link that yields to the one with `newcomer`, and the reason.
    pub(super) fn for_newcomer(&self, newcomer: I) -> Option<(I, Reason)> {
        let others = || {
            let others = self.links.iter();
            others.filter(move |link| link.peer() != newcomer && link.is_confirmed())
        };
        // Among idle links the one that has been idle for longest.
        let last = |link: &&Link<I, A>| {
            let activity = link.activity();
            (activity.was_useful(), activity.last_use())
        };
        let idle = others().filter(|link| self.is_idle(link)).min_by_key(last);
        if let Some(link) = idle {
            return Some((link.peer(), Reason::Idle));
        }
        let network = self.links.get(newcomer)?.network();
        let crowded = |link: &&Link<I, A>| {
            let other = link.network();
            other != network && self.links.inbound_of(other) > self.options.network_links
        };
        // The newest: the oldest links were there before the crowd.
        let inbound = others().filter(|link| link.origin() == Origin::Inbound);
        let newest = inbound.filter(crowded).max_by_key(|link| link.since());
        newest.map(|link| (link.peer(), Reason::Crowded))
    }

    /// Returns the link that yields to the plain link with `peer`: one that has been of no use for `idle_after`, since a plain
    /// link has shown no more than that.
    pub(super) fn for_plain(&self, peer: I) -> Option<I> {
        let quiet = |link: &&Link<I, A>| {
            let idle_time = self.now.since(link.activity().last_use());
            link.peer() != peer && link.is_confirmed() && idle_time >= self.options.idle_after
        };
        let quiet = self.links.iter().filter(quiet);
        quiet
            .min_by_key(|link| link.activity().last_use())
            .map(Link::peer)
    }

    /// Returns the link to close for the confirmed replacement with `peer`: see [`Eviction::for_newcomer`], or else the newest
    /// inbound link if the node is stuck, or else the replacement itself.
    pub(super) fn for_replacement(&self, peer: I) -> (I, Reason) {
        if let Some(found) = self.for_newcomer(peer) {
            return found;
        }
        let inbound = |link: &&Link<I, A>| link.peer() != peer && link.origin() == Origin::Inbound;
        let newest = self
            .links
            .iter()
            .filter(inbound)
            .max_by_key(|link| link.since());
        match newest {
            Some(link) if self.is_stuck() => (link.peer(), Reason::Crowded),
            _ => (peer, Reason::Surplus),
        }
    }

    /// Returns whether the node has fewer links of its own choice than it wants.
    pub(super) fn lacks_own_links(&self) -> bool {
        let own = self.links.iter().filter(|link| link.is_own_choice());
        own.count() < self.options.own_links
    }

    /// Returns whether one link more, of the node's own choice, would find a link that it can replace.
    pub(super) fn can_replace(&self) -> bool {
        self.is_stuck() || self.has_idle()
    }

    /// Returns whether no link has moved for [`MAX_WITHOUT_HANDOVER`]: the neighbours seem to keep this node from choosing its links.
    /// Before that a useful link is moved and not closed: it may be its peer's last one.
    fn is_stuck(&self) -> bool {
        self.now.since(self.links.last_move()) >= MAX_WITHOUT_HANDOVER
    }
}
