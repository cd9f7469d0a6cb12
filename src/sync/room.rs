//! Anti-entropy's state of a room ("data checking"): its items, and the agreement with each neighbour.
//!
//! Entry type: [`Room`]. The rule it keeps: its memory is bounded; the oldest items past the bound are not compared any
//! more, as if they had been removed.

use std::collections::BTreeMap;

use super::items::Items;
use crate::clock::Time;
use crate::model::{Item, MAX_ITEMS, low_watermark_at};

/// A room that we are in.
#[derive(Debug)]
pub struct Room<P> {
    items: Items,
    low_watermark_ms: u64,
    loaded: bool,
    /// The neighbour with which a round is in progress.
    pub(super) busy_with: Option<P>,
    /// Time of the round with the next neighbour.
    pub(super) next_at: Time,
    /// The neighbour of the last round at an interval.
    pub(super) in_turn: Option<P>,
    /// Time at which the neighbours are notified that they may lag.
    pub(super) notify_at: Option<Time>,
    /// Neighbours that agree, with the time of the agreement.
    pub(super) agreed: BTreeMap<P, Agreement>,
    /// Number of items whose batches were removed under the retention limits.
    pub(super) removed: u64,
    repaired: u64,
}

/// The time during which a neighbour has held the same batches as we.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Time of the first round in the unbroken series.
    pub since: Time,
    /// Time of the last round.
    pub last: Time,
}

impl<P: Clone + Ord> Room<P> {
    pub(super) fn new(next_at: Time) -> Room<P> {
        Room {
            items: Items::new(),
            low_watermark_ms: 0,
            loaded: false,
            busy_with: None,
            next_at,
            in_turn: None,
            notify_at: None,
            agreed: BTreeMap::new(),
            removed: 0,
            repaired: 0,
        }
    }

    /// Returns the items that are compared.
    pub fn items(&self) -> &Items {
        &self.items
    }

    /// Returns the number of batches that are held and compared: all items but those of removed batches.
    pub fn held(&self) -> usize {
        let removed = usize::try_from(self.removed).unwrap_or(usize::MAX);
        self.items.len().saturating_sub(removed)
    }

    /// Returns the low watermark: batches sent before this Unix millisecond are not compared.
    pub fn low_watermark_ms(&self) -> u64 {
        self.low_watermark_ms
    }

    /// Returns the neighbours whose last round ended in agreement.
    pub fn agreed(&self) -> &BTreeMap<P, Agreement> {
        &self.agreed
    }

    /// Returns the number of batches that anti-entropy has fetched.
    pub fn repaired(&self) -> u64 {
        self.repaired
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Adds the items of the log. Those stored since the log was read are already present.
    pub(super) fn load(&mut self, unix_ms: u64, low_watermark_ms: u64, items: Vec<Item>) {
        let meanwhile = std::mem::replace(&mut self.items, items.into_iter().collect());
        for item in meanwhile.iter_from(0) {
            self.items.insert(*item);
        }
        self.loaded = true;
        self.forget_before(low_watermark_ms);
        self.keep_bound(unix_ms);
    }

    pub(super) fn add(&mut self, unix_ms: u64, item: Item) {
        if item.sent_at_ms >= self.low_watermark_ms {
            self.items.insert(item);
            self.keep_bound(unix_ms);
        }
    }

    pub(super) fn forget_before(&mut self, low_watermark_ms: u64) {
        self.low_watermark_ms = self.low_watermark_ms.max(low_watermark_ms);
        self.items.remove_before(Item::at(self.low_watermark_ms));
    }

    /// Records the result of a round.
    pub(super) fn note(&mut self, now: Time, peer: &P, agreed: bool, repaired: u64) {
        self.repaired += repaired;
        if agreed {
            let agreement = self.agreed.entry(peer.clone()).or_insert(Agreement {
                since: now,
                last: now,
            });
            agreement.last = now;
        } else {
            self.agreed.remove(peer);
        }
    }

    fn keep_bound(&mut self, unix_ms: u64) {
        if self.items.len() <= MAX_ITEMS {
            return;
        }
        // Remove more than necessary, so that this is rare.
        let first_kept = self.items.iter_from(MAX_ITEMS / 16).next();
        let Some(low_watermark_ms) = first_kept.map(|item| item.sent_at_ms + 1) else {
            return;
        };
        self.forget_before(low_watermark_at(low_watermark_ms, unix_ms));
        // All of them were sent in the last minutes: the memory bound comes first. Later batches are compared again.
        if self.items.len() > MAX_ITEMS {
            self.forget_before(low_watermark_ms);
        }
    }
}
