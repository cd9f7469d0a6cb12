//! The rooms a node is in, and which links have not yet said in which they are.
//!
//! Entry type: [`Rooms`], pure but for the bell. The rule it keeps: what is sent right after a link
//! came up waits, shortly, until gossipsub knows the peer's rooms.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::Notify;

use super::error::JoinError;
use crate::clock::Time;
use crate::gossip::MAX_ROOMS;
use crate::model::RoomName;

/// How long a new link may take to say in which rooms it is; a peer in none says nothing.
const SETTLE: Duration = Duration::from_millis(500);
/// As long it may take when there is nobody else for what is to be sent: a far link, or a busy machine.
const SPEAK: Duration = Duration::from_secs(3);

/// The node's rooms.
#[derive(Debug)]
pub(crate) struct Rooms {
    joined: BTreeSet<RoomName>,
    /// Since when links are up that have not said in which rooms they are.
    silent: HashMap<PeerId, Time>,
    /// Linked peers that do not speak data checking.
    not_checking: HashSet<PeerId>,
    /// Linked peers that understand offers of large batches.
    taking_offers: HashSet<PeerId>,
    bell: Arc<Notify>,
}

impl Rooms {
    /// In no room; `bell` is rung whenever a peer comes into one.
    pub(crate) fn new(bell: Arc<Notify>) -> Rooms {
        Rooms {
            joined: BTreeSet::new(),
            silent: HashMap::new(),
            not_checking: HashSet::new(),
            taking_offers: HashSet::new(),
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

    /// Whether the node was in it.
    pub(crate) fn leave(&mut self, room: &RoomName) -> bool {
        self.joined.remove(room)
    }

    pub(crate) fn is_in(&self, room: &RoomName) -> bool {
        self.joined.contains(room)
    }

    pub(crate) fn joined(&self) -> Vec<RoomName> {
        self.joined.iter().cloned().collect()
    }

    /// A link came up: until when to wait for it to say in which rooms it is. Not at all when it has:
    /// what gossip tells may overtake what the handshake tells.
    pub(crate) fn settling(&mut self, now: Time, peer_id: PeerId, has_said: bool) -> Time {
        if has_said {
            return now;
        }
        self.silent.insert(peer_id, now);
        now + SETTLE
    }

    /// The peer has said in which rooms it is.
    pub(crate) fn settled(&mut self, peer_id: &PeerId) {
        self.silent.remove(peer_id);
    }

    /// The peer is gone.
    pub(crate) fn gone(&mut self, peer_id: &PeerId) {
        self.silent.remove(peer_id);
        self.not_checking.remove(peer_id);
        self.taking_offers.remove(peer_id);
    }

    /// The peer has shown that it does not speak data checking.
    pub(crate) fn does_not_check(&mut self, peer_id: PeerId) {
        self.not_checking.insert(peer_id);
        self.taking_offers.remove(&peer_id);
    }

    /// The peer has said that it understands offers.
    pub(crate) fn takes_offers(&mut self, peer_id: PeerId) {
        self.taking_offers.insert(peer_id);
    }

    /// Whether all of `peers` understand offers; there is one at least.
    pub(crate) fn all_take_offers<'a>(&self, peers: impl Iterator<Item = &'a PeerId>) -> bool {
        let mut peers = peers.peekable();
        peers.peek().is_some() && peers.all(|peer| self.taking_offers.contains(peer))
    }

    /// Whether the peer may take part in data checking.
    pub(crate) fn checks(&self, peer_id: &PeerId) -> bool {
        !self.not_checking.contains(peer_id)
    }

    /// Until when to wait for links that have not said in which rooms they are.
    pub(crate) fn unsettled_until(&self, now: Time) -> Option<Time> {
        self.silent_until(now, SETTLE)
    }

    /// Until when to wait for them before it is certain that nobody is there.
    pub(crate) fn unspoken_until(&self, now: Time) -> Option<Time> {
        self.silent_until(now, SPEAK)
    }

    fn silent_until(&self, now: Time, patience: Duration) -> Option<Time> {
        let until = self.silent.values().max().map(|since| *since + patience);
        until.filter(|until| now < *until)
    }

    /// Somebody came into a room.
    pub(crate) fn announce(&self) {
        self.bell.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_waited_for_until_it_has_said_its_rooms_also_when_it_said_them_first() {
        let mut rooms = Rooms::new(Arc::default());
        let (slow, quick) = (PeerId::random(), PeerId::random());
        let now = Time::ZERO;
        assert_eq!(rooms.settling(now, quick, true), now);
        assert_eq!(rooms.unsettled_until(now), None);
        assert_eq!(rooms.settling(now, slow, false), now + SETTLE);
        assert_eq!(rooms.unsettled_until(now), Some(now + SETTLE));
        rooms.settled(&slow);
        assert_eq!(rooms.unsettled_until(now), None);
    }

    #[test]
    fn a_silent_link_is_waited_for_longer_when_nobody_else_is_there_but_not_for_ever() {
        let mut rooms = Rooms::new(Arc::default());
        let (first, second) = (PeerId::random(), PeerId::random());
        let later = Time::ZERO + Duration::from_secs(1);
        rooms.settling(Time::ZERO, first, false);
        assert_eq!(rooms.unsettled_until(later), None);
        assert_eq!(rooms.unspoken_until(later), Some(Time::ZERO + SPEAK));
        rooms.settling(later, second, false);
        assert_eq!(rooms.unspoken_until(later), Some(later + SPEAK));
        assert_eq!(rooms.unspoken_until(later + SPEAK), None);
        rooms.gone(&second);
        assert_eq!(rooms.unspoken_until(later), Some(Time::ZERO + SPEAK));
        rooms.settled(&first);
        assert_eq!(rooms.unspoken_until(later), None);
    }

    #[test]
    fn large_batches_are_offered_when_every_peer_there_understands_it() {
        let mut rooms = Rooms::new(Arc::default());
        let (one, two) = (PeerId::random(), PeerId::random());
        assert!(!rooms.all_take_offers([].iter()));
        rooms.takes_offers(one);
        assert!(rooms.all_take_offers([one].iter()));
        assert!(!rooms.all_take_offers([one, two].iter()));
        rooms.takes_offers(two);
        assert!(rooms.all_take_offers([one, two].iter()));
        // One that refuses data checking cannot be asked either.
        rooms.does_not_check(two);
        assert!(!rooms.all_take_offers([one, two].iter()));
        rooms.gone(&one);
        assert!(!rooms.all_take_offers([one].iter()));
    }
}
