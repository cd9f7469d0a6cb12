//! A batch in the set that anti-entropy compares.
//!
//! Entry type: [`Item`].

use super::record::Id;

/// Element of set reconciliation: sending time and id of a batch, sorted in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Unix time in milliseconds, as signed by the author.
    pub sent_at_ms: u64,
    /// Id of the batch.
    pub id: Id,
}

impl Item {
    /// Returns the smallest item with this sending time.
    pub const fn at(sent_at_ms: u64) -> Item {
        Item {
            sent_at_ms,
            id: [0; 32],
        }
    }
}
