//! Finds records by the records, invites and authors that they refer to, and knows which of them are complete.
//!
//! Entry type: [`Index`]. The rule it keeps: a record is complete when everything that it names is held and its position is
//! one more than the largest of its author's records before it; nothing else is looked at here.

use std::collections::{HashMap, HashSet};

use super::record::{Entry, Kind};
use crate::identity::PublicKey;
use crate::model::BatchId;

/// Maximum number of records that an author other than a founder may have at one position.
const MAX_AT_POSITION: usize = 4;

/// References between records.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// The records written by a right.
    by: HashMap<BatchId, Vec<BatchId>>,
    /// The `member` records by an invite.
    members: HashMap<[u8; 32], Vec<BatchId>>,
    /// The records by which an invite is made known.
    invites: HashMap<[u8; 32], Vec<BatchId>>,
    /// The invites that a `withdrawn` record names.
    withdrawn: HashSet<[u8; 32]>,
    /// The records that name one which is not held.
    waiting: HashMap<BatchId, Vec<BatchId>>,
    complete: HashSet<BatchId>,
    authors: HashMap<[u8; 32], Author>,
}

/// The records of one author.
#[derive(Clone, Debug, Default)]
struct Author {
    records: Vec<BatchId>,
    followed: HashSet<BatchId>,
    at: HashMap<u32, usize>,
    /// The lowest position with too many records: from there on none counts.
    overfull_from: Option<u32>,
}

/// Which part of the state a new record can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It changes nothing: it waits for another, or its position is wrong.
    Nothing,
    /// It may count, and those that follow from it.
    Itself,
    /// Others may count now, or no more.
    Others,
}

impl Index {
    /// Adds the record `id`, which is among `entries`.
    pub(super) fn insert(&mut self, entries: &HashMap<BatchId, Entry>, id: BatchId) -> Reach {
        let entry = &entries[&id];
        if let Some(by) = entry.record.by {
            self.by.entry(by).or_default().push(id);
        }
        let mut reach = Reach::Itself;
        match &entry.record.kind {
            Kind::Member { redeem, .. } => {
                let members = self.members.entry(*redeem.invite.as_bytes()).or_default();
                members.push(id);
            }
            Kind::Withdrawn { invite, .. } => {
                self.withdrawn.insert(*invite.as_bytes());
                reach = Reach::Others;
            }
            Kind::Invite { key, .. } => {
                self.invites.entry(*key.as_bytes()).or_default().push(id);
                if self.withdrawn.contains(key.as_bytes()) {
                    reach = Reach::Others;
                }
            }
            Kind::Profile { .. } => {}
            _ => reach = Reach::Others,
        }
        let is_overfull = self.count(entry);
        let missing = entry
            .record
            .needs()
            .chain(entry.prev.iter().copied())
            .find(|needed| !entries.contains_key(needed));
        let waited_for = self.waiting.remove(&id).unwrap_or_default();
        match missing {
            Some(missing) => self.waiting.entry(missing).or_default().push(id),
            None if has_right_position(entries, entry) => drop(self.complete.insert(id)),
            None => {}
        }
        for waiting in &waited_for {
            self.look_again(entries, *waiting);
        }
        if is_overfull || !waited_for.is_empty() {
            Reach::Others
        } else if self.complete.contains(&id) {
            reach
        } else {
            Reach::Nothing
        }
    }

    fn look_again(&mut self, entries: &HashMap<BatchId, Entry>, id: BatchId) {
        let entry = &entries[&id];
        let mut needed = entry.record.needs().chain(entry.prev.iter().copied());
        match needed.find(|needed| !entries.contains_key(needed)) {
            Some(missing) => self.waiting.entry(missing).or_default().push(id),
            None if has_right_position(entries, entry) => drop(self.complete.insert(id)),
            None => {}
        }
    }

    /// Counts a record at its position. Returns whether there are too many by now.
    fn count(&mut self, entry: &Entry) -> bool {
        let author = self.authors.entry(*entry.author.as_bytes()).or_default();
        author.records.push(entry.id);
        author.followed.extend(entry.prev.iter().copied());
        let count = author.at.entry(entry.record.n).or_default();
        *count += 1;
        let is_overfull = *count > MAX_AT_POSITION;
        if is_overfull {
            let n = entry.record.n;
            author.overfull_from = Some(author.overfull_from.map_or(n, |from| from.min(n)));
        }
        is_overfull
    }

    /// Returns the number of records that the author of `entry` has at its position.
    pub(super) fn count_at(&self, entry: &Entry) -> usize {
        let author = self.authors.get(entry.author.as_bytes());
        let count = author.and_then(|author| author.at.get(&entry.record.n));
        count.copied().unwrap_or_default()
    }

    /// Returns whether everything that the record names is held, and its position is right.
    pub(super) fn is_complete(&self, id: &BatchId) -> bool {
        self.complete.contains(id)
    }

    /// Returns whether the author has used a position up to that of `entry` too often.
    pub(super) fn is_overfull(&self, entry: &Entry) -> bool {
        let author = self.authors.get(entry.author.as_bytes());
        let from = author.and_then(|author| author.overfull_from);
        from.is_some_and(|from| entry.record.n >= from)
    }

    /// Returns the records written by the right `by`.
    pub(super) fn written_by(&self, by: &BatchId) -> &[BatchId] {
        self.by.get(by).map_or(&[], Vec::as_slice)
    }

    /// Returns the `member` records by an invite.
    pub(super) fn members_by(&self, invite: &PublicKey) -> &[BatchId] {
        self.members
            .get(invite.as_bytes())
            .map_or(&[], Vec::as_slice)
    }

    /// Returns the records by which an invite is made known.
    pub(super) fn invites_of(&self, invite: &PublicKey) -> &[BatchId] {
        self.invites
            .get(invite.as_bytes())
            .map_or(&[], Vec::as_slice)
    }

    /// Returns the records of an author that no other of its records follows, at most 4 of the highest positions, and the
    /// position of the next record.
    pub(super) fn heads(
        &self,
        entries: &HashMap<BatchId, Entry>,
        author: &PublicKey,
    ) -> (Vec<BatchId>, u32) {
        let Some(author) = self.authors.get(author.as_bytes()) else {
            return (Vec::new(), 1);
        };
        let mut heads: Vec<&Entry> = author
            .records
            .iter()
            .filter(|id| !author.followed.contains(id))
            .map(|id| &entries[id])
            .collect();
        heads.sort_by_key(|entry| (std::cmp::Reverse(entry.record.n), entry.id));
        heads.truncate(MAX_AT_POSITION);
        let n = heads.first().map_or(0, |entry| entry.record.n);
        (heads.iter().map(|entry| entry.id).collect(), n + 1)
    }
}

/// Returns whether the position is one more than the largest among the author's records before, all of which are held.
fn has_right_position(entries: &HashMap<BatchId, Entry>, entry: &Entry) -> bool {
    let before = entry.prev.iter().filter_map(|id| entries.get(id));
    let largest = before
        .filter(|before| before.author == entry.author)
        .map(|before| before.record.n)
        .max();
    entry.record.n == largest.unwrap_or(0).saturating_add(1)
}
