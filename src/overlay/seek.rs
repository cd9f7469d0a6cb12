//! Finding links: whom to dial, when, and how long to wait after failures.
//!
//! The rules kept here: a node without links never stops trying, and never tries in step with
//! others; who has enough links dials nobody.

use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::address::{Address, Remote, in_scope};
use super::book::Known;
use super::event::*;
use super::message::{Contact, Request};
use super::options::MAX_REFERRALS;
use super::scope::Reach;
use super::state::{Dialling, EntryNode, Overlay, Sent};
use crate::clock::Time;

/// Dials in a row that may fail before the waits grow: after a third of all nodes died at once most
/// of an old book still holds, and waiting helps nobody.
const QUICK_TRIES: u32 = 8;
/// The wait between these.
const QUICK_PAUSE: Duration = Duration::from_millis(100);
/// The longest wait while somebody may be dialled, before chance makes it up to half longer. Whoever fails is left alone for ever longer by
/// itself, so a book of the dead costs a dial in this time at most, and who is back is found soon.
const STEADY_PAUSE: Duration = Duration::from_secs(2);
/// A dial that takes longer no longer keeps others from being started: the host is most likely gone.
const SLOW_DIAL: Duration = Duration::from_secs(1);
/// Dials in flight at most, slow ones included.
const MAX_IN_FLIGHT: usize = 8;

impl<I, A, R> Overlay<I, A, R>
where
    I: Copy + Ord + std::hash::Hash + std::fmt::Debug,
    A: Address,
    R: Rng,
{
    pub(super) fn on_entries(&mut self, now: Time, entries: Vec<Option<I>>) {
        self.entries = entries
            .into_iter()
            .map(|id| EntryNode {
                id,
                seen: id,
                failures: 0,
                retry_at: now,
            })
            .collect();
        self.seek_at = now;
    }

    /// When to look for links again, if any are wanted.
    pub(super) fn seek_deadline(&self) -> Option<Time> {
        if self.seeking(self.seek_at) {
            return Some(self.seek_at);
        }
        // A dial that is slow by then makes place for the next.
        let slow = self.dials.iter().map(|dial| dial.started + SLOW_DIAL);
        slow.filter(|at| *at > self.seek_at && self.seeking(*at))
            .min()
    }

    /// Whether one more dial is wanted at this time.
    fn seeking(&self, now: Time) -> bool {
        let own = |dial: &&Dialling<I>| {
            !matches!(dial.purpose, Purpose::Hint(_)) && now < dial.started + SLOW_DIAL
        };
        let (links, dials) = (self.links.len(), self.dials.iter().filter(own).count());
        let at_once = match links {
            0 => self.options.max_dials,
            n if n < self.options.min_links => 2,
            _ => 1,
        };
        let free = self.lock.is_none() || links == 0;
        let few = dials < at_once && self.dials.len() < MAX_IN_FLIGHT;
        free && few && links + dials < self.options.wanted_links
    }

    pub(super) fn seek(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        while self.seek_at <= now && self.seeking(now) {
            if !self.dial_somebody(now, out) {
                self.find_nobody(now, out);
            }
        }
    }

    /// Without links the entry nodes come first; with too few they do so in half of the cases, and
    /// in the others only when nobody else is known.
    fn dial_somebody(&mut self, now: Time, out: &mut Vec<Output<I, A>>) -> bool {
        if self.links.len() >= self.options.min_links {
            return self.dial_known(now, out);
        }
        let entries_first = self.links.is_empty() || !self.rng.random_bool(0.5);
        (entries_first && self.dial_entry(now, out))
            || self.dial_known(now, out)
            || (!entries_first && self.dial_entry(now, out))
    }

    fn dial_entry(&mut self, now: Time, out: &mut Vec<Output<I, A>>) -> bool {
        let fit = |at: &usize| {
            let entry = &self.entries[*at];
            let dialling = self.dials.iter().any(|dial| dial.entry == Some(*at));
            entry.retry_at <= now && !dialling && entry.seen.is_none_or(|id| self.suits(id))
        };
        let ready: Vec<usize> = (0..self.entries.len()).filter(fit).collect();
        if ready.is_empty() {
            return false;
        }
        let at = ready[self.rng.random_range(0..ready.len())];
        let (id, to) = (self.entries[at].id, Target::Entry(at));
        self.dial(now, id, to, Purpose::Entry, out);
        if let Some(dial) = self.dials.last_mut() {
            dial.entry = Some(at);
        }
        true
    }

    fn dial_known(&mut self, now: Time, out: &mut Vec<Output<I, A>>) -> bool {
        match self.pick(now) {
            Some(known) => self.dial_peer(now, known, Purpose::Seek, out),
            None => false,
        }
    }

    /// Somebody known to dial: neither linked nor on the way.
    pub(super) fn pick(&mut self, now: Time) -> Option<Known<I, A>> {
        let busy = self.busy_peers();
        let opens_at = |addresses: &[A]| self.budget.opens_at(now, addresses);
        let suits = |id| !busy.contains(&id);
        self.book.pick(now, &mut self.rng, suits, opens_at)
    }

    /// Dials a peer: where we have dialled it before, or, on another's word, at what the budget grants. Whether it did.
    pub(super) fn dial_peer(
        &mut self,
        now: Time,
        known: Known<I, A>,
        purpose: Purpose<I>,
        out: &mut Vec<Output<I, A>>,
    ) -> bool {
        let Contact { id, addresses } = known.contact;
        let addresses = match known.proved {
            true => addresses,
            false => self.budget.grant(now, &addresses).into(),
        };
        let any = !addresses.is_empty();
        if any {
            self.dial(now, Some(id), Target::Addresses(addresses), purpose, out);
        }
        any
    }

    /// Peers that must not be dialled: ourselves, those linked, on the way or just closed.
    pub(super) fn busy_peers(&self) -> Vec<I> {
        let links = self.links.iter().map(|link| link.peer);
        let dials = self.dials.iter().filter_map(|dial| dial.peer);
        let closing = self.closing.iter().map(|(id, _)| *id);
        let reserved = self.reserved.iter().map(|(id, _)| *id);
        std::iter::once(self.me)
            .chain(links)
            .chain(dials)
            .chain(closing)
            .chain(reserved)
            .collect()
    }

    fn suits(&self, id: I) -> bool {
        !self.busy_peers().contains(&id)
    }

    /// There is nobody to dial: ask a neighbour for others, or wait until somebody may be tried again.
    fn find_nobody(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        let able: Vec<I> = self
            .links
            .iter()
            .filter(|l| !l.plain)
            .map(|l| l.peer)
            .collect();
        if !able.is_empty() {
            let to = able[self.rng.random_range(0..able.len())];
            self.send(
                to,
                Sent::Shuffle,
                Request::Shuffle {
                    offered: Vec::new(),
                },
                out,
            );
        }
        let busy = self.busy_peers();
        let opens_at = |addresses: &[A]| self.budget.opens_at(now, addresses);
        let book = self.book.next_retry(|id| !busy.contains(&id), opens_at);
        let free = |entry: &&EntryNode<I>| entry.seen.is_none_or(|id| !busy.contains(&id));
        let entries = self
            .entries
            .iter()
            .filter(free)
            .map(|entry| entry.retry_at)
            .min();
        let entries = entries.filter(|_| self.links.len() < self.options.min_links);
        let next = book.into_iter().chain(entries).filter(|at| *at > now).min();
        // While a dial is under way its outcome decides, not this.
        if !able.is_empty() || (next.is_none() && self.dials.is_empty()) {
            self.failures = self.failures.saturating_add(1);
        }
        let wait = self.backoff(self.failures, self.options.max_backoff);
        let wait = next.map_or(wait, |next| next.since(now).min(wait).max(QUICK_PAUSE));
        self.seek_at = now + wait;
        if self.links.is_empty() && self.dials.is_empty() && self.failures > 0 {
            let (failures, backoff) = (self.failures, wait);
            out.push(Output::Report(Report::Searching { failures, backoff }));
        }
    }

    fn backoff(&mut self, failures: u32, most: Duration) -> Duration {
        let doubled = self.options.backoff * (1 << failures.min(16));
        self.jitter(doubled.min(most))
    }

    /// An entry node's id is known once it has answered.
    pub(super) fn entry_answered(&mut self, peer: I, dial: Option<&Dialling<I>>) {
        if let Some(entry) = dial.and_then(|dial| self.entries.get_mut(dial.entry?)) {
            entry.seen = Some(peer);
            entry.failures = 0;
        }
    }

    pub(super) fn on_dial_failed(
        &mut self,
        now: Time,
        dial: DialId,
        error: DialError<I, A>,
        out: &mut Vec<Output<I, A>>,
    ) {
        let Some(at) = self.dials.iter().position(|known| known.id == dial) else {
            return;
        };
        let dial = self.dials.swap_remove(at);
        if let (Purpose::Hint(_), Some(to)) = (dial.purpose, dial.peer) {
            self.on_hint_dial_failed(to, &error, out);
            return;
        }
        if error == DialError::Duplicate {
            return;
        }
        let busy = matches!(error, DialError::Busy { .. });
        let referred = matches!(&error, DialError::Busy { referrals, .. } if !referrals.is_empty());
        if let Some(at) = dial.entry.filter(|at| *at < self.entries.len()) {
            let failures = self.entries[at].failures.saturating_add(1);
            let most = if busy {
                self.options.max_busy_backoff
            } else {
                self.options.max_backoff
            };
            let wait = self.backoff(failures, most);
            (self.entries[at].failures, self.entries[at].retry_at) = (failures, now + wait);
        }
        if let DialError::Busy { remote, referrals } = error {
            self.refer(remote.reach, referrals);
            self.answered(&dial, remote.address.as_ref());
            let until = now + self.jitter(self.options.max_busy_backoff);
            if let Some(peer) = dial.peer {
                self.book.busy(until, peer);
            }
        } else {
            self.failures = self.failures.saturating_add(1);
            if let Some(peer) = dial.peer {
                self.book.failed(now, &mut self.rng, peer);
            }
        }
        let wait = if referred && self.links.len() < self.options.min_links {
            Duration::ZERO
        } else if self.failures <= QUICK_TRIES {
            self.jitter(QUICK_PAUSE)
        } else {
            self.backoff(self.failures - QUICK_TRIES, STEADY_PAUSE)
        };
        self.seek_at = now + wait;
    }

    /// The peer that we wanted to dial is there. What others have us dial in handovers counts all the same: each costs two
    /// more nodes their time.
    pub(super) fn answered(&mut self, dial: &Dialling<I>, address: Option<&A>) {
        let is_hint = matches!(dial.purpose, Purpose::Hint(_));
        if let Some(address) = address.filter(|_| !is_hint) {
            self.budget.give_back(address);
        }
    }

    /// A full node that was dialled names others: with too few links they are tried at once.
    pub(super) fn on_referred(
        &mut self,
        now: Time,
        remote: &Remote<A>,
        contacts: Vec<Contact<I, A>>,
    ) {
        let is_wanted = !contacts.is_empty() && self.links.len() < self.options.min_links;
        self.refer(remote.reach, contacts);
        if is_wanted {
            self.seek_at = self.seek_at.min(now);
        }
    }

    /// A full node that we have dialled names others.
    fn refer(&mut self, reach: Reach, referrals: Vec<Contact<I, A>>) {
        for Contact { id, addresses } in referrals.into_iter().take(MAX_REFERRALS) {
            let addresses: Arc<[A]> = in_scope(Some(reach), &addresses).into();
            if id != self.me && !self.linked(id) {
                self.book
                    .heard(&self.options, &mut self.rng, Contact { id, addresses });
            }
        }
    }

    /// Dials an anchor, or else an entry node or anybody of the book, so that links of our own
    /// choice come back.
    pub(super) fn dial_anchor(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        let busy = self.busy_peers();
        let free = |id: I| !busy.contains(&id);
        let anchor = self.book.pick_anchor(now, &mut self.rng, free);
        if let Some(known) = anchor {
            self.dial_peer(now, known, Purpose::Anchor, out);
            return;
        }
        let entry = self.entries.iter().position(|e| e.seen.is_some_and(free));
        if let Some(at) = entry {
            let id = self.entries[at].seen;
            return self.dial(now, id, Target::Entry(at), Purpose::Anchor, out);
        }
        let opens_at = |addresses: &[A]| self.budget.opens_at(now, addresses);
        let known = self.book.pick_known(now, &mut self.rng, free, opens_at);
        if let Some(known) = known {
            self.dial_peer(now, known, Purpose::Anchor, out);
            return;
        }
        // An entry node that has never answered may do so by now.
        let is_unmet = |at: &usize| {
            let entry = &self.entries[*at];
            let dialling = self.dials.iter().any(|d| d.entry == Some(*at));
            entry.seen.is_none() && entry.retry_at <= now && !dialling
        };
        if let Some(at) = (0..self.entries.len()).find(is_unmet) {
            self.dial(now, None, Target::Entry(at), Purpose::Anchor, out);
            if let Some(dial) = self.dials.last_mut() {
                dial.entry = Some(at);
            }
        }
    }
}
