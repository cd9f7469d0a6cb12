//! The rooms of a node, and the links whose room subscriptions are not known yet.
//!
//! Entry type: [`Rooms`], pure except for the bell. The rule it keeps: a broadcast right after a new link waits
//! shortly, until gossipsub knows the peer's subscriptions.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::Notify;

use super::error::JoinError;
use crate::clock::Time;
use crate::gossip::MAX_ROOMS;
use crate::model::RoomName;

/// Time for which a broadcast waits for the subscriptions of a new link; a peer without rooms sends none.
const SUBSCRIPTION_GRACE: Duration = Duration::from_millis(500);
/// Time for which a broadcast waits when no other peer is in the room: the link may be slow, or the machine busy.
const SUBSCRIPTION_TIMEOUT: Duration = Duration::from_secs(3);

/// The rooms of a node and the capabilities of its linked peers.
#[derive(Debug)]
pub(crate) struct Rooms {
    joined: BTreeSet<RoomName>,
    /// Links without known subscriptions, with the time at which each was established.
    awaiting_subscriptions: HashMap<PeerId, Time>,
    /// Linked peers without data checking.
    not_checking: HashSet<PeerId>,
    /// Linked peers that support announcements of large batches.
    supporting_announcements: HashSet<PeerId>,
    bell: Arc<Notify>,
}

impl Rooms {
    /// Creates the state of a node without rooms; `bell` is notified whenever a peer joins a room.
    pub(crate) fn new(bell: Arc<Notify>) -> Rooms {
        Rooms {
            joined: BTreeSet::new(),
            awaiting_subscriptions: HashMap::new(),
            not_checking: HashSet::new(),
            supporting_announcements: HashSet::new(),
            bell,
        }
    }

    pub(crate) fn join(&mut self, room: RoomName) -> Result<(), JoinError> {
        if self.joined.len() >= MAX_ROOMS && !self.joined.contains(&room) {
            return Err(JoinError::TooMany(MAX_ROOMS));
        }
        self.joined.insert(room);
        Ok(())
    }

    /// Leaves a room. Returns whether the node was in it.
    pub(crate) fn leave(&mut self, room: &RoomName) -> bool {
        self.joined.remove(room)
    }

    pub(crate) fn is_in(&self, room: &RoomName) -> bool {
        self.joined.contains(room)
    }

    pub(crate) fn joined(&self) -> Vec<RoomName> {
        self.joined.iter().cloned().collect()
    }

    /// Records a new link. Returns the time until which to wait for its subscriptions: `now` if they are known, since
    /// gossip can arrive before the end of the handshake.
    pub(crate) fn await_subscriptions(
        &mut self,
        now: Time,
        peer_id: PeerId,
        are_known: bool,
    ) -> Time {
        if are_known {
            return now;
        }
        self.awaiting_subscriptions.insert(peer_id, now);
        now + SUBSCRIPTION_GRACE
    }

    /// Records that the subscriptions of a peer are known.
    pub(crate) fn subscriptions_known(&mut self, peer_id: &PeerId) {
        self.awaiting_subscriptions.remove(peer_id);
    }

    /// Forgets a peer without a link.
    pub(crate) fn forget(&mut self, peer_id: &PeerId) {
        self.awaiting_subscriptions.remove(peer_id);
        self.not_checking.remove(peer_id);
        self.supporting_announcements.remove(peer_id);
    }

    /// Records that a peer does not support data checking.
    pub(crate) fn set_without_sync(&mut self, peer_id: PeerId) {
        self.not_checking.insert(peer_id);
        self.supporting_announcements.remove(&peer_id);
    }

    /// Records that a peer supports announcements.
    pub(crate) fn set_supports_announcements(&mut self, peer_id: PeerId) {
        self.supporting_announcements.insert(peer_id);
    }

    /// Returns whether `peers` is not empty and all of them support announcements.
    pub(crate) fn all_support_announcements<'a>(
        &self,
        peers: impl Iterator<Item = &'a PeerId>,
    ) -> bool {
        let mut peers = peers.peekable();
        peers.peek().is_some() && peers.all(|peer| self.supporting_announcements.contains(peer))
    }

    /// Returns whether the peer may take part in data checking.
    pub(crate) fn supports_sync(&self, peer_id: &PeerId) -> bool {
        !self.not_checking.contains(peer_id)
    }

    /// Returns the time until which an ordinary broadcast waits for unknown subscriptions; none when it need not.
    pub(crate) fn subscription_grace_until(&self, now: Time) -> Option<Time> {
        self.awaiting_until(now, SUBSCRIPTION_GRACE)
    }

    /// Returns the time until which a broadcast without any peer in the room waits for unknown subscriptions.
    pub(crate) fn subscription_timeout_until(&self, now: Time) -> Option<Time> {
        self.awaiting_until(now, SUBSCRIPTION_TIMEOUT)
    }

    fn awaiting_until(&self, now: Time, patience: Duration) -> Option<Time> {
        let until = self
            .awaiting_subscriptions
            .values()
            .max()
            .map(|since| *since + patience);
        until.filter(|until| now < *until)
    }

    /// Notifies waiting broadcasts that a peer joined a room.
    pub(crate) fn notify_joined(&self) {
        self.bell.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
