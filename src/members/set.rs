//! The set of records that this node holds.
//!
//! Entry type: [`Members`]. The rule it keeps: the state is that of the whole set, whether it was computed anew or grew by
//! one record; the two ways are tested against each other.

use std::collections::HashMap;

use super::evaluate::Evaluation;
use super::id::FoundedId;
use super::index::{Index, Reach};
use super::record::Entry;
use super::state::State;
use crate::identity::PublicKey;
use crate::model::BatchId;

/// Maximum number of an author's records with the same position that are held. With more than 4 none of them counts; the
/// fifth is held as the proof.
pub(super) const MAX_HELD_AT_POSITION: usize = 5;

/// The records of a founded network and the state that they give.
#[derive(Clone, Debug)]
pub struct Members {
    network: FoundedId,
    entries: HashMap<BatchId, Entry>,
    index: Index,
    state: State,
}

/// Result of inserting a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is held, and the state is up to date. Whether it counts: [`State::counts`].
    Held,
    /// It was held before.
    Known,
    /// It is refused for good: its author has used the same position too often.
    Refused,
}

impl Members {
    /// Returns the empty set of a network.
    pub fn new(network: FoundedId) -> Members {
        Members {
            network,
            entries: HashMap::new(),
            index: Index::default(),
            state: State::default(),
        }
    }

    /// Returns the id of the network.
    pub fn network(&self) -> FoundedId {
        self.network
    }

    /// Returns the state that the records give.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns the record with this id.
    pub fn entry(&self, id: &BatchId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// Returns all records that are held, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Returns the number of records that are held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether no record is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the newest records of an author, which its next record names in `prev`, and the position of that record.
    pub fn heads(&self, author: &PublicKey) -> (Vec<BatchId>, u32) {
        self.index.heads(&self.entries, author)
    }

    /// Inserts a record and updates the state.
    pub fn insert(&mut self, entry: Entry) -> Inserted {
        if self.entries.contains_key(&entry.id) {
            return Inserted::Known;
        }
        if self.index.count_at(&entry) >= MAX_HELD_AT_POSITION {
            return Inserted::Refused;
        }
        let id = entry.id;
        self.entries.insert(id, entry);
        let reach = self.index.insert(&self.entries, id);
        let evaluation = Evaluation {
            network: self.network,
            entries: &self.entries,
            index: &self.index,
        };
        if reach == Reach::Nothing {
            return Inserted::Held;
        }
        match evaluation.may_grow(&self.state, id, reach) {
            true => evaluation.grow(&mut self.state, id),
            false => self.state = evaluation.state(),
        }
        Inserted::Held
    }

    /// Inserts many records and computes the state once.
    pub fn extend(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            if !self.entries.contains_key(&entry.id)
                && self.index.count_at(&entry) < MAX_HELD_AT_POSITION
            {
                let id = entry.id;
                self.entries.insert(id, entry);
                self.index.insert(&self.entries, id);
            }
        }
        self.state = self.state_anew();
    }

    /// Computes the state from the whole set.
    pub fn state_anew(&self) -> State {
        Evaluation {
            network: self.network,
            entries: &self.entries,
            index: &self.index,
        }
        .state()
    }
}
