//! Whom we know: the address book of peers we have been in contact with, and the pool of those we
//! have only heard of. Together they are HyParView's passive view (Leitão et al., 2007), split by
//! what the knowledge is worth.
//!
//! Entry type: [`Book`]. The rule it keeps: hearsay never pushes out experience, and an anchor is
//! never dropped for a failure.

use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::address::Address;
use super::message::Contact;
use super::options::{MAX_ADDRESSES, Options};
use crate::clock::Time;

/// Failures in a row after which a peer that is no anchor is forgotten.
const MAX_FAILURES: u32 = 5;
/// Longest pause before a known peer is dialled again.
const MAX_PAUSE: Duration = Duration::from_secs(600);

/// A peer as it is kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved<I, A> {
    /// Who.
    pub id: I,
    /// Where.
    pub addresses: Vec<A>,
    /// Whether we have dialled it there ourselves.
    pub proved: bool,
    /// Whether it is an anchor.
    pub anchor: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry<I, A> {
    pub(crate) id: I,
    pub(crate) addresses: Arc<[A]>,
    /// We have dialled it there; otherwise it told us so itself, of the host that its link comes from.
    pub(crate) proved: bool,
    pub(crate) anchor: bool,
    failures: u32,
    retry_at: Time,
}

impl<I: Copy, A: Clone> Entry<I, A> {
    fn known(&self) -> Known<I, A> {
        let (id, addresses) = (self.id, self.addresses.clone());
        Known {
            contact: Contact { id, addresses },
            proved: self.proved,
        }
    }

    /// When it may be dialled: what it has said of itself is another's word.
    fn ready_at(&self, opens_at: impl Fn(&[A]) -> Time) -> Time {
        match self.proved {
            true => self.retry_at,
            false => self.retry_at.max(opens_at(&self.addresses)),
        }
    }
}

#[derive(Clone, Debug)]
struct Heard<I, A> {
    contact: Contact<I, A>,
    retry_at: Time,
}

impl<I: Copy, A: Clone> Heard<I, A> {
    fn known(&self) -> Known<I, A> {
        Known {
            contact: self.contact.clone(),
            proved: false,
        }
    }

    fn ready_at(&self, opens_at: impl Fn(&[A]) -> Time) -> Time {
        self.retry_at.max(opens_at(&self.contact.addresses))
    }
}

/// A peer to dial.
#[derive(Clone, Debug)]
pub(crate) struct Known<I, A> {
    pub(crate) contact: Contact<I, A>,
    /// We have dialled it there before. Otherwise the dial rests on another's word, and is counted as such.
    pub(crate) proved: bool,
}

/// The address book and the pool.
#[derive(Clone, Debug)]
pub(crate) struct Book<I, A> {
    entries: Vec<Entry<I, A>>,
    pool: Vec<Heard<I, A>>,
    /// Peers that were met, up to `book_memory`.
    met: usize,
    changed: bool,
}

impl<I: Copy + Ord, A: Address> Book<I, A> {
    pub(crate) fn new() -> Book<I, A> {
        Book {
            entries: Vec::new(),
            pool: Vec::new(),
            met: 0,
            changed: false,
        }
    }

    /// Takes over what an earlier run has kept.
    pub(crate) fn load(&mut self, options: &Options, saved: Vec<Saved<I, A>>) {
        for Saved {
            id,
            addresses,
            proved,
            anchor,
        } in saved.into_iter().take(options.book)
        {
            let anchor = anchor && self.anchors().count() < options.anchors;
            let addresses: Vec<A> = addresses.into_iter().take(MAX_ADDRESSES).collect();
            if !addresses.is_empty() && self.position(id).is_none() {
                let addresses = addresses.into();
                let retry_at = Time::ZERO;
                self.entries.push(Entry {
                    id,
                    addresses,
                    proved,
                    anchor,
                    failures: 0,
                    retry_at,
                });
            }
        }
    }

    pub(crate) fn saved(&self) -> Vec<Saved<I, A>> {
        let save = |entry: &Entry<I, A>| Saved {
            id: entry.id,
            addresses: entry.addresses.to_vec(),
            proved: entry.proved,
            anchor: entry.anchor,
        };
        self.entries.iter().map(save).collect()
    }

    /// Whether something worth keeping changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn anchors(&self) -> impl Iterator<Item = &Entry<I, A>> {
        self.entries.iter().filter(|entry| entry.anchor)
    }

    fn position(&self, id: I) -> Option<usize> {
        self.entries.iter().position(|entry| entry.id == id)
    }

    /// We are in contact with this peer, which listens at these addresses.
    pub(crate) fn met<R: Rng>(
        &mut self,
        options: &Options,
        rng: &mut R,
        id: I,
        addresses: Arc<[A]>,
        proved: bool,
    ) {
        self.pool.retain(|heard| heard.contact.id != id);
        if addresses.is_empty() {
            return;
        }
        let anchor = proved && self.anchors().count() < options.anchors;
        if let Some(at) = self.position(id) {
            let entry = &mut self.entries[at];
            entry.failures = 0;
            entry.retry_at = Time::ZERO;
            if proved || !entry.proved {
                self.changed |= entry.addresses != addresses || entry.proved != proved;
                entry.addresses = addresses;
                entry.proved = proved;
            }
            self.changed |= anchor && !entry.anchor;
            entry.anchor |= anchor;
            return;
        }
        self.met = self.met.saturating_add(1).min(options.book_memory);
        if self.entries.len() >= options.book {
            // Of all that were met, one as likely as the other is in the book, so that it is a sample of the past and not
            // only of its end: what an entry node tells newcomers would else be each other. One that fails goes first.
            let failing = self.entries.iter().any(|e| !e.anchor && e.failures > 0);
            let taken = failing || proved || rng.random_range(0..self.met) < options.book;
            let Some(at) = self.evictable(rng).filter(|_| taken) else {
                return;
            };
            self.entries.swap_remove(at);
        }
        let retry_at = Time::ZERO;
        self.entries.push(Entry {
            id,
            addresses,
            proved,
            anchor,
            failures: 0,
            retry_at,
        });
        self.changed = true;
    }

    fn evictable<R: Rng>(&self, rng: &mut R) -> Option<usize> {
        let free = || (0..self.entries.len()).filter(|&at| !self.entries[at].anchor);
        if let Some(at) = free().find(|&at| self.entries[at].failures > 0) {
            return Some(at);
        }
        let count = free().count();
        (count > 0).then(|| free().nth(rng.random_range(0..count)))?
    }

    /// Somebody has named this peer.
    pub(crate) fn heard<R: Rng>(&mut self, options: &Options, rng: &mut R, contact: Contact<I, A>) {
        if contact.addresses.is_empty() || self.position(contact.id).is_some() {
            return;
        }
        let heard = Heard {
            contact,
            retry_at: Time::ZERO,
        };
        if let Some(known) = self
            .pool
            .iter_mut()
            .find(|known| known.contact.id == heard.contact.id)
        {
            known.contact = heard.contact;
        } else if self.pool.len() < options.pool {
            self.pool.push(heard);
        } else if !self.pool.is_empty() {
            let at = rng.random_range(0..self.pool.len());
            self.pool[at] = heard;
        }
    }

    /// A dial to this peer has failed.
    pub(crate) fn failed<R: Rng>(&mut self, now: Time, rng: &mut R, id: I) {
        self.pool.retain(|heard| heard.contact.id != id);
        let Some(at) = self.position(id) else { return };
        let entry = &mut self.entries[at];
        entry.failures = entry.failures.saturating_add(1);
        let pause = Duration::from_secs(1) * (1 << entry.failures.min(10));
        entry.retry_at = now + pause.min(MAX_PAUSE).mul_f64(rng.random_range(0.5..1.5));
        if !entry.anchor && entry.failures >= MAX_FAILURES {
            self.entries.swap_remove(at);
            self.changed = true;
        }
    }

    /// This peer had no place for us: it lives, and is left alone for a moment.
    pub(crate) fn busy(&mut self, until: Time, id: I) {
        if let Some(at) = self.position(id) {
            self.entries[at].retry_at = until;
        }
        if let Some(heard) = self.pool.iter_mut().find(|heard| heard.contact.id == id) {
            heard.retry_at = until;
        }
    }

    /// All waits end: everything that was known may work again.
    pub(crate) fn retry_all(&mut self, now: Time) {
        for entry in &mut self.entries {
            entry.retry_at = entry.retry_at.min(now);
        }
    }

    /// A random peer to dial: from the book and from the pool alternately by chance, so that
    /// hearsay alone never decides. `opens_at` says when addresses may be dialled on another's word.
    pub(crate) fn pick<R: Rng>(
        &self,
        now: Time,
        rng: &mut R,
        suits: impl Fn(I) -> bool,
        opens_at: impl Fn(&[A]) -> Time,
    ) -> Option<Known<I, A>> {
        let known = |rng: &mut R| self.pick_known(now, rng, &suits, &opens_at);
        let heard = |rng: &mut R| {
            let fit = |h: &&Heard<I, A>| h.ready_at(&opens_at) <= now && suits(h.contact.id);
            nth_random(rng, || self.pool.iter().filter(fit)).map(Heard::known)
        };
        if rng.random_bool(0.5) {
            known(rng).or_else(|| heard(rng))
        } else {
            heard(rng).or_else(|| known(rng))
        }
    }

    /// A random peer of the book to dial, never hearsay.
    pub(crate) fn pick_known<R: Rng>(
        &self,
        now: Time,
        rng: &mut R,
        suits: impl Fn(I) -> bool,
        opens_at: impl Fn(&[A]) -> Time,
    ) -> Option<Known<I, A>> {
        let fit = |e: &&Entry<I, A>| e.ready_at(&opens_at) <= now && suits(e.id);
        nth_random(rng, || self.entries.iter().filter(fit)).map(Entry::known)
    }

    /// A random anchor to dial.
    pub(crate) fn pick_anchor<R: Rng>(
        &self,
        now: Time,
        rng: &mut R,
        suits: impl Fn(I) -> bool,
    ) -> Option<Known<I, A>> {
        let fit = |e: &&Entry<I, A>| e.retry_at <= now && suits(e.id);
        nth_random(rng, || self.anchors().filter(fit)).map(Entry::known)
    }

    /// When the earliest wait of a suitable peer ends.
    pub(crate) fn next_retry(
        &self,
        suits: impl Fn(I) -> bool,
        opens_at: impl Fn(&[A]) -> Time,
    ) -> Option<Time> {
        let entries = self.entries.iter().map(|e| (e.id, e.ready_at(&opens_at)));
        let heard = self
            .pool
            .iter()
            .map(|h| (h.contact.id, h.ready_at(&opens_at)));
        entries
            .chain(heard)
            .filter(|(id, _)| suits(*id))
            .map(|(_, at)| at)
            .min()
    }

    /// Up to `count` random peers of the book that answer, for telling others: never one of the pool, since whoever passed
    /// on what it has only heard would have others dial wherever somebody said.
    pub(crate) fn sample<R: Rng>(&self, rng: &mut R, count: usize) -> Vec<Contact<I, A>> {
        let fit: Vec<&Entry<I, A>> = self.entries.iter().filter(|e| e.failures == 0).collect();
        take_random(rng, fit, count)
            .into_iter()
            .map(|entry| entry.known().contact)
            .collect()
    }
}

fn take_random<T, R: Rng>(rng: &mut R, mut from: Vec<T>, count: usize) -> Vec<T> {
    while from.len() > count {
        from.swap_remove(rng.random_range(0..from.len()));
    }
    from
}

/// A random item of an iterator that can be run twice.
fn nth_random<T, R: Rng, It: Iterator<Item = T>>(rng: &mut R, items: impl Fn() -> It) -> Option<T> {
    let count = items().count();
    (count > 0).then(|| items().nth(rng.random_range(0..count)))?
}
