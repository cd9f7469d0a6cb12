//! Effects: the consequences that an event in one protocol has for the others. They cross here and in `link_lifecycle`, and
//! nowhere else.
//!
//! Entry type: [`Effect`]. The rule it keeps: drivers know nothing of one another; a driver queues effects, and the runner
//! applies them in order before it waits for the next event.

use std::collections::VecDeque;

use libp2p::PeerId;

use super::Runner;
use super::connections::DialFailure;
use crate::gossip::VerifiedBatch;
use crate::node::ingest::SyncCommand;
use crate::node::links::Link;
use crate::overlay::Reason;

/// A consequence for another driver.
#[derive(Debug)]
pub(super) enum Effect {
    /// A dial, or its handshake, has failed.
    DialFailed(DialFailure),
    /// The set of entry nodes that have answered has changed.
    EntriesChanged,
    /// A peer's last connection is closed or about to close.
    LinkDown { link: Link, reason: String },
    /// The overlay has given up the link with this peer.
    GiveUpLink { peer_id: PeerId, reason: Reason },
    /// A link has brought a batch that was new here.
    Brought(PeerId),
    /// Gossipsub knows the rooms of a linked peer.
    Subscribed(PeerId),
    /// A linked peer has left a room.
    Unsubscribed(PeerId),
    /// A linked peer does not support gossipsub, and will never subscribe.
    NoGossip(PeerId),
    /// A linked peer does not support data checking.
    NoSync(PeerId),
    /// The time on a peer's clock, by its request, in Unix milliseconds.
    PeerClock { peer_id: PeerId, theirs_ms: u64 },
    /// A command for the ingest task, after the effects before it.
    Sync(SyncCommand),
    /// Gossip a batch that was fetched after an announcement.
    Gossip(VerifiedBatch),
    /// Close the links with a peer that broke a rule, and ban it for a while.
    Ban {
        peer_id: PeerId,
        reason: String,
        code: &'static str,
    },
}

/// Effects that are not applied yet.
pub(super) type Effects = VecDeque<Effect>;

impl Runner {
    /// Applies all queued effects, and those that follow from them.
    pub(super) fn apply_effects(&mut self) {
        while let Some(effect) = self.effects.pop_front() {
            self.apply(effect);
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::DialFailed(failure) => self.on_dial_failed(failure),
            Effect::EntriesChanged => self.update_entries(),
            Effect::LinkDown { link, reason } => self.on_link_down(&link, reason),
            Effect::GiveUpLink { peer_id, reason } => self.give_up_link(peer_id, reason),
            Effect::Brought(peer_id) => {
                if let Some(overlay) = self.network.overlay() {
                    overlay.on_new_batch(peer_id);
                }
            }
            Effect::Subscribed(peer_id) => {
                self.connections.announce_link(&peer_id);
                self.gossip.notify_peer_joined();
                self.update_rooms_of(peer_id);
                self.retry_publish();
            }
            Effect::Unsubscribed(peer_id) => self.update_rooms_of(peer_id),
            Effect::NoGossip(peer_id) => self.connections.announce_link(&peer_id),
            Effect::NoSync(peer_id) => self.gossip.set_no_sync(peer_id),
            Effect::PeerClock { peer_id, theirs_ms } => {
                let now = self.clock.now();
                if self.connections.is_linked(&peer_id)
                    && self.clocks.on_request(now, peer_id, theirs_ms)
                {
                    self.sync.send(SyncCommand::Clock(peer_id, theirs_ms));
                }
            }
            Effect::Sync(command) => self.sync.send(command),
            Effect::Gossip(batch) => self.gossip.gossip_fetched(&mut self.network, &batch),
            Effect::Ban {
                peer_id,
                reason,
                code,
            } => {
                let now = self.clock.now();
                let network = &mut self.network;
                self.connections
                    .disconnect_and_ban(now, network, peer_id, &reason, code);
            }
        }
    }

    /// Passes a peer's rooms to the ingest task, if the peer may take part in data checking.
    pub(super) fn update_rooms_of(&mut self, peer_id: PeerId) {
        if self.gossip.may_sync(&peer_id) {
            let rooms = self.network.rooms_of(&peer_id);
            self.sync.send(SyncCommand::RoomsOf(peer_id, rooms));
        }
    }

    /// Publishes waiting batches, if the time to wait for subscriptions is over.
    pub(super) fn retry_publish(&mut self) {
        let now = self.clock.now();
        self.gossip
            .retry_publish(now, &mut self.network, &self.clocks);
    }

    /// Passes the entry nodes that have answered to the overlay, which dials them when all links are lost.
    pub(super) fn update_entries(&mut self) {
        if let Some(overlay) = self.network.overlay() {
            overlay.set_entries(self.connections.entries());
        }
    }
}
