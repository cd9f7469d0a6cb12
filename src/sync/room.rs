//! A room as data checking sees it: its items, and how it stands with the neighbours.
//!
//! Entry type: [`Room`]. The rule it keeps: its memory is bounded; what no longer fits is compared no
//! more, as if it had been removed.

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
    /// With whom it is being compared.
    pub(super) busy_with: Option<P>,
    /// When it is compared with the next neighbour.
    pub(super) next_at: Time,
    /// With whom it was compared last at an interval.
    pub(super) in_turn: Option<P>,
    /// When the neighbours hear that they may be behind.
    pub(super) notify_at: Option<Time>,
    /// Who agrees, since when without a break, and when it was last seen.
    pub(super) agreed: BTreeMap<P, Agreement>,
    /// How many of the items are of batches that made room.
    pub(super) removed: u64,
    repaired: u64,
}

/// How long a neighbour has held the same as we.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// In every comparison since this time.
    pub since: Time,
    /// The last of them.
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

    /// The items that are compared.
    pub fn items(&self) -> &Items {
        &self.items
    }

    /// How many batches are held and compared: the items, but those that made room.
    pub fn held(&self) -> usize {
        let removed = usize::try_from(self.removed).unwrap_or(usize::MAX);
        self.items.len().saturating_sub(removed)
    }

    /// Nothing sent before this Unix millisecond is compared.
    pub fn low_watermark_ms(&self) -> u64 {
        self.low_watermark_ms
    }

    /// The neighbours with whom the last comparison ended in agreement.
    pub fn agreed(&self) -> &BTreeMap<P, Agreement> {
        &self.agreed
    }

    /// How many batches data checking has brought.
    pub fn repaired(&self) -> u64 {
        self.repaired
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Takes what the log held; what was stored meanwhile is there already.
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

    /// Notes the end of a comparison.
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
        // Some more than need be, so that this is rare.
        let first_kept = self.items.iter_from(MAX_ITEMS / 16).next();
        let Some(low_watermark_ms) = first_kept.map(|item| item.sent_at_ms + 1) else {
            return;
        };
        self.forget_before(low_watermark_at(low_watermark_ms, unix_ms));
        // So many in the last minutes: the bound of the memory comes first. What is sent later is compared again.
        if self.items.len() > MAX_ITEMS {
            self.forget_before(low_watermark_ms);
        }
    }
}
