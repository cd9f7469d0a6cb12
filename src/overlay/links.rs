//! Links as they come and go.
//!
//! Entry type: [`Overlay`]. The rules kept here: nothing becomes a link without a place, a link is a
//! visitor's until it was granted, and without a lock no more than `max_links` stay.

use std::sync::Arc;

use rand::Rng;

use super::address::{Address, Remote};
use super::event::*;
use super::link::{Link, Lock, Origin};
use super::message::Request;
use super::options::MAX_CONTACTS;
use super::scope::Reach;
use super::state::{Dialling, Overlay, Sent};
use crate::clock::Time;

type Out<I, A> = Vec<Output<I, A>>;

impl<I, A, R> Overlay<I, A, R>
where
    I: Copy + Ord + std::hash::Hash + std::fmt::Debug,
    A: Address,
    R: Rng,
{
    pub(super) fn on_link_up(
        &mut self,
        now: Time,
        peer: I,
        direction: Direction,
        remote: Remote<A>,
        dial: Option<DialId>,
        out: &mut Out<I, A>,
    ) {
        let held = |(id, until): &(I, Time)| *id == peer && *until > now;
        let has_place = self.reserved.iter().any(held)
            || self.linked(peer)
            || self.find_place(now, peer, direction, A::network(remote.host), out);
        self.reserved.retain(|(id, _)| *id != peer);
        let ours = |d: &Dialling<I>| {
            if dial.is_some() {
                Some(d.id) == dial
            } else {
                d.peer == Some(peer)
            }
        };
        let dialled = self
            .dials
            .iter()
            .position(ours)
            .map(|at| self.dials.swap_remove(at));
        if dial.is_some() {
            self.entry_answered(peer, dialled.as_ref());
        }
        if let Some(dialled) = &dialled {
            self.answered(dialled, remote.address.as_ref());
        }
        if let Some(link) = self.link_mut(peer) {
            // It had lost its connection before we noticed, and has dialled again: for it, this is a new link.
            link.joined &= direction == Direction::Outbound;
            return;
        }
        if self.stopped || peer == self.me {
            out.push(Output::Close {
                peer,
                reason: Reason::Leaving,
            });
            return;
        }
        if !has_place {
            // It was not held for ever, and has gone to another peer meanwhile.
            let reason = Reason::Surplus;
            self.closing.push((peer, reason));
            out.push(Output::Close { peer, reason });
            return;
        }
        self.ever_linked = true;
        let reach = self.scope_of(direction, &remote);
        let outbound = direction == Direction::Outbound;
        let dialled_at = remote.address.filter(|_| outbound);
        let listens: Arc<[A]> = dialled_at.into_iter().collect();
        if outbound {
            self.book
                .met(&self.options, &mut self.rng, peer, listens.clone(), true);
        }
        let visitor =
            matches!(&self.lock, Some(Lock::Visit { peer: visitor, .. }) if *visitor == peer);
        let expected = self.expected_by(peer, direction);
        self.links.push(Link {
            peer,
            direction,
            origin: if outbound {
                Origin::Chosen
            } else {
                Origin::Inbound
            },
            since: now,
            listens,
            reach,
            host: remote.host,
            settled: !outbound
                && !visitor
                && !expected
                && self.links.len() < self.options.max_links,
            plain: false,
            joined: false,
            shuffled: None,
            took: None,
            reported: false,
            leaving: false,
            thinned: false,
            joined_through: false,
            brought: None,
            spoke: false,
            deaf: false,
            probed: false,
        });
        if expected {
            self.on_expected_link(peer, outbound, out);
        } else if outbound {
            if matches!(&self.lock, Some(Lock::Replace { peer: chosen, .. }) if *chosen == peer) {
                let deadline = now + self.options.lock_timeout;
                self.lock = Some(Lock::Replace { peer, deadline });
            }
            self.failures = 0;
            self.seek_at = now;
            self.join(now, peer, dialled.map(|dial| dial.purpose), out);
        } else if visitor || (self.links.len() > self.options.max_links && self.lock.is_none()) {
            let deadline = now + self.options.visit_timeout;
            self.lock = Some(Lock::Visit { peer, deadline });
        }
    }

    /// What a peer may name over a connection. Behind a proxy all that come count as public, wherever they come from.
    pub(super) fn scope_of(&self, direction: Direction, remote: &Remote<A>) -> Reach {
        match direction {
            Direction::Inbound if self.options.behind_proxy => Reach::Public,
            _ => remote.reach,
        }
    }

    pub(super) fn on_link_down(&mut self, now: Time, peer: I, out: &mut Out<I, A>) {
        self.exchanges.retain(|(_, to, _)| *to != peer);
        if let Some(at) = self.closing.iter().position(|(id, _)| *id == peer) {
            let (_, reason) = self.closing.swap_remove(at);
            out.push(Output::Report(Report::LinkEnded { peer, reason }));
            return;
        }
        let Some(at) = self.links.iter().position(|link| link.peer == peer) else {
            return;
        };
        let link = self.links.remove(at);
        let reason = self.on_lock_link_down(now, &link, out);
        out.push(Output::Report(Report::LinkEnded { peer, reason }));
        if self.links.is_empty() {
            // All lost, as after the machine's sleep: what failed before may work now.
            self.book.retry_all(now);
            self.failures = 0;
            self.seek_at = now;
        } else if self.links.len() < self.options.wanted_links && self.failures == 0 {
            self.seek_at = self.seek_at.min(now);
        }
    }

    pub(super) fn on_shutdown(&mut self, out: &mut Out<I, A>) {
        self.stopped = true;
        self.lock = None;
        for peer in self.peers() {
            let contacts = self.contacts_for(peer, self.reach_of(peer), MAX_CONTACTS);
            self.send(peer, Sent::Word, Request::Leave { contacts }, out);
        }
        for peer in self.peers() {
            self.close(peer, Reason::Leaving, out);
        }
    }

    /// Without a lock no more than `max_links` stay: visitors go first, then the newest.
    pub(super) fn shed(&mut self, out: &mut Out<I, A>) {
        while self.lock.is_none() && self.links.len() > self.options.max_links {
            let unsettled = self.links.iter().rposition(|link| !link.settled);
            let at = unsettled.unwrap_or(self.links.len() - 1);
            self.close(self.links[at].peer, Reason::Surplus, out);
        }
    }
}
