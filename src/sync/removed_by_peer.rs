//! Batches that a neighbour has removed under its retention limits and that we lack.
//!
//! Entry type: [`RemovedByPeer`]. The rule it keeps: a batch that the neighbour no longer holds is requested from it
//! once, and then counts as held on both sides, so that the two agree; it is still requested from other neighbours. The
//! number of remembered batches is bounded: past it, a room is compared with this neighbour only from a later time on.

use std::collections::{BTreeMap, BTreeSet};

use super::items::Items;
use crate::model::{Id, Item};

/// Maximum number of batches that are remembered for one neighbour, over all rooms: 5 MiB of memory. Few in the tests.
pub(super) const MAX_REMOVED_BY_PEER: usize = if cfg!(test) { 512 } else { 1 << 17 };

/// The removed batches of one neighbour, by room.
#[derive(Debug, Default)]
pub(super) struct RemovedByPeer {
    rooms: BTreeMap<String, Items>,
    /// Batches whose time the neighbour did not state: they are not requested, but each round finds them lacking.
    untimed: BTreeSet<Id>,
}

impl RemovedByPeer {
    /// Returns the removed batches of a room.
    pub(super) fn of(&self, room: &str) -> Option<&Items> {
        self.rooms.get(room)
    }

    /// Returns whether the batch must not be requested, although rounds find it lacking.
    pub(super) fn is_untimed(&self, id: &Id) -> bool {
        !self.untimed.is_empty() && self.untimed.contains(id)
    }

    /// Adds batches of a room that the neighbour reported as removed; we hold `held`. If there is no room for all of
    /// them, returns the time from which on the room is to be compared with this neighbour, in Unix milliseconds.
    pub(super) fn add(&mut self, room: &str, removed: &[Item], held: &Items) -> Option<u64> {
        let mut later = None;
        for item in removed.iter().filter(|item| !held.contains(item)) {
            if self.len() >= MAX_REMOVED_BY_PEER {
                later = later.max(Some(item.sent_at_ms.saturating_add(1)));
            } else if item.sent_at_ms == 0 {
                self.untimed.insert(item.id);
            } else {
                self.rooms.entry(room.to_owned()).or_default().insert(*item);
            }
        }
        later
    }

    /// Removes a batch that we hold now.
    pub(super) fn hold(&mut self, room: &str, item: &Item) {
        if let Some(items) = self.rooms.get_mut(room) {
            items.remove(item);
        }
    }

    /// Removes the batches sent before this time, which are not compared any more.
    pub(super) fn forget_before(&mut self, room: &str, before_ms: u64) {
        if let Some(items) = self.rooms.get_mut(room) {
            items.remove_before(Item::at(before_ms));
        }
    }

    /// Removes the batches of a room that is not compared any more.
    pub(super) fn forget_room(&mut self, room: &str) {
        self.rooms.remove(room);
    }

    fn len(&self) -> usize {
        self.untimed.len() + self.rooms.values().map(Items::len).sum::<usize>()
    }
}
