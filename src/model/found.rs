//! Result of a lookup by id, as the log returns it to the responder of a fetch.
//!
//! Entry type: [`Found`].

use bytes::Bytes;

use super::item::Item;
use super::record::Id;

/// Envelopes and absences that a lookup of ids returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Envelopes of the held ids, in the order asked, as many as fit into the byte limit.
    pub envelopes: Vec<Bytes>,
    /// Ids that were looked up and are not held.
    pub missing: Vec<Id>,
    /// Batches that were looked up and of which only a tombstone is left.
    pub removed: Vec<Item>,
    /// Number of ids that were looked up before the byte limit ended the lookup.
    pub looked_at: usize,
}
