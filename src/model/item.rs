//! A batch as rooms are compared.
//!
//! Entry type: [`Item`].

use super::record::Id;

/// An item of the comparison: when the batch was sent and its id, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Unix time in milliseconds, as signed by the author.
    pub sent_at_ms: u64,
    /// The batch id.
    pub id: Id,
}

impl Item {
    /// The first item that could have been sent at this time.
    pub const fn at(sent_at_ms: u64) -> Item {
        Item {
            sent_at_ms,
            id: [0; 32],
        }
    }
}
