//! Anti-entropy's state of one neighbour ("data checking").
//!
//! Entry type: [`PeerState`]. The rule it keeps: its size grows with the rooms that we are in, not with the neighbour's
//! messages.

use std::collections::{BTreeMap, BTreeSet};

use super::announcements::Announcements;
use super::quota::PeerQuota;
use super::removed_by_peer::RemovedByPeer;
use super::sync_round::SyncRound;
use crate::clock::Time;

/// State of a linked peer.
#[derive(Debug)]
pub(super) struct PeerState {
    pub(super) rooms: BTreeSet<String>,
    /// Rooms to compare with it, with the time of the next round.
    pub(super) due: BTreeMap<String, Due>,
    pub(super) round: Option<SyncRound>,
    pub(super) quota: PeerQuota,
    pub(super) announcements: Announcements,
    /// The low watermark of each room that it reported, in Unix milliseconds.
    pub(super) low_watermarks: BTreeMap<String, u64>,
    /// Batches that it has removed, as far as we lack them.
    pub(super) removed: RemovedByPeer,
    pub(super) last_notified: BTreeMap<String, Time>,
    pub(super) unanswered: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) at: Time,
    /// Whether the round includes the latest batches.
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

    /// Schedules a round in a room at this time, or earlier.
    pub(super) fn set_due(&mut self, room: &str, at: Time, to_now: bool) {
        let due = self
            .due
            .entry(room.to_owned())
            .or_insert(Due { at, to_now });
        due.at = due.at.min(at);
        due.to_now |= to_now;
    }
}
