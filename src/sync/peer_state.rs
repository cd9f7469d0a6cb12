//! A neighbour as data checking sees it.
//!
//! Entry type: [`PeerState`]. The rule it keeps: what is remembered of a neighbour grows with the rooms
//! that we are in, not with what it says.

use std::collections::{BTreeMap, BTreeSet};

use super::announcements::Announcements;
use super::quota::PeerQuota;
use super::removed_by_peer::RemovedByPeer;
use super::sync_round::SyncRound;
use crate::clock::Time;

/// A linked peer.
#[derive(Debug)]
pub(super) struct PeerState {
    pub(super) rooms: BTreeSet<String>,
    /// What is to be compared with it, from when on, and whether up to this moment.
    pub(super) due: BTreeMap<String, Due>,
    pub(super) round: Option<SyncRound>,
    pub(super) quota: PeerQuota,
    pub(super) announcements: Announcements,
    /// Where what it keeps begins, as it said.
    pub(super) low_watermarks: BTreeMap<String, u64>,
    /// What it said that it removed.
    pub(super) removed: RemovedByPeer,
    pub(super) last_notified: BTreeMap<String, Time>,
    pub(super) unanswered: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) at: Time,
    /// Including what was sent just now.
    pub(super) to_now: bool,
}

impl PeerState {
    pub(super) fn new(now: Time) -> PeerState {
        PeerState {
            rooms: BTreeSet::new(),
            due: BTreeMap::new(),
            round: None,
            quota: PeerQuota::new(now),
            announcements: Announcements::default(),
            low_watermarks: BTreeMap::new(),
            removed: RemovedByPeer::default(),
            last_notified: BTreeMap::new(),
            unanswered: 0,
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
