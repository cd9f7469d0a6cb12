//! Which link makes room when somebody else needs its place.
//!
//! Entry type: [`Overlay`]. The rules kept here: nobody is put out while nobody waits; a link that
//! brings nothing goes before one that does; and of what is left, only a network that holds more
//! than its share loses one, to a peer of another network.

use std::time::Duration;

use rand::Rng;

use super::address::Address;
use super::event::*;
use super::link::{Link, Lock, Origin};
use super::message::{Answer, Request, Response};
use super::state::{Overlay, Sent};
use super::upkeep::MAX_WITHOUT_MOVE;
use crate::clock::Time;

/// Networks whose newcomers were refused lately that are remembered: to tell a network that has
/// its share from the others that wait it takes two.
const MAX_WAITING: usize = 8;
/// How long a node that has too few links of its own choice waits for one to move before it closes another instead.
const MAX_WITHOUT_HANDOVER: Duration = Duration::from_secs(120);
/// Networks whose newcomers wasted a visit that are remembered.
const MAX_WASTED: usize = 16;

impl<I, A, R> Overlay<I, A, R>
where
    I: Copy + Ord + std::hash::Hash + std::fmt::Debug,
    A: Address,
    R: Rng,
{
    /// A link has brought something: a batch that was new here, contacts, or its part in a move.
    pub(super) fn on_brought(&mut self, now: Time, peer: I) {
        if let Some(link) = self.link_mut(peer) {
            link.brought = Some(now);
            (link.spoke, link.deaf) = (true, false);
        }
    }

    /// Takes note of a request, by which a link may show that it is of use. A Join or an Attach asks
    /// for a place and brings nothing; nor does an offer of nobody.
    pub(super) fn note_request(&mut self, now: Time, from: I, request: &Request<I, A>) {
        if let Some(link) = self.link_mut(from) {
            link.deaf = false;
            link.spoke |= !matches!(request, Request::Join { .. } | Request::Attach { .. });
        }
        let brings = match request {
            Request::Shuffle { offered } => !offered.is_empty(),
            Request::Report { linked, .. } => *linked,
            _ => false,
        };
        if brings {
            self.on_brought(now, from);
        }
    }

    /// Takes note of an answer to a request of ours, or that there was none.
    pub(super) fn note_response(
        &mut self,
        now: Time,
        from: I,
        result: &Result<Response<I, A>, ExchangeError>,
    ) {
        if let Some(link) = self.link_mut(from) {
            link.deaf = *result == Err(ExchangeError::Lost);
            link.spoke |= result.is_ok();
        }
        let brings = match result {
            Ok(Response::Contacts(contacts)) => !contacts.is_empty(),
            Ok(Response::Redirected { refusal, .. }) => refusal.is_none(),
            Ok(Response::HandoverReply(terms)) => terms.is_some(),
            Ok(Response::Done { ok }) => *ok,
            Ok(Response::Joined { answer, .. }) => *answer != Answer::Refused,
            Err(_) => false,
        };
        if brings {
            self.on_brought(now, from);
        }
    }

    /// Whether a link brings nothing: it is old enough to have brought something, and either never
    /// has, or not for a long time. One that has not even answered is given less time.
    pub(super) fn is_idle(&self, now: Time, link: &Link<I, A>) -> bool {
        let after = match link.spoke {
            true => self.options.idle_after,
            false => self.options.first_after,
        };
        now.since(link.brought.unwrap_or(link.since)) >= after
    }

    /// Whether a link may take part in a move: it is here to stay, and its peer speaks the overlay
    /// and answers.
    pub(super) fn is_able(&self, now: Time, link: &Link<I, A>) -> bool {
        let is_mute = !link.spoke && now.since(link.since) >= self.options.first_after;
        link.settled && !link.plain && !link.deaf && !is_mute
    }

    /// Makes room for the link with `newcomer`: closes another one, if one must yield to it.
    pub(super) fn make_room(
        &mut self,
        now: Time,
        newcomer: I,
        out: &mut Vec<Output<I, A>>,
    ) -> bool {
        let Some((peer, reason)) = self.yielding(now, newcomer) else {
            return false;
        };
        self.close(peer, reason, out);
        true
    }

    /// A peer that does not speak the overlay is here as the sixth. It stays only in place of a link
    /// that has brought nothing for a long time: it has shown no more than that one yet.
    pub(super) fn take_in_plain(&mut self, now: Time, peer: I, out: &mut Vec<Output<I, A>>) {
        let after = self.options.idle_after;
        let quiet = |link: &&Link<I, A>| {
            let since = link.brought.unwrap_or(link.since);
            link.peer != peer && link.settled && now.since(since) >= after
        };
        let quietest = self.links.iter().filter(quiet);
        let quietest = quietest.min_by_key(|link| link.brought.unwrap_or(link.since));
        if let Some(other) = quietest.map(|link| link.peer) {
            self.close(other, Reason::Idle, out);
            self.settle(peer);
        }
    }

    /// Which link yields to the one with `newcomer`, and why.
    pub(super) fn yielding(&self, now: Time, newcomer: I) -> Option<(I, Reason)> {
        let others = || {
            self.links
                .iter()
                .filter(move |link| link.peer != newcomer && link.settled)
        };
        // Of those that bring nothing the one that has brought nothing for longest.
        let last =
            |link: &&Link<I, A>| (link.brought.is_some(), link.brought.unwrap_or(link.since));
        let idle = others()
            .filter(|link| self.is_idle(now, link))
            .min_by_key(last);
        if let Some(link) = idle {
            return Some((link.peer, Reason::Idle));
        }
        let network = self.links.iter().find(|link| link.peer == newcomer)?;
        let network = A::network(network.host);
        let crowded = |link: &&Link<I, A>| {
            A::network(link.host) != network
                && self.inbound_of(A::network(link.host)) > self.options.network_links
        };
        // The newest: who has been there longest was there before the crowd.
        let inbound = others().filter(|link| link.origin == Origin::Inbound);
        let newest = inbound.filter(crowded).max_by_key(|link| link.since);
        newest.map(|link| (link.peer, Reason::Crowded))
    }

    /// Links of this network that came by themselves.
    fn inbound_of(&self, source: A::Host) -> usize {
        let of =
            |link: &&Link<I, A>| link.origin == Origin::Inbound && A::network(link.host) == source;
        self.links.iter().filter(of).count()
    }

    /// Whether the visit goes to a peer of this network now. While others wait, a network that has
    /// its share of the links already, or that has wasted a visit lately, comes after them.
    pub(super) fn may_visit(&self, now: Time, source: A::Host) -> bool {
        let pause = self.options.max_busy_backoff * 2;
        let others_wait = self
            .waiting
            .iter()
            .any(|(other, at)| *other != source && now.since(*at) < pause);
        let wasted = |(other, at): &(A::Host, Time)| {
            *other == source && now.since(*at) < self.options.penalty
        };
        // Now and then the node's own moves come first, however many knock.
        if now.since(self.moved) >= MAX_WITHOUT_MOVE.max(self.options.round * 3) {
            return false;
        }
        let has_enough =
            self.inbound_of(source) >= self.options.network_links || self.wasted.iter().any(wasted);
        !(others_wait && has_enough)
    }

    /// A newcomer of this network was refused: it comes back in a moment.
    pub(super) fn note_waiting(&mut self, now: Time, source: A::Host) {
        self.turned_away = Some(now);
        self.waiting.retain(|(other, _)| *other != source);
        self.waiting.truncate(MAX_WAITING - 1);
        self.waiting.insert(0, (source, now));
    }

    /// A newcomer of this network got a visit and did nothing with it.
    pub(super) fn note_wasted(&mut self, now: Time, source: A::Host) {
        self.wasted.retain(|(other, _)| *other != source);
        self.wasted.truncate(MAX_WASTED - 1);
        self.wasted.insert(0, (source, now));
    }

    /// Whether a node has fewer links of its own choice than it sees to have.
    pub(super) fn lacks_own_links(&self) -> bool {
        let own = self
            .links
            .iter()
            .filter(|l| l.origin == Origin::Chosen && !l.plain);
        own.count() < self.options.own_links
    }

    /// The sixth link, of our own choice, is there to stay: one that came by itself makes place for
    /// it. Nobody else gets such a link put out while it brings something.
    pub(super) fn finish_replacing(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        let Some(Lock::Replace { peer, .. }) = self.lock else {
            return;
        };
        if !self
            .links
            .iter()
            .any(|link| link.peer == peer && link.settled)
        {
            return;
        }
        self.lock = None;
        if self.links.len() <= self.options.max_links || self.make_room(now, peer, out) {
            return;
        }
        let inbound = |link: &&Link<I, A>| link.peer != peer && link.origin == Origin::Inbound;
        let newest = self
            .links
            .iter()
            .filter(inbound)
            .max_by_key(|link| link.since);
        match newest.map(|link| link.peer) {
            Some(other) if self.is_stuck(now) => self.close(other, Reason::Crowded, out),
            _ => self.close(peer, Reason::Surplus, out),
        }
    }

    /// Whether no link has moved for so long that the neighbours seem to keep this node from choosing its links. Until
    /// then a link that brings something is moved and not closed: it may be the last one of its peer.
    fn is_stuck(&self, now: Time) -> bool {
        now.since(self.handed_over) >= MAX_WITHOUT_HANDOVER
    }

    /// Whether a sixth link, of our own choice, would find one that it can replace.
    pub(super) fn can_replace(&self, now: Time) -> bool {
        self.is_stuck(now) || self.has_idle(now)
    }

    /// Whether a link brings nothing.
    pub(super) fn has_idle(&self, now: Time) -> bool {
        let idle = |link: &Link<I, A>| link.settled && self.is_idle(now, link);
        self.links.iter().any(idle)
    }

    /// Asks a link that has brought nothing yet for contacts, once: an honest peer that speaks the
    /// overlay answers, and shows by it that it is there.
    pub(super) fn probe(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        let after = self.options.first_after / 2;
        let silent = |link: &&mut Link<I, A>| {
            let fresh = link.settled && !link.plain && !link.probed && !link.spoke;
            fresh && now.since(link.since) >= after
        };
        let Some(link) = self.links.iter_mut().find(silent) else {
            return;
        };
        link.probed = true;
        let (to, offered) = (link.peer, Vec::new());
        self.send(to, Sent::Shuffle, Request::Shuffle { offered }, out);
    }
}
