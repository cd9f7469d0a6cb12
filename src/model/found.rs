//! What a log answers when a neighbour fetches batches.
//!
//! Entry type: [`Found`].

use bytes::Bytes;

use super::item::Item;
use super::record::Id;

/// What the log holds of some ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The envelopes of as many of the ids, in their order, as fit.
    pub envelopes: Vec<Bytes>,
    /// Those that are not held, of those looked at.
    pub missing: Vec<Id>,
    /// Those that were held and made room, of those looked at.
    pub removed: Vec<Item>,
    /// How many of the ids were looked at.
    pub looked_at: usize,
}
