//! Rate limiter for dials to addresses that others have named: by redirect hints, contacts, and their own announcements.
//!
//! Entry type: [`DialRateLimiter`]. The rule it keeps: whatever peers say, this node dials at most `dial_burst` addresses at
//! once and `dials_per_minute` after that, and in a `dial_pause` no address twice and no host more than
//! [`MAX_DIALS_OF_A_HOST`] times. Dials at which the named peer proves its key do not count.

use std::collections::VecDeque;
use std::time::Duration;

use super::address::Address;
use super::options::{MAX_ADDRESSES, Options};
use super::scope::Reach;
use crate::clock::Time;
use crate::rate_limit::{Rate, TokenBucket};

/// Maximum number of dials to one host within a `dial_pause`: several nodes may share an address, and yet no host is dialled
/// more than twice a minute by one node. Loopback addresses are exempt: a machine may run any number of nodes.
const MAX_DIALS_OF_A_HOST: usize = 2;

/// Counts the dials to addresses that others have named.
#[derive(Clone, Debug)]
pub(crate) struct DialRateLimiter<A> {
    bucket: TokenBucket,
    /// Addresses dialled within the pause, the oldest first. Bounded by the grants of the bucket in a pause.
    recent: VecDeque<(Time, A)>,
    pause: Duration,
}

impl<A: Address> DialRateLimiter<A> {
    pub(crate) fn new(options: &Options) -> DialRateLimiter<A> {
        let rate = Rate {
            burst: f64::from(options.dial_burst),
            per_second: options.dials_per_minute / 60.0,
        };
        DialRateLimiter {
            bucket: TokenBucket::new(rate, Time::ZERO),
            recent: VecDeque::new(),
            pause: options.dial_pause,
        }
    }

    /// Counts dials to these addresses of one peer, and returns those that may be dialled now.
    pub(crate) fn grant(&mut self, now: Time, addresses: &[A]) -> Vec<A> {
        self.forget(now);
        let mut granted = Vec::new();
        for address in addresses.iter().take(MAX_ADDRESSES) {
            if self.waits_until(address).is_none() && self.bucket.try_take(now) {
                self.recent.push_back((now, address.clone()));
                granted.push(address.clone());
            }
        }
        granted
    }

    /// Stops counting the last dial to an address, because the named peer has proved its key there.
    pub(crate) fn refund(&mut self, address: &A) {
        let dialled = self
            .recent
            .iter()
            .rposition(|(_, dialled)| dialled == address);
        if let Some(at) = dialled {
            self.recent.remove(at);
            self.bucket.refund();
        }
    }

    /// Returns the earliest time at which one of these addresses may be dialled, as seen at `now`.
    pub(crate) fn opens_at(&self, now: Time, addresses: &[A]) -> Time {
        let bucket = self.bucket.next_token_at().max(now);
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

    /// Returns the time until which an address is not dialled, because it or its host was dialled lately.
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
