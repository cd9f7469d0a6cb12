//! A neighbour as data checking sees it.
//!
//! Entry type: [`Neighbour`]. The rule it keeps: what is remembered of a neighbour grows with the rooms
//! that we are in, not with what it says.

use std::collections::{BTreeMap, BTreeSet};

use super::announcements::Offering;
use super::quota::Allowance;
use super::removed_by_peer::RemovedThere;
use super::sync_round::Errand;
use crate::clock::Time;

/// A linked peer.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub(super) rooms: BTreeSet<String>,
    /// What is to be compared with it, from when on, and whether up to this moment.
    pub(super) due: BTreeMap<String, Due>,
    pub(super) errand: Option<Errand>,
    pub(super) allowance: Allowance,
    pub(super) offers: Offering,
    /// Where what it keeps begins, as it said.
    pub(super) floors: BTreeMap<String, u64>,
    /// What it said that it removed.
    pub(super) removed: RemovedThere,
    pub(super) told: BTreeMap<String, Time>,
    pub(super) silences: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) at: Time,
    /// Including what was sent just now.
    pub(super) to_now: bool,
}

impl Neighbour {
    pub(super) fn new(now: Time) -> Neighbour {
        Neighbour {
            rooms: BTreeSet::new(),
            due: BTreeMap::new(),
            errand: None,
            allowance: Allowance::new(now),
            offers: Offering::default(),
            floors: BTreeMap::new(),
            removed: RemovedThere::default(),
            told: BTreeMap::new(),
            silences: 0,
        }
    }

    /// Has a room compared with it from this time on, at the latest.
    pub(super) fn set_due(&mut self, room: &str, at: Time, to_now: bool) {
        let due = self
            .due
            .entry(room.to_owned())
            .or_insert(Due { at, to_now });
        due.at = due.at.min(at);
        due.to_now |= to_now;
    }
}
