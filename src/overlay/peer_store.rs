//! The peers that this node knows: the address book of verified peers, with which it has been in contact, and hearsay, peers
//! that others have named. Together they are HyParView's passive view (Leitão et al., 2007), split by trust.
//!
//! Entry type: [`PeerStore`]. The rule it keeps: hearsay never pushes out a verified peer, and an anchor is never dropped for
//! a failure.

use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::address::Address;
use super::message::Contact;
use super::options::{MAX_ADDRESSES, Options};
use crate::clock::Time;

/// Number of failures in a row after which a peer that is no anchor is forgotten.
const MAX_FAILURES: u32 = 5;
/// Maximum time before a known peer is dialled again.
const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(600);

/// A verified peer as it is kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved<I, A> {
    /// The peer.
    pub id: I,
    /// The addresses at which it listens.
    pub addresses: Vec<A>,
    /// Whether this node has dialled the peer there itself.
    pub proved: bool,
    /// Whether the peer is an anchor, which is kept although dials to it fail.
    pub anchor: bool,
}

/// A verified peer.
#[derive(Clone, Debug)]
struct Verified<I, A> {
    id: I,
    addresses: Arc<[A]>,
    /// This node has dialled the peer there. Otherwise the peer has named an address on the host of its own connection.
    proved: bool,
    anchor: bool,
    failures: u32,
    retry_at: Time,
}

impl<I: Copy, A: Clone> Verified<I, A> {
    fn known(&self) -> Known<I, A> {
        let (id, addresses) = (self.id, self.addresses.clone());
        Known {
            contact: Contact { id, addresses },
            proved: self.proved,
        }
    }

    /// Returns the time from which it may be dialled. An address that it has named itself is under the rate limit, too.
    fn ready_at(&self, opens_at: impl Fn(&[A]) -> Time) -> Time {
        match self.proved {
            true => self.retry_at,
            false => self.retry_at.max(opens_at(&self.addresses)),
        }
    }
}

/// A peer that others have named.
#[derive(Clone, Debug)]
struct Hearsay<I, A> {
    contact: Contact<I, A>,
    retry_at: Time,
}

impl<I: Copy, A: Clone> Hearsay<I, A> {
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
    /// This node has dialled the peer there before. Any other dial counts against the rate limit.
    pub(crate) proved: bool,
}

/// The known peers of one node.
#[derive(Clone, Debug)]
pub(crate) struct PeerStore<I, A> {
    verified: Vec<Verified<I, A>>,
    hearsay: Vec<Hearsay<I, A>>,
    /// Number of peers that were verified so far, up to `verified_memory`.
    contacts_seen: usize,
    changed: bool,
}

impl<I: Copy + Ord, A: Address> PeerStore<I, A> {
    pub(crate) fn new() -> PeerStore<I, A> {
        PeerStore {
            verified: Vec::new(),
            hearsay: Vec::new(),
            contacts_seen: 0,
            changed: false,
        }
    }

    /// Adds the peers that an earlier run has kept.
    pub(crate) fn load(&mut self, options: &Options, saved: Vec<Saved<I, A>>) {
        for Saved {
            id,
            addresses,
            proved,
            anchor,
        } in saved.into_iter().take(options.max_verified)
        {
            let anchor = anchor && self.anchors().count() < options.max_anchors;
            let addresses: Vec<A> = addresses.into_iter().take(MAX_ADDRESSES).collect();
            if !addresses.is_empty() && self.position(id).is_none() {
                let addresses = addresses.into();
                let retry_at = Time::ZERO;
                self.verified.push(Verified {
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

    /// Returns the verified peers, to be kept over a restart.
    pub(crate) fn saved(&self) -> Vec<Saved<I, A>> {
        let save = |entry: &Verified<I, A>| Saved {
            id: entry.id,
            addresses: entry.addresses.to_vec(),
            proved: entry.proved,
            anchor: entry.anchor,
        };
        self.verified.iter().map(save).collect()
    }

    /// Returns whether the verified peers have changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Returns whether no peer is verified.
    pub(crate) fn is_empty(&self) -> bool {
        self.verified.is_empty()
    }

    fn anchors(&self) -> impl Iterator<Item = &Verified<I, A>> {
        self.verified.iter().filter(|entry| entry.anchor)
    }

    fn position(&self, id: I) -> Option<usize> {
        self.verified.iter().position(|entry| entry.id == id)
    }

    /// Records contact with a peer that listens at these addresses. `proved` says that this node has dialled it there.
    pub(crate) fn add_verified<R: Rng>(
        &mut self,
        options: &Options,
        rng: &mut R,
        id: I,
        addresses: Arc<[A]>,
        proved: bool,
    ) {
        self.hearsay.retain(|heard| heard.contact.id != id);
        if addresses.is_empty() {
            return;
        }
        let anchor = proved && self.anchors().count() < options.max_anchors;
        if let Some(at) = self.position(id) {
            let entry = &mut self.verified[at];
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
        self.contacts_seen = self
            .contacts_seen
            .saturating_add(1)
            .min(options.verified_memory);
        if self.verified.len() >= options.max_verified {
            // Reservoir sampling: every peer that was ever verified is in the book with equal likelihood. Otherwise an entry node
            // would name only the latest newcomers to each other. A peer that fails is replaced first.
            let failing = self.verified.iter().any(|e| !e.anchor && e.failures > 0);
            let taken =
                failing || proved || rng.random_range(0..self.contacts_seen) < options.max_verified;
            let Some(at) = self.evictable(rng).filter(|_| taken) else {
                return;
            };
            self.verified.swap_remove(at);
        }
        let retry_at = Time::ZERO;
        self.verified.push(Verified {
            id,
            addresses,
            proved,
            anchor,
            failures: 0,
            retry_at,
        });
        self.changed = true;
    }

    /// Returns the position of a peer to replace: one that fails, or else a random one; never an anchor.
    fn evictable<R: Rng>(&self, rng: &mut R) -> Option<usize> {
        let free = || (0..self.verified.len()).filter(|&at| !self.verified[at].anchor);
        if let Some(at) = free().find(|&at| self.verified[at].failures > 0) {
            return Some(at);
        }
        let count = free().count();
        (count > 0).then(|| free().nth(rng.random_range(0..count)))?
    }

    /// Adds a peer that another one has named, in place of a random one when the hearsay is full.
    pub(crate) fn add_hearsay<R: Rng>(
        &mut self,
        options: &Options,
        rng: &mut R,
        contact: Contact<I, A>,
    ) {
        if contact.addresses.is_empty() || self.position(contact.id).is_some() {
            return;
        }
        let heard = Hearsay {
            contact,
            retry_at: Time::ZERO,
        };
        if let Some(known) = self
            .hearsay
            .iter_mut()
            .find(|known| known.contact.id == heard.contact.id)
        {
            known.contact = heard.contact;
        } else if self.hearsay.len() < options.max_hearsay {
            self.hearsay.push(heard);
        } else if !self.hearsay.is_empty() {
            let at = rng.random_range(0..self.hearsay.len());
            self.hearsay[at] = heard;
        }
    }

    /// Records that a dial to a peer has failed: it is retried with growing intervals, and forgotten after
    /// [`MAX_FAILURES`] unless it is an anchor. Hearsay is forgotten at once.
    pub(crate) fn record_failure<R: Rng>(&mut self, now: Time, rng: &mut R, id: I) {
        self.hearsay.retain(|heard| heard.contact.id != id);
        let Some(at) = self.position(id) else { return };
        let entry = &mut self.verified[at];
        entry.failures = entry.failures.saturating_add(1);
        let pause = Duration::from_secs(1) * (1 << entry.failures.min(10));
        entry.retry_at = now
            + pause
                .min(MAX_RETRY_INTERVAL)
                .mul_f64(rng.random_range(0.5..1.5));
        if !entry.anchor && entry.failures >= MAX_FAILURES {
            self.verified.swap_remove(at);
            self.changed = true;
        }
    }

    /// Postpones the next dial to a peer that had no place for this node.
    pub(crate) fn postpone(&mut self, until: Time, id: I) {
        if let Some(at) = self.position(id) {
            self.verified[at].retry_at = until;
        }
        if let Some(heard) = self.hearsay.iter_mut().find(|heard| heard.contact.id == id) {
            heard.retry_at = until;
        }
    }

    /// Ends all back-offs, as after a loss of all links.
    pub(crate) fn retry_all(&mut self, now: Time) {
        for entry in &mut self.verified {
            entry.retry_at = entry.retry_at.min(now);
        }
    }

    /// Returns a random peer to dial, verified or hearsay with equal likelihood, so that hearsay alone never decides. `opens_at`
    /// returns the time at which the rate limit lets addresses that others have named be dialled.
    pub(crate) fn pick<R: Rng>(
        &self,
        now: Time,
        rng: &mut R,
        suits: impl Fn(I) -> bool,
        opens_at: impl Fn(&[A]) -> Time,
    ) -> Option<Known<I, A>> {
        let known = |rng: &mut R| self.pick_verified(now, rng, &suits, &opens_at);
        let heard = |rng: &mut R| {
            let fit = |h: &&Hearsay<I, A>| h.ready_at(&opens_at) <= now && suits(h.contact.id);
            nth_random(rng, || self.hearsay.iter().filter(fit)).map(Hearsay::known)
        };
        if rng.random_bool(0.5) {
            known(rng).or_else(|| heard(rng))
        } else {
            heard(rng).or_else(|| known(rng))
        }
    }

    /// Returns a random verified peer to dial.
    pub(crate) fn pick_verified<R: Rng>(
        &self,
        now: Time,
        rng: &mut R,
        suits: impl Fn(I) -> bool,
        opens_at: impl Fn(&[A]) -> Time,
    ) -> Option<Known<I, A>> {
        let fit = |e: &&Verified<I, A>| e.ready_at(&opens_at) <= now && suits(e.id);
        nth_random(rng, || self.verified.iter().filter(fit)).map(Verified::known)
    }

    /// Returns a random anchor to dial.
    pub(crate) fn pick_anchor<R: Rng>(
        &self,
        now: Time,
        rng: &mut R,
        suits: impl Fn(I) -> bool,
    ) -> Option<Known<I, A>> {
        let fit = |e: &&Verified<I, A>| e.retry_at <= now && suits(e.id);
        nth_random(rng, || self.anchors().filter(fit)).map(Verified::known)
    }

    /// Returns the earliest time at which a suitable peer may be dialled.
    pub(crate) fn next_retry(
        &self,
        suits: impl Fn(I) -> bool,
        opens_at: impl Fn(&[A]) -> Time,
    ) -> Option<Time> {
        let entries = self.verified.iter().map(|e| (e.id, e.ready_at(&opens_at)));
        let heard = self
            .hearsay
            .iter()
            .map(|h| (h.contact.id, h.ready_at(&opens_at)));
        entries
            .chain(heard)
            .filter(|(id, _)| suits(*id))
            .map(|(_, at)| at)
            .min()
    }

    /// Returns up to `count` random verified peers that answer, for other nodes. Hearsay is never passed on: a hostile node
    /// could otherwise make the whole mesh dial an address of its choice.
    pub(crate) fn sample<R: Rng>(&self, rng: &mut R, count: usize) -> Vec<Contact<I, A>> {
        let fit: Vec<&Verified<I, A>> = self.verified.iter().filter(|e| e.failures == 0).collect();
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

/// Returns a random item of an iterator that can be run twice.
fn nth_random<T, R: Rng, It: Iterator<Item = T>>(rng: &mut R, items: impl Fn() -> It) -> Option<T> {
    let count = items().count();
    (count > 0).then(|| items().nth(rng.random_range(0..count)))?
}
