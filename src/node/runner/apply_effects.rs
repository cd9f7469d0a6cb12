//! Carries effects out: each goes to the driver that it is for.
//!
//! Entry: [`Runner::apply_effects`]. The rule it keeps: effects are applied in the order in which they were queued, with all
//! that follow from them, before the loop waits for the next event.

use libp2p::PeerId;

use super::Runner;
use super::effect::Effect;
use crate::node::ingest::SyncCommand;

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
