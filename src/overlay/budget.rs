//! What others can make this node dial, all of them together.
//!
//! Entry type: [`DialBudget`]. The rule it keeps: whatever hints, contacts and peers that speak of themselves say, this node
//! dials at most `dial_burst` addresses at once and `dials_per_minute` after that, none of them twice and none of a host's
//! more than [`MAX_DIALS_OF_A_HOST`] in a `dial_pause`, where nobody proves the key that was named.

use std::collections::VecDeque;
use std::time::Duration;

use super::address::Address;
use super::bucket::Bucket;
use super::options::{MAX_ADDRESSES, Options};
use super::scope::Reach;
use crate::clock::Time;

/// Addresses of one host that are dialled within a `dial_pause`: whoever has several nodes behind one address still gets
/// each of them dialled, and nobody is dialled more than twice a minute by one node. This machine's own do not count: they
/// are as many as somebody starts there.
const MAX_DIALS_OF_A_HOST: usize = 2;

/// Counts what others have made us dial.
#[derive(Clone, Debug)]
pub(crate) struct DialBudget<A> {
    bucket: Bucket,
    /// Dialled within the pause, the oldest first. Bounded by what the bucket grants in a pause.
    recent: VecDeque<(Time, A)>,
    pause: Duration,
}

impl<A: Address> DialBudget<A> {
    pub(crate) fn new(options: &Options) -> DialBudget<A> {
        DialBudget {
            bucket: Bucket::new(options.dial_burst, options.dials_per_minute),
            recent: VecDeque::new(),
            pause: options.dial_pause,
        }
    }

    /// Takes from the budget what there is for these addresses of one peer, and returns those that may be dialled now.
    pub(crate) fn grant(&mut self, now: Time, addresses: &[A]) -> Vec<A> {
        self.forget(now);
        let mut granted = Vec::new();
        for address in addresses.iter().take(MAX_ADDRESSES) {
            if self.waits_until(address).is_none() && self.bucket.take(now) {
                self.recent.push_back((now, address.clone()));
                granted.push(address.clone());
            }
        }
        granted
    }

    /// The peer that was named has proved its key at this address: the dial harmed nobody, and counts no more.
    pub(crate) fn give_back(&mut self, address: &A) {
        let dialled = self
            .recent
            .iter()
            .rposition(|(_, dialled)| dialled == address);
        if let Some(at) = dialled {
            self.recent.remove(at);
            self.bucket.give();
        }
    }

    /// When one of these addresses can be dialled at the earliest, as it looks now.
    pub(crate) fn opens_at(&self, now: Time, addresses: &[A]) -> Time {
        let bucket = self.bucket.next(now);
        let opens = |address: &A| self.waits_until(address).unwrap_or(now).max(bucket);
        let first = addresses.iter().take(MAX_ADDRESSES).map(opens).min();
        first.unwrap_or(bucket)
    }

    fn forget(&mut self, now: Time) {
        let is_over = |(at, _): &(Time, A)| now.since(*at) >= self.pause;
        while self.recent.front().is_some_and(is_over) {
            self.recent.pop_front();
        }
    }

    /// Until when this address is not dialled again, if it was lately, or others of its host were.
    fn waits_until(&self, address: &A) -> Option<Time> {
        let same = self
            .recent
            .iter()
            .rev()
            .find(|(_, dialled)| dialled == address);
        let host = address.host();
        let of_host = self
            .recent
            .iter()
            .rev()
            .filter(|(_, dialled)| dialled.host() == host);
        let crowded = of_host
            .filter(|_| address.reach() != Reach::Loopback)
            .nth(MAX_DIALS_OF_A_HOST - 1);
        let latest = same.map(|(at, _)| *at).max(crowded.map(|(at, _)| *at));
        latest.map(|at| at + self.pause)
    }
}
