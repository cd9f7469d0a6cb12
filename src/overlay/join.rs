//! Newcomers: how we join through a peer we have dialled, and how we serve one that joins through us.
//!
//! The rules kept here: only a fresh inbound link may join, once; it gets at most two links; a
//! claim it makes about itself costs nobody but itself when it is false.

use std::sync::Arc;

use rand::{Rng, RngExt};

use super::address::{Address, in_scope};
use super::event::*;
use super::link::{Link, Lock, Origin, Part, Why};
use super::message::{Answer, Contact, Request, Response, Role, Terms};
use super::options::*;
use super::scope::Reach;
use super::state::{Overlay, Sent};
use crate::clock::Time;

/// Nonces of joins that are remembered: more than can be served while one of them is open.
const MAX_NONCES: usize = 32;
/// Peers whose handovers failed that are remembered.
const MAX_PENALTIES: usize = 64;

impl<I, A, R> Overlay<I, A, R>
where
    I: Copy + Ord + std::hash::Hash + std::fmt::Debug,
    A: Address,
    R: Rng,
{
    /// Asks a peer that we have dialled to keep us.
    pub(super) fn join(
        &mut self,
        now: Time,
        peer: I,
        purpose: Option<Purpose<I>>,
        out: &mut Vec<Output<I, A>>,
    ) {
        let before = self.occupied() - 1;
        let need = match purpose {
            Some(Purpose::TopUp) => 0,
            Some(Purpose::Anchor) => 1,
            _ if before + 2 > self.options.max_links || self.lock.is_some() => 1,
            _ if !self.may_take_hint() => 1,
            _ => 2,
        };
        let nonce = self.rng.random();
        if need == 2 {
            let deadline = now + self.options.lock_timeout;
            self.lock = Some(Lock::Take(Part {
                giver: peer,
                nonce,
                other: None,
                role: Role::Expect,
                attached: false,
                pair: false,
                deadline,
            }));
        }
        if let Some(link) = self.link_mut(peer) {
            link.joined_through = true;
        }
        let terms = self.terms(peer, nonce);
        self.send(peer, Sent::Join, Request::Join { terms, need }, out);
    }

    /// At most half of our links may be such that somebody else has picked the peer: whoever wants
    /// us to see only his friends must wait until we dial them ourselves.
    pub(super) fn may_take_hint(&self) -> bool {
        let hinted = self
            .links
            .iter()
            .filter(|link| link.origin == Origin::Hint)
            .count();
        hinted < self.options.max_links / 2
    }

    /// What this link is told of us.
    pub(super) fn terms(&self, to: I, nonce: u64) -> Terms<I, A> {
        let addresses = self.listens_for(to);
        Terms {
            nonce,
            links: self.peers().into_iter().take(MAX_NAMED_LINKS).collect(),
            dialable: !addresses.is_empty(),
            addresses,
        }
    }

    /// The peer has answered our join.
    pub(super) fn on_joined(
        &mut self,
        now: Time,
        from: I,
        result: Result<Response<I, A>, ExchangeError>,
        out: &mut Vec<Output<I, A>>,
    ) {
        let answer = match result {
            Ok(Response::Joined { answer, contacts }) => {
                self.learn(from, contacts, MAX_CONTACTS);
                answer
            }
            // A plain link, which has room if it has let us in.
            Err(ExchangeError::Unsupported) => Answer::Accepted,
            _ => Answer::Refused,
        };
        match answer {
            Answer::Split | Answer::Pending => {}
            Answer::Accepted => {
                self.end_taking(from);
                self.granted(from);
            }
            Answer::Refused => {
                self.end_taking(from);
                self.leave_alone(now, from);
                self.close(from, Reason::Refused, out);
            }
        }
    }

    /// A peer has no room for us: it lives, and places come free quickly, but not at once.
    pub(super) fn leave_alone(&mut self, now: Time, peer: I) {
        let until = now + self.jitter(self.options.max_busy_backoff);
        self.book.busy(until, peer);
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| entry.seen == Some(peer))
        {
            entry.retry_at = until;
        }
    }

    /// Settles links that nobody has taken back in time.
    pub(super) fn take_for_granted(&mut self, now: Time) {
        let after = self.options.granted_after;
        let due = |link: &&mut Link<I, A>| link.joined_through && now.since(link.since) >= after;
        for link in self.links.iter_mut().filter(due) {
            (link.joined_through, link.settled) = (false, true);
        }
    }

    /// The giver needs no second link for us any more: its answer was final.
    pub(super) fn end_taking(&mut self, giver: I) {
        if matches!(&self.lock, Some(Lock::Take(part)) if part.giver == giver) {
            self.lock = None;
        }
    }

    /// The peer that let us in keeps us: it cannot take that back.
    pub(super) fn granted(&mut self, peer: I) {
        if let Some(link) = self.link_mut(peer) {
            (link.joined_through, link.settled) = (false, true);
        }
    }

    pub(super) fn settle(&mut self, peer: I) {
        if let Some(link) = self.link_mut(peer) {
            link.settled = true;
        }
    }

    /// A newcomer asks us to keep it.
    pub(super) fn on_join(
        &mut self,
        now: Time,
        from: I,
        terms: Terms<I, A>,
        need: u32,
        after: &mut Vec<Output<I, A>>,
    ) -> Response<I, A> {
        let listens = self.note_listens(from, &terms);
        let repeated = self.nonces.contains(&terms.nonce);
        let others = self.links.len() - 1;
        let room = others < self.options.max_links;
        let Some(link) = self.link_mut(from) else {
            return Response::Done { ok: false };
        };
        let again = std::mem::replace(&mut link.joined, true);
        // Two that dialled each other at once may each keep their own connection: then both join.
        let crossed = link.direction == Direction::Outbound && !again && !repeated;
        if crossed && room {
            link.settled = true;
        }
        let settled = link.settled;
        if again || repeated || crossed {
            if !crossed {
                self.offence(from, "joined twice", after);
            }
            let answer = if settled {
                Answer::Accepted
            } else {
                Answer::Refused
            };
            return Response::Joined {
                answer,
                contacts: Vec::new(),
            };
        }
        self.nonces.truncate(MAX_NONCES - 1);
        self.nonces.insert(0, terms.nonce);
        if self.expected() == Some(from) && self.fail_unattached(after) {
            // We expected it for a handover, but it has come by itself. As a sixth it is a visitor.
            let deadline = now + self.options.visit_timeout;
            if others >= self.options.max_links && self.lock.is_none() {
                self.lock = Some(Lock::Visit {
                    peer: from,
                    deadline,
                });
            }
        }
        let contacts = self.contacts_for(from, self.reach_of(from), MAX_CONTACTS);
        let ours = matches!(&self.lock, Some(Lock::Visit { peer, .. }) if *peer == from);
        // Who had room when his link came up keeps it, though a visitor came meanwhile.
        let room = room || settled;
        let free = (self.lock.is_none() || ours) && !self.penalised(now, from);
        let joined = |answer| Response::Joined { answer, contacts };
        if room {
            if ours {
                // Somebody went while the visitor spoke: it is no sixth link any more.
                self.lock = None;
            }
            self.settle(from);
        }

        // Below the hard target a newcomer is welcome as it is; so is one with two links already
        // while there is room, which brings mean degrees from 4 near to 5.
        let take = others < self.options.wanted_links || terms.links.len() > 2;
        if room && (take || !free) {
            return joined(Answer::Accepted);
        }
        if need >= 2
            && free
            && self.start_split(
                now,
                from,
                Terms {
                    dialable: !listens.is_empty(),
                    addresses: listens,
                    ..terms
                },
                after,
            )
        {
            return joined(Answer::Split);
        }
        if room {
            return joined(Answer::Accepted);
        }
        if need >= 1 && free && self.start_move(now, Why::Room(from), after) {
            return joined(Answer::Pending);
        }
        // Nobody can take a link: one that brings nothing yields.
        if need >= 1 && free && self.make_room(now, from, after) {
            self.lock = None;
            self.settle(from);
            return joined(Answer::Accepted);
        }
        joined(Answer::Refused)
    }

    /// What a peer says of where it listens, cut to what its link may name. It goes into the book, and from there to others,
    /// only for the host that the link comes from; what it says of another host is hearsay like any other.
    fn note_listens(&mut self, from: I, terms: &Terms<I, A>) -> Arc<[A]> {
        let addresses = if terms.dialable {
            &terms.addresses[..]
        } else {
            &[]
        };
        let listens: Arc<[A]> = in_scope(self.reach_of(from), addresses).into();
        let Some(link) = self.link_mut(from) else {
            return listens;
        };
        if link.direction == Direction::Inbound {
            link.listens = listens.clone();
            let own = link.own_listens();
            if own.is_empty() {
                let (id, addresses) = (from, listens.clone());
                let contact = Contact { id, addresses };
                self.book.heard(&self.options, &mut self.rng, contact);
            } else {
                self.book
                    .met(&self.options, &mut self.rng, from, own, false);
            }
        }
        listens
    }

    /// Whom a peer may try: our links, and others that we have been in contact with ourselves, where its
    /// link's scope lets us name them.
    pub(super) fn contacts_for(
        &mut self,
        peer: I,
        reach: Option<Reach>,
        count: usize,
    ) -> Vec<Contact<I, A>> {
        let links = self.links.iter().filter(|link| link.settled);
        let mut known: Vec<Contact<I, A>> = links
            .map(|link| Contact {
                id: link.peer,
                addresses: link.own_listens(),
            })
            .collect();
        for contact in self.book.sample(&mut self.rng, MAX_CONTACTS) {
            if known.iter().all(|other| other.id != contact.id) {
                known.push(contact);
            }
        }
        known.retain(|contact| contact.id != peer);
        for contact in &mut known {
            contact.addresses = in_scope(reach, &contact.addresses).into();
        }
        known.retain(|contact| !contact.addresses.is_empty());
        while known.len() > count {
            known.swap_remove(self.rng.random_range(0..known.len()));
        }
        known
    }

    /// Takes note of whom a link has named.
    pub(super) fn learn(&mut self, from: I, contacts: Vec<Contact<I, A>>, limit: usize) {
        let reach = self.reach_of(from);
        for contact in contacts.into_iter().take(limit) {
            let addresses: Arc<[A]> = in_scope(reach, &contact.addresses).into();
            if contact.id != self.me && !self.linked(contact.id) {
                let contact = Contact {
                    id: contact.id,
                    addresses,
                };
                self.book.heard(&self.options, &mut self.rng, contact);
            }
        }
    }

    pub(super) fn penalise(&mut self, now: Time, peer: I) {
        self.penalties
            .retain(|(id, until)| *until > now && *id != peer);
        self.penalties.truncate(MAX_PENALTIES - 1);
        self.penalties.insert(0, (peer, now + self.options.penalty));
    }

    pub(super) fn penalised(&self, now: Time, peer: I) -> bool {
        self.penalties
            .iter()
            .any(|(id, until)| *id == peer && *until > now)
    }
}
