//! The links of a node: its verified connections, and the choice between two of one peer.
//!
//! Entry type: [`Links`]. The rule it keeps: a peer counts as one link however many connections it has, and both ends
//! of two connections keep the same one.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use super::event::Direction;
use crate::clock::Time;

/// Maximum time between two verified connections that were dialled by both ends at once; a later one shows that the
/// peer has lost the earlier. An estimate: a few times the handshake's deadline of 10 s is right, one second would be
/// too short.
const SIMULTANEOUS_DIAL_WINDOW: Duration = Duration::from_secs(20);

/// Maximum time since the last sign of life of a link that counts as alive when another process uses its peer's
/// identity. A ping is answered every 5 s.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(8);

/// One verified connection.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) connection_id: ConnectionId,
    pub(crate) peer_id: PeerId,
    pub(crate) instance_id: [u8; 16],
    pub(crate) address: Multiaddr,
    pub(crate) direction: Direction,
    pub(crate) since: Time,
    pub(crate) heard: Time,
    pub(crate) rtt: Option<Duration>,
    /// Difference between the peer's clock and ours in milliseconds, by its own account in the handshake; positive when
    /// its clock is ahead.
    pub(crate) clock_offset_ms: i64,
}

/// The consequence of a newly verified connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// The peer had no link before.
    New,
    /// The peer has a link already: this connection, old or new, must be closed.
    Close(ConnectionId),
}

/// All verified connections; so few that a scan costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Links {
    by_connection: HashMap<ConnectionId, Link>,
}

impl Links {
    /// Returns the number of linked peers.
    pub(crate) fn count(&self) -> usize {
        let mut peers: Vec<&PeerId> = self.by_connection.values().map(|l| &l.peer_id).collect();
        peers.sort_unstable();
        peers.dedup();
        peers.len()
    }

    /// Returns one link for each peer, the oldest first.
    pub(crate) fn all(&self) -> Vec<&Link> {
        let mut links: Vec<&Link> = self.by_connection.values().collect();
        links.sort_by_key(|l| (l.since, l.connection_id));
        let mut seen = std::collections::HashSet::new();
        links.retain(|l| seen.insert(l.peer_id));
        links
    }

    /// Returns the link of `peer_id`, if it has one.
    pub(crate) fn of(&self, peer_id: &PeerId) -> Option<&Link> {
        self.by_connection
            .values()
            .filter(|l| l.peer_id == *peer_id)
            .min_by_key(|l| l.since)
    }

    /// Returns all verified connections of `peer_id`: two for a moment, when dials have crossed.
    pub(crate) fn connections_of(&self, peer_id: &PeerId) -> Vec<ConnectionId> {
        self.by_connection
            .values()
            .filter(|l| l.peer_id == *peer_id)
            .map(|l| l.connection_id)
            .collect()
    }

    /// Returns whether the peer of this connection has another verified connection.
    pub(crate) fn is_one_of_several(&self, connection_id: ConnectionId) -> bool {
        self.get(connection_id)
            .is_some_and(|l| self.connections_of(&l.peer_id).len() > 1)
    }

    /// Returns the link of this connection, if it is verified.
    pub(crate) fn get(&self, connection_id: ConnectionId) -> Option<&Link> {
        self.by_connection.get(&connection_id)
    }

    /// Records a sign of life of the peer on this connection.
    pub(crate) fn note_alive(
        &mut self,
        connection_id: ConnectionId,
        now: Time,
        rtt: Option<Duration>,
    ) {
        if let Some(link) = self.by_connection.get_mut(&connection_id) {
            link.heard = now;
            link.rtt = rtt.or(link.rtt);
        }
    }

    /// Returns whether another process with this identity is linked, and alive. A dead one is to be replaced: its
    /// machine may have lost power.
    pub(crate) fn duplicate(
        &self,
        peer_id: &PeerId,
        instance_id: &[u8; 16],
        now: Time,
    ) -> Duplicate {
        match self.of(peer_id) {
            Some(link) if link.instance_id != *instance_id => {
                if now.since(link.heard) < ALIVE_TIMEOUT {
                    Duplicate::Alive
                } else {
                    Duplicate::Dead(link.connection_id)
                }
            }
            _ => Duplicate::None,
        }
    }

    /// Adds a verified connection.
    pub(crate) fn insert(&mut self, own: &PeerId, link: Link) -> Inserted {
        let old = self.of(&link.peer_id).cloned();
        let inserted = match &old {
            None => Inserted::New,
            Some(old) => Inserted::Close(loser(own, old, &link)),
        };
        self.by_connection.insert(link.connection_id, link);
        inserted
    }

    /// Removes a closed connection. Returns its link, and whether its peer has none left.
    pub(crate) fn remove(&mut self, connection_id: ConnectionId) -> Option<(Link, bool)> {
        let link = self.by_connection.remove(&connection_id)?;
        let last = self.of(&link.peer_id).is_none();
        Some((link, last))
    }
}

/// Another process with the same identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duplicate {
    /// No other process is linked.
    None,
    /// Another process is linked and answers.
    Alive,
    /// Another process was linked and does not answer: its connection must be closed.
    Dead(ConnectionId),
}

fn loser(own: &PeerId, old: &Link, new: &Link) -> ConnectionId {
    let crossed =
        old.direction != new.direction && new.since.since(old.since) < SIMULTANEOUS_DIAL_WINDOW;
    if !crossed {
        // A later dial, or one from the same end, shows that the peer has lost the old connection.
        return old.connection_id;
    }
    // Of two crossed dials, both ends keep the one from the smaller PeerId.
    let smaller_dialled = match new.direction {
        Direction::Dialer => own.to_bytes() < new.peer_id.to_bytes(),
        Direction::Listener => new.peer_id.to_bytes() < own.to_bytes(),
    };
    if smaller_dialled {
        old.connection_id
    } else {
        new.connection_id
    }
}

#[cfg(test)]
mod tests;
