//! Publishing of this node's batches: by gossip, or as announcements that neighbours fetch.
//!
//! Entry: [`GossipDriver::on_publish`]. The rule it keeps: a batch waits while a link's send window is full or its order would
//! change, and the outbox waits with it.

use std::time::Duration;

use libp2p::PeerId;
use libp2p::gossipsub::PublishError;

use super::GossipDriver;
use crate::clock::Time;
use crate::gossip::{self, VerifiedBatch};
use crate::node::error::BroadcastError;
use crate::node::event::Kind;
use crate::node::outbox::{Publish, PublishOutcome, PublishResult};
use crate::node::runner::clock::ClockWatch;
use crate::node::runner::network::Network;
use crate::sync::ANNOUNCE_ABOVE;

/// Time after which a batch that found no room on the links is tried again, if no link has become writable before.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// The next step for the first batch of a group.
enum Step {
    /// It is published.
    Published(PublishOutcome),
    /// It waits until this time, with all that follow.
    Wait(Time),
    /// It and all that follow are refused.
    Refused(BroadcastError),
}

impl GossipDriver {
    /// Returns whether the next batches may be taken from the outbox.
    pub(in crate::node::runner) fn can_publish(&self) -> bool {
        self.deferred.is_none()
    }

    /// Waits until a link has room for more.
    pub(in crate::node::runner) async fn links_writable(&self) {
        self.send_windows.writable().await;
    }

    /// Publishes batches. Waits for the subscriptions of new links.
    pub(in crate::node::runner) fn on_publish(
        &mut self,
        now: Time,
        network: &mut Network,
        clocks: &ClockWatch,
        publish: Publish,
    ) {
        match self.rooms.subscription_grace_until(now) {
            Some(until) => self.deferred = Some((until, publish)),
            None => self.publish(now, network, clocks, publish),
        }
    }

    /// Tries again to publish waiting batches, unless new links have not sent theirs yet.
    pub(in crate::node::runner) fn retry_publish(
        &mut self,
        now: Time,
        network: &mut Network,
        clocks: &ClockWatch,
    ) {
        if self.rooms.subscription_grace_until(now).is_none()
            && let Some((_, publish)) = self.deferred.take()
        {
            self.publish(now, network, clocks, publish);
        }
    }

    /// Runs the timers that are due by `now`.
    pub(in crate::node::runner) fn on_time(
        &mut self,
        now: Time,
        network: &mut Network,
        clocks: &ClockWatch,
    ) {
        self.flush_forwards(now, network);
        if let Some((_, publish)) = self.deferred.take_if(|(at, _)| *at <= now) {
            self.publish(now, network, clocks, publish);
        }
    }

    fn publish(
        &mut self,
        now: Time,
        network: &mut Network,
        clocks: &ClockWatch,
        mut publish: Publish,
    ) {
        let mut refused = None;
        while let Some(batch) = publish.batches.front() {
            // Announced batches keep their order, and are stored when the group is answered. No batch may wait for one of
            // its own group.
            let follows_announcement = publish
                .published
                .iter()
                .any(|one| one.to_announce.is_some());
            match self.publish_one(now, network, clocks, batch, follows_announcement) {
                Step::Published(outcome) => {
                    publish.published.push(outcome);
                    publish.batches.pop_front();
                }
                Step::Wait(until) => {
                    self.deferred = Some((until, publish));
                    return;
                }
                Step::Refused(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let Publish {
            published, reply, ..
        } = publish;
        let _ = reply.send(PublishResult { published, refused });
    }

    fn publish_one(
        &self,
        now: Time,
        network: &mut Network,
        clocks: &ClockWatch,
        batch: &VerifiedBatch,
        follows_announcement: bool,
    ) -> Step {
        let room = batch.room();
        if !self.rooms.is_in(room) {
            return Step::Refused(BroadcastError::NotInRoom(room.clone()));
        }
        let peers = network.peers_in(&gossip::topic(room).hash());
        if peers.is_empty()
            && let Some(until) = self.rooms.subscription_timeout_until(now)
        {
            return Step::Wait(until);
        }
        if let Some(error) = clocks.refusal(now, batch, &peers) {
            return Step::Refused(error);
        }
        let links = clocks.takers(now, batch, &peers);
        let by_announcement =
            batch.bytes().len() > ANNOUNCE_ABOVE && self.all_support_announcements(&peers);
        let windows = &self.send_windows;
        let must_wait = windows.is_full(peers.iter())
            || !by_announcement && !follows_announcement && windows.would_reorder(peers.iter());
        if must_wait {
            return Step::Wait(now + RETRY_INTERVAL);
        }
        if by_announcement {
            let to_announce = Some(windows.begin_announcement());
            return Step::Published(PublishOutcome { links, to_announce });
        }
        windows.add(peers.iter(), batch.bytes().len());
        self.gossip_own(network, batch, links)
    }

    fn gossip_own(&self, network: &mut Network, batch: &VerifiedBatch, links: usize) -> Step {
        let room = batch.room();
        let published = |links| {
            let to_announce = None;
            Step::Published(PublishOutcome { links, to_announce })
        };
        let send = || {
            let topic = gossip::topic(room);
            network.gossip().publish(topic, batch.bytes().to_vec())
        };
        match self.ids.publishing(batch.id(), send) {
            Ok(_) => published(links),
            Err(PublishError::NoPeersSubscribedToTopic) => {
                Step::Refused(BroadcastError::NoLinks(room.clone()))
            }
            // Gossipsub remembers the batch as published, and would refuse it a second time: neighbours fetch it by
            // anti-entropy.
            Err(PublishError::AllQueuesFull(_)) => {
                if self.bus.may_log(Kind::QueueFull, None) {
                    tracing::warn!(%room, "all queues are full: data checking brings the batch");
                }
                published(0)
            }
            Err(error) => Step::Refused(BroadcastError::Unsendable(error.to_string())),
        }
    }

    /// Gossips a batch that was fetched after an announcement, when there are neighbours that understand no announcements.
    pub(in crate::node::runner) fn gossip_fetched(
        &self,
        network: &mut Network,
        batch: &VerifiedBatch,
    ) {
        let topic = gossip::topic(batch.room());
        let peers = network.peers_in(&topic.hash());
        if peers.is_empty() || self.all_support_announcements(&peers) {
            return;
        }
        let send = || network.gossip().publish(topic, batch.bytes().to_vec());
        if let Err(error) = self.ids.publishing(batch.id(), send) {
            tracing::debug!(%error, "a batch that was announced to us was not gossiped");
        }
    }

    /// Returns whether all linked peers among `peers`, of which there must be one, understand announcements. A peer that has
    /// just linked or unlinked gets the batch by anti-entropy.
    fn all_support_announcements(&self, peers: &[PeerId]) -> bool {
        let linked = peers.iter().filter(|peer| self.linked.contains(*peer));
        self.rooms.all_support_announcements(linked)
    }
}
