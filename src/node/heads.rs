//! The heads of this node's own batches: the batches that the next one follows, for each room.
//!
//! Entry type: [`Heads`]. The rule it keeps: the heads always contain the previous batch of this run of the node;
//! batches that other runs with the same identity have sent are heads until one batch has named them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libp2p::PeerId;

use crate::gossip::{MAX_PREV, VerifiedBatch};
use crate::model::{BatchId, RoomName};

/// Maximum number of ids for each room that batches of other runs have named and that had not arrived by then. They are
/// remembered so that a late arrival is not taken for a head.
const MAX_NAMED: usize = 64;

/// A batch of an earlier run in the log.
#[derive(Clone, Debug)]
pub(crate) struct EarlierBatch {
    pub(crate) id: BatchId,
    pub(crate) sent_at_ms: u64,
    /// Whether it is the last of its run.
    pub(crate) is_last: bool,
    /// The batches that it names as predecessors.
    pub(crate) prev: Vec<BatchId>,
}

/// The heads of one identity; shared by the task that signs and the one that stores.
#[derive(Debug)]
pub(crate) struct Heads {
    own: PeerId,
    instance_id: [u8; 16],
    rooms: Mutex<HashMap<RoomName, Room>>,
}

#[derive(Debug, Default)]
struct Room {
    /// Whether the log's batches of this room have been read.
    is_read: bool,
    /// The last batch of this run.
    last: Option<BatchId>,
    /// The heads of other runs, the newest last.
    others: Vec<(u64, BatchId)>,
    /// The batches that batches of other runs have named.
    named: VecDeque<BatchId>,
}

impl Heads {
    pub(crate) fn new(own: PeerId, instance_id: [u8; 16]) -> Heads {
        Heads {
            own,
            instance_id,
            rooms: Mutex::default(),
        }
    }

    /// Returns whether the log's batches of this room have yet to be read.
    pub(crate) fn needs_earlier(&self, room: &RoomName) -> bool {
        self.rooms().get(room).is_none_or(|room| !room.is_read)
    }

    /// Adds the batches of earlier runs in the log.
    pub(crate) fn add_earlier(&self, room: &RoomName, left: Vec<EarlierBatch>) {
        let mut rooms = self.rooms();
        let room = rooms.entry(room.clone()).or_default();
        room.is_read = true;
        for batch in &left {
            room.follow(&batch.prev);
        }
        // Batches named by others in the list are not heads, in whatever order they arrived.
        let named: Vec<BatchId> = left.iter().flat_map(|batch| batch.prev.clone()).collect();
        for batch in left {
            if batch.is_last && !named.contains(&batch.id) {
                room.add(batch.sent_at_ms, batch.id);
            }
        }
    }

    /// Adds a stored batch if another run of this identity has sent it.
    pub(crate) fn add_stored(&self, batch: &VerifiedBatch) {
        if batch.author() != self.own || batch.instance_id() == self.instance_id {
            return;
        }
        let mut rooms = self.rooms();
        let room = rooms.entry(batch.room().clone()).or_default();
        room.follow(batch.prev());
        room.add(batch.sent_at_ms(), batch.id());
    }

    /// Returns the batches that the next one of this run follows.
    pub(crate) fn next(&self, room: &RoomName) -> Vec<BatchId> {
        let rooms = self.rooms();
        let Some(room) = rooms.get(room) else {
            return Vec::new();
        };
        let others = room.others.iter().rev().map(|(_, id)| *id);
        room.last.into_iter().chain(others).take(MAX_PREV).collect()
    }

    /// Records a sent batch of this run that named `prev`.
    pub(crate) fn record_sent(&self, room: &RoomName, prev: &[BatchId], id: BatchId) {
        let mut rooms = self.rooms();
        let room = rooms.entry(room.clone()).or_default();
        room.last = Some(id);
        room.follow(prev);
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomName, Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    fn follow(&mut self, prev: &[BatchId]) {
        for id in prev {
            self.others.retain(|(_, other)| other != id);
            if !self.named.contains(id) {
                self.named.push_back(*id);
            }
        }
        let surplus = self.named.len().saturating_sub(MAX_NAMED);
        self.named.drain(..surplus);
    }

    fn add(&mut self, sent_at_ms: u64, id: BatchId) {
        let is_known = self.others.iter().any(|(_, other)| *other == id);
        if is_known || self.named.contains(&id) {
            return;
        }
        self.others.push((sent_at_ms, id));
        self.others.sort_unstable();
        let surplus = self.others.len().saturating_sub(MAX_PREV);
        self.others.drain(..surplus);
    }
}

#[cfg(test)]
mod tests;
