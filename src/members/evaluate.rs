//! Computes the state from the set of records.
//!
//! Entry type: [`Evaluation`]. The rule it keeps: each stage depends only on the results of earlier ones: the founder;
//! endings by the founder and by oneself; admins; endings by admins; keys; then members and invites along their rights.
//! The last stage only adds, so that its result does not depend on the order in which records are looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::id::{EntryTag, FoundedId};
use super::index::{Index, Reach};
use super::record::{Entry, Kind};
use super::state::{Endings, Founding, Level, NetworkKeyState, State};
use crate::identity::PublicKey;
use crate::model::BatchId;

/// Maximum position of a record that is written by the right of a member: it bounds how many one member can write.
const MAX_MEMBER_POSITION: u32 = 1024;

/// The set of records, to be evaluated.
pub(super) struct Evaluation<'a> {
    pub(super) network: FoundedId,
    pub(super) entries: &'a HashMap<BatchId, Entry>,
    pub(super) index: &'a Index,
}

impl<'a> Evaluation<'a> {
    /// Computes the state from the whole set.
    pub(super) fn state(&self) -> State {
        let mut complete: Vec<&Entry> = self.entries.values().collect();
        complete.retain(|entry| self.index.is_complete(&entry.id));
        complete.sort_by_key(|entry| entry.id);
        let mut state = State {
            founding: self.founding(&complete),
            ..State::default()
        };
        if state.founding.is_none() {
            return state;
        }
        self.founders_records(&mut state, &complete);
        self.admins_records(&mut state, &complete);
        self.keys(&mut state, &complete);
        for entry in &complete {
            self.remember_newcomer(&mut state, entry);
        }
        self.seal_rights(&mut state);
        let begin = complete.iter().map(|entry| entry.id).collect();
        self.propagate(&mut state, begin);
        let everybody: BTreeSet<[u8; 32]> = state.rights.keys().copied().collect();
        let founder = state.founder().map(|founder| *founder.as_bytes());
        for who in everybody.into_iter().chain(founder) {
            self.settle_person(&mut state, &who);
        }
        state
    }

    /// Returns whether the state can grow by a record that was added, instead of being computed anew.
    pub(super) fn may_grow(&self, state: &State, id: BatchId, reach: Reach) -> bool {
        let entry = &self.entries[&id];
        let Some(founding) = &state.founding else {
            return false;
        };
        let was_founder = founding
            .rights
            .values()
            .any(|holder| *holder == entry.author)
            && founding.founder != entry.author;
        reach == Reach::Itself && !state.endings.touch(&entry.author) && !was_founder
    }

    /// Updates the state for a record that was added.
    pub(super) fn grow(&self, state: &mut State, id: BatchId) {
        let entry = &self.entries[&id];
        self.remember_newcomer(state, entry);
        if let Kind::Member { who, .. } = &entry.record.kind {
            let keys = state.seals.get(&EntryTag::of(who)).cloned();
            let rights = keys.into_iter().flatten();
            for key in rights {
                state.rights.entry(*who.as_bytes()).or_default().insert(key);
            }
            self.settle_person(state, who.as_bytes());
        }
        let added = self.propagate(state, vec![id]);
        for id in added {
            let entry = &self.entries[&id];
            if let Kind::Member { who, .. } = &entry.record.kind {
                self.settle_person(state, who.as_bytes());
            }
            self.settle_person(state, entry.author.as_bytes());
        }
    }

    /// Stage 1: the `founded` record, and the founder that the recovery key has named.
    fn founding(&self, complete: &[&'a Entry]) -> Option<Founding> {
        let mut founding: Option<Founding> = None;
        let mut recovery_key = None;
        for entry in complete {
            let Kind::Founded {
                founder,
                admins_invite,
                recovery,
                sealing_key,
                ..
            } = &entry.record.kind
            else {
                continue;
            };
            if entry.founds != Some(self.network) || entry.author != *founder {
                continue;
            }
            recovery_key = *recovery;
            let founding = founding.get_or_insert_with(|| Founding {
                founder: *founder,
                right: entry.id,
                rights: BTreeMap::new(),
                present: BTreeSet::new(),
                kept: HashSet::new(),
                admins_invite: *admins_invite,
                first: *founder,
                sealing_key: *sealing_key,
            });
            founding.rights.insert(entry.id, *founder);
            founding.present.insert(entry.id);
        }
        let mut founding = founding?;
        if let Some(recovery) = recovery_key {
            self.recover(&mut founding, complete, &recovery);
        }
        Some(founding)
    }

    fn recover(&self, founding: &mut Founding, complete: &[&'a Entry], recovery: &PublicKey) {
        let first = founding.present.clone();
        let mut latest: Option<(u64, &Entry, &[BatchId])> = None;
        for entry in complete {
            let Kind::Founder { who, number, keep } = &entry.record.kind else {
                continue;
            };
            let by_first = entry.record.by.is_some_and(|by| first.contains(&by));
            if entry.author != *recovery || !by_first {
                continue;
            }
            founding.rights.insert(entry.id, *who);
            // Ids ascend: of equal numbers the first one stays.
            if latest.is_none_or(|(highest, ..)| *number > highest) {
                latest = Some((*number, entry, keep));
                founding.founder = *who;
            }
        }
        if let Some((_, entry, keep)) = latest {
            let former: HashSet<PublicKey> = founding.rights.values().copied().collect();
            founding.kept = self.with_those_before(keep, |author| former.contains(author));
            founding.right = entry.id;
            founding.present = BTreeSet::from([entry.id]);
        }
    }

    /// Stage 2: the endings by the founder and by oneself, and the roles.
    fn founders_records(&self, state: &mut State, complete: &[&'a Entry]) {
        let founding = state
            .founding
            .as_ref()
            .expect("the first stage has found it");
        let (founder, ids) = (founding.founder, founding.rights.keys().copied());
        let rights: Vec<BatchId> = ids.collect();
        for id in rights {
            state.counting.insert(id, Level::Founder);
        }
        let mut endings = Endings::default();
        for entry in complete {
            let by_founder = self.right_of(state, entry) == Some(Level::Founder);
            let is_own = match &entry.record.kind {
                Kind::Removed { who, .. } => *who == entry.author && *who != founder,
                Kind::Withdrawn { invite, .. } => self.made(&entry.author, invite),
                _ => false,
            };
            if (by_founder || is_own) && self.add_ending(&mut endings, entry, founder, false) {
                let level = if by_founder {
                    Level::Founder
                } else {
                    Level::Member
                };
                state.counting.insert(entry.id, level);
                if by_founder && matches!(entry.record.kind, Kind::Removed { .. }) {
                    state.removals.insert(entry.id);
                }
            }
        }
        state.endings = endings;
        for entry in complete {
            let Kind::Role {
                who, admin: true, ..
            } = &entry.record.kind
            else {
                continue;
            };
            if *who != founder && self.right_of(state, entry) == Some(Level::Founder) {
                state.counting.insert(entry.id, Level::Founder);
                state
                    .rights
                    .entry(*who.as_bytes())
                    .or_default()
                    .insert(entry.id);
            }
        }
    }

    /// Stage 3: the endings by admins.
    fn admins_records(&self, state: &mut State, complete: &[&'a Entry]) {
        let founder = state.founder().expect("the first stage has found it");
        let mut endings = state.endings.clone();
        for entry in complete {
            let is_ending = match &entry.record.kind {
                Kind::Removed { who, .. } => *who != entry.author && !self.is_admin(state, who),
                Kind::Withdrawn { .. } => !state.counting.contains_key(&entry.id),
                _ => false,
            };
            if is_ending
                && self.right_of(state, entry) == Some(Level::Admin)
                && self.add_ending(&mut endings, entry, founder, true)
            {
                state.counting.insert(entry.id, Level::Admin);
                if matches!(entry.record.kind, Kind::Removed { .. }) {
                    state.removals.insert(entry.id);
                }
            }
        }
        state.endings = endings;
    }

    /// Stage 4: network keys, which of them cover all removals, and which one is in force.
    fn keys(&self, state: &mut State, complete: &[&'a Entry]) {
        let mut over = HashMap::new();
        let mut candidates = BTreeMap::new();
        for entry in complete {
            let Kind::NetworkKey {
                key_id,
                over: replaced,
                entries,
                ..
            } = &entry.record.kind
            else {
                continue;
            };
            let Some(level) = self.right_of(state, entry).filter(|l| *l > Level::Member) else {
                continue;
            };
            state.counting.insert(entry.id, level);
            over.insert(entry.id, replaced);
            for (tag, _) in entries {
                state.seals.entry(*tag).or_default().push(entry.id);
            }
            let after: HashSet<&BatchId> = entry.record.after.iter().collect();
            if state.removals.iter().all(|removal| after.contains(removal)) {
                candidates.insert(entry.id, *key_id);
                state.covering.insert(*key_id);
            }
        }
        let mut replaced: HashSet<BatchId> = HashSet::new();
        let mut open: Vec<BatchId> = candidates.keys().copied().collect();
        while let Some(id) = open.pop() {
            for older in over.get(&id).into_iter().copied().flatten() {
                if replaced.insert(*older) {
                    open.push(*older);
                }
            }
        }
        let in_force = candidates.iter().find(|(id, _)| !replaced.contains(*id));
        state.key = Some(match in_force {
            Some((id, key_id)) => NetworkKeyState::Record(*id, *key_id),
            None if over.is_empty() && state.removals.is_empty() => NetworkKeyState::First,
            None => NetworkKeyState::Needed,
        });
    }

    /// Gives every person with an entry in a `network_key` record that right.
    fn seal_rights(&self, state: &mut State) {
        let founding = state
            .founding
            .as_ref()
            .expect("the first stage has found it");
        let known = state.newcomers.keys().chain(state.rights.keys()).copied();
        let known: BTreeSet<[u8; 32]> = known.chain([*founding.first.as_bytes()]).collect();
        for who in known {
            let key = PublicKey::from_bytes(&who).expect("it was a key before");
            for sealed in state.seals.get(&EntryTag::of(&key)).into_iter().flatten() {
                state.rights.entry(who).or_default().insert(*sealed);
            }
        }
    }

    /// Stage 5: marks records as counting, and then those written by their rights or invites, until nothing changes. Returns
    /// the records that were marked.
    fn propagate(&self, state: &mut State, mut open: Vec<BatchId>) -> Vec<BatchId> {
        let mut added = Vec::new();
        while let Some(id) = open.pop() {
            let entry = &self.entries[&id];
            if state.counting.contains_key(&id) || !self.index.is_complete(&id) {
                continue;
            }
            let Some(level) = self.right_of(state, entry) else {
                continue;
            };
            if !self.may_count(state, entry, level) {
                continue;
            }
            state.counting.insert(id, level);
            added.push(id);
            open.extend(self.index.written_by(&id));
            match &entry.record.kind {
                Kind::Invite { key, .. } => {
                    let invites = state.invites.entry(*key.as_bytes()).or_default();
                    invites.records.insert(id);
                    open.extend(self.index.members_by(key));
                }
                Kind::Member { who, redeem } => {
                    state.rights.entry(*who.as_bytes()).or_default().insert(id);
                    if let Some(invite) = state.invites.get_mut(redeem.invite.as_bytes()) {
                        invite.used += 1;
                    }
                }
                Kind::Profile { name } => {
                    let newest = (entry.record.n, id, name.clone());
                    let held = state.profiles.entry(*entry.author.as_bytes());
                    let held = held.or_insert_with(|| newest.clone());
                    if (held.0, held.1) < (newest.0, newest.1) {
                        *held = newest;
                    }
                }
                _ => {}
            }
        }
        added
    }

    fn may_count(&self, state: &State, entry: &Entry, level: Level) -> bool {
        if level == Level::Member && entry.record.n > MAX_MEMBER_POSITION {
            return false;
        }
        match &entry.record.kind {
            Kind::Profile { .. } => true,
            Kind::Invite { .. } => state.level_invites(level),
            Kind::Member { redeem, .. } => {
                let invites = state.invites.get(redeem.invite.as_bytes());
                let mut records = invites.into_iter().flat_map(|invites| &invites.records);
                state.level_invites(level)
                    && state.endings.keep_member(&redeem.invite, &entry.id)
                    && records.any(|id| admits(state, &self.entries[id], entry.sent_at_ms))
            }
            _ => false,
        }
    }
}

/// Returns whether an invite admits by a `member` record of this date: it has not expired, and its network key covers every
/// removal. Otherwise a removed person could return by an older line.
fn admits(state: &State, invite: &Entry, sent_at_ms: u64) -> bool {
    let Kind::Invite {
        key_id, expires_ms, ..
    } = &invite.record.kind
    else {
        return false;
    };
    let is_covered = state.removals.is_empty() || state.covering.contains(key_id);
    is_covered && sent_at_ms <= *expires_ms
}
