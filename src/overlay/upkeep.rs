//! What a node does in every round to keep the graph random: shuffle, flip, anchor swap, top-up.
//!
//! The shuffle is HyParView's (Leitão et al., 2007), between neighbours instead of over a random
//! walk: a walk's end would need a connection of its own. A flip is a 1-flipper step (Mahlmann and
//! Schindelhauer, 2005) in two handovers, there and back, so that it is safe after either of them.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::address::Address;
use super::event::*;
use super::link::{Link, Lock, Part, Why};
use super::message::{Contact, Request, Response, Role};
use super::options::*;
use super::state::{Overlay, Sent};
use crate::clock::Time;

/// Share of the rounds in which a full node that has too few links of its own choice asks for one to move, while none of
/// its links brings nothing.
const OWN_LINK_ROUNDS: f64 = 0.3;
/// How long newcomers that are refused may keep a node from moving its links.
pub(super) const MAX_WITHOUT_MOVE: Duration = Duration::from_secs(30);

impl<I, A, R> Overlay<I, A, R>
where
    I: Copy + Ord + std::hash::Hash + std::fmt::Debug,
    A: Address,
    R: Rng,
{
    pub(super) fn upkeep(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        self.give_back(now, out);
        self.probe(now, out);
        if now < self.upkeep_at {
            return;
        }
        self.upkeep_at = now + self.jitter(self.options.round);
        if self.links.is_empty() {
            return;
        }
        if self.rng.random_bool(self.options.shuffle) {
            self.shuffle(out);
        }
        // Newcomers come first: while they wait at the door, no handover for its own sake, but not
        // for as long as somebody cares to knock.
        let pause = self.options.max_busy_backoff * 2;
        let waited_for = self.turned_away.is_some_and(|at| now.since(at) < pause)
            && now.since(self.moved) < MAX_WITHOUT_MOVE;
        let choosing = self
            .dials
            .iter()
            .any(|dial| dial.purpose == Purpose::Anchor);
        if self.lock.is_some() || waited_for || choosing {
            return;
        }
        self.moved = now;
        let is_full = self.links.len() >= self.options.max_links;
        // With nothing to replace only in some rounds: the other moves keep the graph random, and go on meanwhile.
        let chooses = is_full
            && self.lacks_own_links()
            && (self.has_idle(now) || self.rng.random_bool(OWN_LINK_ROUNDS));
        if chooses {
            self.get_own_link(now, out);
        } else if self.rng.random_bool(self.options.anchor_swap) {
            self.swap_anchor(now, out);
        } else if self.rng.random_bool(self.options.flip) {
            self.flip(now, out);
        } else if self.rng.random_bool(self.options.top_up) {
            self.top_up(now, out);
        }
    }

    fn shuffle(&mut self, out: &mut Vec<Output<I, A>>) {
        let Some(to) = self.random_link() else { return };
        let mut offered = self.contacts_for(to, self.reach_of(to), MAX_OFFERED - 1);
        let addresses = self.listens_for(to);
        if !addresses.is_empty() {
            offered.push(Contact {
                id: self.me,
                addresses,
            });
        }
        self.send(to, Sent::Shuffle, Request::Shuffle { offered }, out);
    }

    fn random_link(&mut self) -> Option<I> {
        let fit = |link: &&Link<I, A>| link.settled && !link.plain;
        let able: Vec<I> = self
            .links
            .iter()
            .filter(fit)
            .map(|link| link.peer)
            .collect();
        (!able.is_empty()).then(|| able[self.rng.random_range(0..able.len())])
    }

    /// Offers are read from one link once in half a round: nobody fills our pool with his friends.
    pub(super) fn on_shuffle(
        &mut self,
        now: Time,
        from: I,
        offered: Vec<Contact<I, A>>,
    ) -> Response<I, A> {
        let contacts = self.contacts_for(from, self.reach_of(from), MAX_CONTACTS);
        let pause = self.options.round / 2;
        if let Some(link) = self.link_mut(from)
            && link.shuffled.is_none_or(|at| now.since(at) >= pause)
        {
            link.shuffled = Some(now);
            self.learn(from, offered, MAX_OFFERED);
        }
        Response::Contacts(contacts)
    }

    fn flip(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        if self.links.len() >= self.options.wanted_links
            && let Some(taker) = self.random_link()
        {
            self.start_move_to(now, Why::Flip, vec![taker], out);
        }
    }

    /// The way back of a flip that we have taken part in.
    fn give_back(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        let Some((peer, _)) = self.owed.filter(|(_, at)| *at <= now) else {
            return;
        };
        self.owed = None;
        if self.lock.is_none() && self.linked(peer) && self.links.len() > self.options.wanted_links
        {
            self.start_move_to(now, Why::Return, vec![peer], out);
        }
    }

    /// A neighbour asks us to take one of its links.
    pub(super) fn on_take(&mut self, now: Time, from: I, pair: bool) -> Response<I, A> {
        let half = self.options.max_links / 2;
        let hinted = self
            .links
            .iter()
            .filter(|l| l.origin == super::link::Origin::Hint)
            .count();
        // A flip gives one such link back, so that for its time one more is borne.
        let hints = hinted < half || (pair && hinted == half);
        let pause = self.options.round / 2;
        let room = self.occupied() < self.options.max_links;
        let free = self.lock.is_none() && !self.penalised(now, from);
        let Some(link) = self.link_mut(from) else {
            return Response::HandoverReply(None);
        };
        let paced = link.took.is_none_or(|at| now.since(at) >= pause);
        if !(hints && paced && room && free && link.settled) {
            return Response::HandoverReply(None);
        }
        link.took = Some(now);
        let nonce = self.rng.random();
        self.lock = Some(Lock::Take(Part {
            giver: from,
            nonce,
            other: None,
            role: Role::Expect,
            attached: false,
            pair,
            deadline: now + self.options.lock_timeout,
        }));
        Response::HandoverReply(Some(self.terms(from, nonce)))
    }

    /// A full node with too few links of its own choice gets one: by moving another link out of
    /// the way, or, when no neighbour takes part in that, in place of one.
    fn get_own_link(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        if !self.start_move(now, Why::Swap, out) {
            self.dial_anchor(now, out);
        }
    }

    /// A link with a peer of our own choice, in place of a random one.
    fn swap_anchor(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        if self.links.len() < self.options.max_links {
            self.dial_anchor(now, out);
        } else {
            self.start_move(now, Why::Swap, out);
        }
    }

    /// One link more than wanted, with somebody who has room too: mean degrees near 5 cost one hop
    /// in eight less than 4 do.
    fn top_up(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        let links = self.links.len();
        if links < self.options.wanted_links || links >= self.options.max_links {
            return;
        }
        if let Some(known) = self.pick(now) {
            self.dial_peer(now, known, Purpose::TopUp, out);
        }
    }

    /// A link stops, and names its others.
    pub(super) fn on_leave(&mut self, from: I, contacts: Vec<Contact<I, A>>) -> Response<I, A> {
        self.learn(from, contacts, MAX_CONTACTS);
        if let Some(link) = self.link_mut(from) {
            link.leaving = true;
        }
        Response::Done { ok: true }
    }
}
