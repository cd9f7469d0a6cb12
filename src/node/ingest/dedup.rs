//! Dedup of batches that are delivered to the application although the log does not keep them. The log deduplicates all
//! others.
//!
//! Entry type: [`DeliveredIds`], pure. The rule it keeps: each batch is delivered once, within a bounded memory.

use std::collections::{HashSet, VecDeque};

use crate::model::BatchId;

/// Maximum number of remembered batches, 128 KiB: gossip repeats none after some minutes, and an author with a clock that is
/// wrong by weeks is a person at a keyboard.
const MAX_DELIVERED_IDS: usize = 2048;

/// The ids of delivered batches, the oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct DeliveredIds {
    ids: HashSet<BatchId>,
    order: VecDeque<BatchId>,
}

impl DeliveredIds {
    /// Remembers a batch. Returns false when it is remembered already.
    pub(super) fn insert(&mut self, id: BatchId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > MAX_DELIVERED_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }

    /// Returns whether the batch was delivered.
    pub(super) fn contains(&self, id: &BatchId) -> bool {
        self.ids.contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> BatchId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        BatchId(id)
    }

    #[test]
    fn each_is_delivered_once_and_the_memory_is_bounded() {
        let mut delivered = DeliveredIds::default();
        for n in 0..MAX_DELIVERED_IDS {
            assert!(delivered.insert(id(n)) && !delivered.insert(id(n)));
        }
        assert!(delivered.contains(&id(0)) && delivered.insert(id(MAX_DELIVERED_IDS)));
        assert!(!delivered.contains(&id(0)) && delivered.contains(&id(1)));
        assert_eq!(
            (delivered.ids.len(), delivered.order.len()),
            (MAX_DELIVERED_IDS, MAX_DELIVERED_IDS)
        );
    }
}
