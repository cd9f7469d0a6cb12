//! Batches that were handed to the application though the log does not keep them.
//!
//! Entry type: [`Handed`]. The rule it keeps: each is handed over once, as far as a bounded memory reaches.

use std::collections::{HashSet, VecDeque};

use crate::model::BatchId;

/// Maximum number of batches that are remembered: gossip brings none again after some minutes, and an author whose clock
/// is wrong by weeks is a person who types. 128 KiB.
const MAX_HANDED: usize = 2048;

/// Their ids, the oldest forgotten first.
#[derive(Debug, Default)]
pub(super) struct Handed {
    ids: HashSet<BatchId>,
    order: VecDeque<BatchId>,
}

impl Handed {
    /// Remembers a batch; false when it was remembered already.
    pub(super) fn add(&mut self, id: BatchId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > MAX_HANDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }

    /// Whether the batch was handed over.
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
    fn each_is_handed_over_once_and_the_memory_is_bounded() {
        let mut handed = Handed::default();
        for n in 0..MAX_HANDED {
            assert!(handed.add(id(n)) && !handed.add(id(n)));
        }
        assert!(handed.contains(&id(0)) && handed.add(id(MAX_HANDED)));
        assert!(!handed.contains(&id(0)) && handed.contains(&id(1)));
        assert_eq!(
            (handed.ids.len(), handed.order.len()),
            (MAX_HANDED, MAX_HANDED)
        );
    }
}
