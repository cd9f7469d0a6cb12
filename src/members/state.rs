//! The state of a founded network, computed from its set of records.
//!
//! Entry type: [`State`]. The rule it keeps: it is a function of the set alone; it reads no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::id::{EntryTag, KeyId};
use crate::identity::PublicKey;
use crate::model::BatchId;

/// The level of a right, from the lowest to the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Links, writes, invites (unless only admins do) and admits.
    Member,
    /// Removes members, makes network keys, withdraws invites.
    Admin,
    /// Names admins and removes anybody.
    Founder,
}

/// A member of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The highest right in force.
    pub level: Level,
    /// The record that gives that right: the value of `by` in this person's own records.
    pub right: BatchId,
    /// The X25519 key to which keys are sealed for this person. `None` when no record with it is held.
    pub sealing_key: Option<[u8; 32]>,
    /// The name that the person would like to have; may be empty. Two people may have the same one.
    pub name: String,
}

/// An invite that counts. Its terms are those of its records ([`super::Members::entry`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invite {
    /// The records by which it is known; more than one when somebody repeats it.
    pub records: BTreeSet<BatchId>,
    /// Number of newcomers admitted by it. More than its `uses` when two halves of a split network admitted at the same time.
    pub used: u32,
}

/// Which network key is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkKeyState {
    /// The key that was made with the network: there is no record of another yet.
    First,
    /// The key of this record.
    Record(BatchId, KeyId),
    /// No key covers every removal: an admin or the founder has to make one. Until then the last one stays in use.
    Needed,
}

/// The result of evaluating the records. Queries that take a key answer for the person with that key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(super) founding: Option<Founding>,
    pub(super) endings: Endings,
    /// Every removal that a network key has to cover.
    pub(super) removals: BTreeSet<BatchId>,
    /// The ids of keys that cover all of them.
    pub(super) covering: BTreeSet<KeyId>,
    pub(super) key: Option<NetworkKeyState>,
    /// The counting records, with the level of the right by which each was written.
    pub(super) counting: HashMap<BatchId, Level>,
    /// The counting key records that have an entry with a tag.
    pub(super) seals: HashMap<EntryTag, Vec<BatchId>>,
    /// The counting records that give a right, by the person: roles, admissions, sealed keys.
    pub(super) rights: BTreeMap<[u8; 32], BTreeSet<BatchId>>,
    /// Every newcomer with a valid redeemed invite, whether or not it counts.
    pub(super) newcomers: BTreeMap<[u8; 32], Newcomer>,
    /// The newest counting profile of each author: its position, id and name.
    pub(super) profiles: HashMap<[u8; 32], (u32, BatchId, String)>,
    pub(super) people: BTreeMap<[u8; 32], Person>,
    pub(super) invites: BTreeMap<[u8; 32], Invite>,
}

/// The beginning of the network, and its present founder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Founding {
    pub(super) founder: PublicKey,
    /// The record that gives the present founder the right.
    pub(super) right: BatchId,
    /// All records that ever gave a founder's right, with its holder.
    pub(super) rights: BTreeMap<BatchId, PublicKey>,
    /// Those that still give it. More than one when the same `founded` event was published twice.
    pub(super) present: BTreeSet<BatchId>,
    /// The records of earlier founders that still count.
    pub(super) kept: HashSet<BatchId>,
    pub(super) admins_invite: bool,
    pub(super) first: PublicKey,
    pub(super) sealing_key: [u8; 32],
}

/// A newcomer, as it has described itself when it redeemed an invite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Newcomer {
    pub(super) record: BatchId,
    pub(super) sealing_key: [u8; 32],
    pub(super) name: String,
}

/// Endings of rights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Endings {
    /// Removals, by the person.
    pub(super) removed: HashMap<[u8; 32], Vec<Ending>>,
    /// Endings of roles, by the person.
    pub(super) demoted: HashMap<[u8; 32], Vec<Ending>>,
    /// Withdrawals, by the invite's key.
    pub(super) withdrawn: HashMap<[u8; 32], Vec<Ending>>,
}

/// One ending, with all records that it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) id: BatchId,
    /// The ids that it lists, and those of the records of the same author before them.
    pub(super) kept: HashSet<BatchId>,
    /// Written by an admin: it does not end a role.
    pub(super) by_admin: bool,
}

impl Endings {
    /// Returns the removals of a person.
    pub(super) fn removals<'s>(
        &'s self,
        who: &PublicKey,
    ) -> impl Iterator<Item = &'s Ending> + use<'s> {
        self.removed.get(who.as_bytes()).into_iter().flatten()
    }

    /// Returns the endings that a role of the person is hit by.
    pub(super) fn of_role<'s>(
        &'s self,
        who: &PublicKey,
    ) -> impl Iterator<Item = &'s Ending> + use<'s> {
        let demoted = self.demoted.get(who.as_bytes()).into_iter().flatten();
        let removed = self.removals(who).filter(|ending| !ending.by_admin);
        removed.chain(demoted)
    }

    /// Returns whether every withdrawal of an invite keeps a `member` record.
    pub(super) fn keep_member(&self, invite: &PublicKey, member: &BatchId) -> bool {
        let withdrawn = self.withdrawn.get(invite.as_bytes()).into_iter().flatten();
        withdrawn
            .into_iter()
            .all(|ending| ending.kept.contains(member))
    }

    pub(super) fn touch(&self, who: &PublicKey) -> bool {
        self.removed.contains_key(who.as_bytes()) || self.demoted.contains_key(who.as_bytes())
    }
}

impl State {
    /// Returns the founder. `None` until the `founded` record is there.
    pub fn founder(&self) -> Option<PublicKey> {
        self.founding.as_ref().map(|founding| founding.founder)
    }

    /// Returns the person with this key, unless it is no member.
    pub fn person(&self, key: &PublicKey) -> Option<&Person> {
        self.people.get(key.as_bytes())
    }

    /// Returns whether links with the person are accepted.
    pub fn is_member(&self, key: &PublicKey) -> bool {
        self.people.contains_key(key.as_bytes())
    }

    /// Returns whether somebody was removed and not admitted again.
    pub fn is_removed(&self, key: &PublicKey) -> bool {
        !self.is_member(key) && self.endings.removed.contains_key(key.as_bytes())
    }

    /// Returns all members by their keys, in the order of the keys.
    pub fn people(&self) -> impl Iterator<Item = (&[u8; 32], &Person)> {
        self.people.iter()
    }

    /// Returns whether an invite was withdrawn.
    pub fn is_withdrawn(&self, key: &PublicKey) -> bool {
        self.endings.withdrawn.contains_key(key.as_bytes())
    }

    /// Returns the invite with this key, if it counts.
    pub fn invite(&self, key: &PublicKey) -> Option<&Invite> {
        self.invites.get(key.as_bytes())
    }

    /// Returns all invites that count, by their keys.
    pub fn invites(&self) -> impl Iterator<Item = (&[u8; 32], &Invite)> {
        self.invites.iter()
    }

    /// Returns whether the person may make an invite.
    pub fn may_invite(&self, key: &PublicKey) -> bool {
        self.person(key)
            .is_some_and(|person| self.level_invites(person.level))
    }

    pub(super) fn level_invites(&self, level: Level) -> bool {
        let admins_invite = self
            .founding
            .as_ref()
            .is_none_or(|founding| founding.admins_invite);
        level > Level::Member || !admins_invite
    }

    /// Returns whether `author` may remove `who`.
    pub fn may_remove(&self, author: &PublicKey, who: &PublicKey) -> bool {
        let level = |key| self.person(key).map(|person| person.level);
        let is_founder = self.founder() == Some(*who);
        !is_founder && (author == who || level(author) > level(who).max(Some(Level::Member)))
    }

    /// Returns the ids of the removals and endings of roles that concern a person: a right that is given again has to name
    /// all of them in `after`.
    pub fn endings_of(&self, key: &PublicKey) -> Vec<BatchId> {
        let of = |map: &HashMap<[u8; 32], Vec<Ending>>| {
            let found = map.get(key.as_bytes()).into_iter().flatten();
            found.map(|ending| ending.id).collect::<Vec<_>>()
        };
        let mut ids = [of(&self.endings.removed), of(&self.endings.demoted)].concat();
        ids.sort();
        ids
    }

    /// Returns the removals that a network key has to cover.
    pub fn removals(&self) -> &BTreeSet<BatchId> {
        &self.removals
    }

    /// Returns which network key is to be used. `None` until the `founded` record is there.
    pub fn network_key(&self) -> Option<NetworkKeyState> {
        self.key
    }

    /// Returns whether a record counts.
    pub fn counts(&self, id: &BatchId) -> bool {
        self.counting.contains_key(id)
    }

    /// Returns whether a batch of a removed person still counts: every removal keeps it.
    pub fn keeps(&self, author: &PublicKey, id: &BatchId) -> bool {
        self.endings
            .removals(author)
            .all(|ending| ending.kept.contains(id))
    }
}
