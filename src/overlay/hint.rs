//! What a redirect hint may make this node dial.
//!
//! Entry type: [`HintGuard`]. The rule it keeps: whatever others say, this node dials at most
//! `hint_burst` addresses at once and `hints_per_minute` after that, one address once a minute,
//! and none in a narrower scope than the link the hint came over.

use std::collections::VecDeque;

use super::address::{Address, Reach};
use super::bucket::Bucket;
use super::event::HintOutcome;
use super::options::{MAX_ADDRESSES, Options};
use crate::clock::Time;

/// Addresses dialled for one hint: the two likeliest, commonly one of each IP version.
const ADDRESSES_A_HINT: usize = 2;

/// Counts what hints have made us dial.
#[derive(Clone, Debug)]
pub(crate) struct HintGuard<A> {
    bucket: Bucket,
    /// Dialled within `hint_pause`. Bounded by the bucket: a minute's grants.
    recent: VecDeque<(Time, A)>,
}

impl<A: Address> HintGuard<A> {
    pub(crate) fn new(options: &Options) -> HintGuard<A> {
        let bucket = Bucket::new(options.hint_burst, options.hints_per_minute);
        HintGuard {
            bucket,
            recent: VecDeque::new(),
        }
    }

    /// The addresses to dial for a hint that came over a link of this reach, or why there are none.
    pub(crate) fn screen(
        &mut self,
        now: Time,
        options: &Options,
        link: Option<Reach>,
        addresses: &[A],
    ) -> Result<Vec<A>, HintOutcome> {
        let allowed = in_scope(link, addresses);
        if allowed.is_empty() {
            return Err(HintOutcome::Scope);
        }
        while self
            .recent
            .front()
            .is_some_and(|(at, _)| now.since(*at) >= options.hint_pause)
        {
            self.recent.pop_front();
        }
        let mut granted = Vec::new();
        for address in allowed {
            if granted.len() == ADDRESSES_A_HINT {
                break;
            }
            let fresh = self.recent.iter().all(|(_, dialled)| *dialled != address);
            if fresh && self.bucket.take(now) {
                self.recent.push_back((now, address.clone()));
                granted.push(address);
            }
        }
        if granted.is_empty() {
            Err(HintOutcome::TooMany)
        } else {
            Ok(granted)
        }
    }
}

/// Those of a peer's addresses that a link of this reach may name, its own scope first: the network
/// that carries this link most likely carries the next one.
pub(crate) fn in_scope<A: Address>(link: Option<Reach>, addresses: &[A]) -> Vec<A> {
    // A link over an address without a known reach counts as public: it may name the least.
    let link = link.unwrap_or(Reach::Public);
    let mut allowed: Vec<A> = addresses
        .iter()
        .take(MAX_ADDRESSES)
        .filter(|address| address.reach().is_some_and(|reach| reach >= link))
        .cloned()
        .collect();
    allowed.sort_by_key(|address| address.reach());
    allowed
}
