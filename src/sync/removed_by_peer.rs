//! What a neighbour has removed to make room, as far as we lack it.
//!
//! Entry type: [`RemovedByPeer`]. The rule it keeps: what the neighbour no longer holds is asked of it once, and counts as
//! held on both sides from then on, so that the two agree; towards other neighbours it is lacking as before. What
//! is remembered is bounded: past that a room is compared with this neighbour only from later on.

use std::collections::{BTreeMap, BTreeSet};

use super::items::Items;
use crate::model::{Id, Item};

/// The most batches that are remembered of one neighbour, in all rooms: 5 MiB of memory. Few in the tests.
pub(super) const MAX_REMOVED_BY_PEER: usize = if cfg!(test) { 512 } else { 1 << 17 };

/// The batches, by room.
#[derive(Debug, Default)]
pub(super) struct RemovedByPeer {
    rooms: BTreeMap<String, Items>,
    /// Those of which the neighbour did not say when they were sent: they are not asked for, but found lacking each time.
    untimed: BTreeSet<Id>,
}

impl RemovedByPeer {
    /// Those of a room.
    pub(super) fn of(&self, room: &str) -> Option<&Items> {
        self.rooms.get(room)
    }

    /// Whether the batch is one of those that are not to be asked for, although they are found lacking.
    pub(super) fn is_untimed(&self, id: &Id) -> bool {
        !self.untimed.is_empty() && self.untimed.contains(id)
    }

    /// The neighbour has said that it removed these of a room, of which we hold `held`. When there is no room for all
    /// of them, returns the time from which on the room is to be compared with it.
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

    /// We hold it now.
    pub(super) fn hold(&mut self, room: &str, item: &Item) {
        if let Some(items) = self.rooms.get_mut(room) {
            items.remove(item);
        }
    }

    /// Nothing before this time is compared any more.
    pub(super) fn forget_before(&mut self, room: &str, before_ms: u64) {
        if let Some(items) = self.rooms.get_mut(room) {
            items.remove_before(Item::at(before_ms));
        }
    }

    /// The room is not compared any more.
    pub(super) fn forget_room(&mut self, room: &str) {
        self.rooms.remove(room);
    }

    fn len(&self) -> usize {
        self.untimed.len() + self.rooms.values().map(Items::len).sum::<usize>()
    }
}
