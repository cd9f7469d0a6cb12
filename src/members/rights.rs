//! Rights along chains of records: the right by which a record is written, the endings of a right, and the rights in
//! force.
//!
//! Part of [`Evaluation`]. The rule it keeps: a record written by an ended right counts only when every ending of that right
//! keeps it, whatever its date.

use std::cmp::Reverse;
use std::collections::HashSet;

use super::evaluate::Evaluation;
use super::record::{Entry, Kind};
use super::state::{Ending, Endings, Level, Newcomer, Person, State};
use crate::identity::PublicKey;
use crate::model::BatchId;

impl Evaluation<'_> {
    /// Returns the level of the right by which a record is written. `None` when its author does not hold that right, the
    /// right does not count, or it was ended and the record is not kept.
    pub(super) fn right_of(&self, state: &State, entry: &Entry) -> Option<Level> {
        let founding = state.founding.as_ref()?;
        let by = entry.record.by?;
        if let Some(holder) = founding.rights.get(&by) {
            let stands = founding.present.contains(&by) || founding.kept.contains(&entry.id);
            return (*holder == entry.author && stands).then_some(Level::Founder);
        }
        let was_founder = founding
            .rights
            .values()
            .any(|holder| *holder == entry.author);
        if self.index.is_overfull(entry) && !was_founder {
            return None;
        }
        let right = self.entries.get(&by)?;
        if !state.counting.contains_key(&by) {
            return None;
        }
        let held = state.rights.get(entry.author.as_bytes())?;
        if !held.contains(&by) {
            return None;
        }
        let mut hits = hits(state, right, &entry.author);
        hits.all(|ending| ending.kept.contains(&entry.id))
            .then(|| level_of(right))
    }

    /// Returns whether somebody has a role that is in force, as far as the founder's endings and its own are concerned.
    pub(super) fn is_admin(&self, state: &State, who: &PublicKey) -> bool {
        let rights = state.rights.get(who.as_bytes()).into_iter().flatten();
        rights.map(|id| &self.entries[id]).any(|right| {
            level_of(right) == Level::Admin && hits(state, right, who).next().is_none()
        })
    }

    /// Returns whether an author has made an invite known itself.
    pub(super) fn made(&self, author: &PublicKey, invite: &PublicKey) -> bool {
        self.index
            .invites_of(invite)
            .iter()
            .any(|id| self.index.is_complete(id) && self.entries[id].author == *author)
    }

    /// Adds the ending that a record is. Returns `false` when it is none.
    pub(super) fn add_ending(
        &self,
        endings: &mut Endings,
        entry: &Entry,
        founder: PublicKey,
        by_admin: bool,
    ) -> bool {
        let (map, key, kept) = match &entry.record.kind {
            Kind::Removed { who, keep } if *who != founder => {
                let mut keep = keep.clone();
                if *who == entry.author {
                    // A member that leaves revokes nothing that it wrote before.
                    keep.extend(entry.prev.iter().copied().chain([entry.id]));
                }
                let kept = self.with_those_before(&keep, |author| author == who);
                (&mut endings.removed, who, kept)
            }
            Kind::Role {
                who,
                admin: false,
                keep,
            } => {
                let kept = self.with_those_before(keep, |author| author == who);
                (&mut endings.demoted, who, kept)
            }
            Kind::Withdrawn { invite, keep } => {
                let kept = keep.iter().copied().collect();
                (&mut endings.withdrawn, invite, kept)
            }
            _ => return false,
        };
        map.entry(*key.as_bytes()).or_default().push(Ending {
            id: entry.id,
            kept,
            by_admin,
        });
        true
    }

    /// Returns the ids listed, and those of the records before them by the same author. Records by other
    /// authors are left out.
    pub(super) fn with_those_before(
        &self,
        ids: &[BatchId],
        is_author: impl Fn(&PublicKey) -> bool,
    ) -> HashSet<BatchId> {
        let mut kept = HashSet::new();
        let mut open: Vec<BatchId> = ids.to_vec();
        while let Some(id) = open.pop() {
            let entry = self.entries.get(&id);
            // An id that is not held is a batch of another room, or a record that has not arrived.
            if entry.is_none_or(|entry| is_author(&entry.author)) && kept.insert(id) {
                open.extend(entry.into_iter().flat_map(|entry| &entry.prev));
            }
        }
        kept
    }

    /// Stores the sealing key and name that a newcomer has signed.
    pub(super) fn remember_newcomer(&self, state: &mut State, entry: &Entry) {
        let Kind::Member { who, redeem } = &entry.record.kind else {
            return;
        };
        let newcomer = Newcomer {
            record: entry.id,
            sealing_key: redeem.sealing_key,
            name: redeem.name.clone(),
        };
        let held = state.newcomers.entry(*who.as_bytes());
        let held = held.or_insert_with(|| newcomer.clone());
        if newcomer.record < held.record {
            *held = newcomer;
        }
    }

    /// Updates one person among the people.
    pub(super) fn settle_person(&self, state: &mut State, who: &[u8; 32]) {
        let Some(founding) = &state.founding else {
            return;
        };
        let key = PublicKey::from_bytes(who).expect("it was a key before");
        let is_founder = founding.founder == key;
        let rights = state.rights.get(who).into_iter().flatten();
        let highest = rights
            .map(|id| &self.entries[id])
            .filter(|right| hits(state, right, &key).next().is_none())
            .map(|right| (level_of(right), right.id))
            .chain(is_founder.then_some((Level::Founder, founding.right)))
            .max_by_key(|(level, id)| (*level, Reverse(*id)));
        let Some((level, right)) = highest else {
            state.people.remove(who);
            return;
        };
        let newcomer = state.newcomers.get(who);
        let of_founding = (founding.first == key).then_some(founding.sealing_key);
        let profile = state.profiles.get(who).map(|(_, _, name)| name);
        let person = Person {
            level,
            right,
            sealing_key: of_founding.or(newcomer.map(|newcomer| newcomer.sealing_key)),
            name: profile
                .or(newcomer.map(|newcomer| &newcomer.name))
                .cloned()
                .unwrap_or_default(),
        };
        state.people.insert(*who, person);
    }
}

/// Returns the level of the right that a record gives.
fn level_of(right: &Entry) -> Level {
    match right.record.kind {
        Kind::Role { .. } => Level::Admin,
        _ => Level::Member,
    }
}

/// Returns the endings that hit a right of `holder`: those that the right does not name itself. A member cannot give
/// a right again to a removed person.
fn hits<'s>(
    state: &'s State,
    right: &'s Entry,
    holder: &PublicKey,
) -> Box<dyn Iterator<Item = &'s Ending> + 's> {
    let by_member = state.counting.get(&right.id) == Some(&Level::Member);
    let named: &[BatchId] = match by_member {
        true => &[],
        false => &right.record.after,
    };
    let hits = |ending: &&Ending| !named.contains(&ending.id);
    match right.record.kind {
        Kind::Role { .. } => Box::new(state.endings.of_role(holder).filter(hits)),
        _ => Box::new(state.endings.removals(holder).filter(hits)),
    }
}
