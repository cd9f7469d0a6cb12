//! The loop's part in what links carry: rooms, messages in, batches out.
//!
//! The rule it keeps: nothing is dropped for want of a place; who is too fast waits.

use std::time::Duration;

use libp2p::PeerId;
use libp2p::gossipsub::{self, MessageAcceptance, PublishError, TopicHash};
use rand::RngExt as _;
use tokio::sync::mpsc;

use super::Runner;
use crate::clock::Time;
use crate::gossip::{self, BatchError, IDONTWANT_ABOVE, VerifiedBatch};
use crate::model::RoomName;
use crate::net::stage::{Stage, StageError};
use crate::node::clocks::ClockReport;
use crate::node::error::{BroadcastError, JoinError};
use crate::node::event::{Cause, Event, Kind};
use crate::node::inbox::{Incoming, Verdict};
use crate::node::ingest::Note;
use crate::node::outbox::{Publish, Published, Taken};
use crate::sync::OFFER_ABOVE;

/// How long a large message waits before it is passed on: peers that have it by then have said that
/// they do not want it, and are not sent another copy. It grows with the message, for so does the time
/// that the publisher needs to send it on its other links; and it is up to [`PASS_ON_SPREAD`] times as
/// long by chance, so that of several nodes with the same neighbour one is the first. Guesses, measured
/// on one machine.
const PASS_ON_AFTER: Duration = Duration::from_millis(2);
const PASS_ON_BYTES_A_SECOND: f64 = 25e6;
const PASS_ON_SPREAD: f64 = 3.0;
/// How soon a batch that found no room on the links is tried again, if nothing tells of room before.
const RETRY_FULL: Duration = Duration::from_millis(5);

impl Runner {
    pub(super) fn refill_inbox(&mut self) {
        while let Some(incoming) = self.held.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(incoming)) =
                self.channels.incoming.try_send(incoming)
            {
                self.held.push_front(incoming);
                return;
            }
        }
    }

    pub(super) fn on_join(&mut self, room: RoomName) -> Result<(), JoinError> {
        self.rooms.join(room.clone())?;
        let gossip = &mut self.swarm.behaviour_mut().gate.inner_mut().gossip;
        if let Err(error) = gossip.subscribe(&gossip::topic(&room)) {
            // Every well-formed room may be subscribed to, and `room` is one.
            tracing::error!(%room, %error, "gossipsub refused a subscription");
        }
        self.note(Note::Join(room));
        Ok(())
    }

    pub(super) fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            } => {
                self.on_message(propagation_source, message_id, message);
            }
            gossipsub::Event::Subscribed { peer_id, .. } => {
                self.rooms.subscriptions_known(&peer_id);
                self.rise(|(_, info, _)| info.peer_id == peer_id);
                self.rooms.notify_joined();
                self.tell_rooms_of(peer_id);
                self.retry_deferred(self.clock.now());
            }
            gossipsub::Event::Unsubscribed { peer_id, .. } => self.tell_rooms_of(peer_id),
            gossipsub::Event::SlowPeer {
                peer_id,
                failed_messages,
            } => {
                if self.bus.may_log(Kind::SlowLink, Some(Cause::Peer(peer_id))) {
                    tracing::warn!(%peer_id, ?failed_messages, "a link is too slow: messages for it were dropped");
                }
            }
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                tracing::debug!(%peer_id, "the peer does not speak gossipsub");
                self.rooms.subscriptions_known(&peer_id);
                self.rise(|(_, info, _)| info.peer_id == peer_id);
            }
        }
    }

    pub(super) fn on_message(
        &mut self,
        from: PeerId,
        message_id: gossipsub::MessageId,
        message: gossipsub::Message,
    ) {
        let Some(room) = RoomName::from_topic(message.topic.as_str()) else {
            self.report(&message_id, &from, MessageAcceptance::Reject);
            return;
        };
        let incoming = Incoming {
            from,
            hashed: self.channels.ids.take(&message_id),
            message_id,
            room,
            data: message.data.into(),
        };
        match self.channels.incoming.try_send(incoming) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(incoming)) => self.held.push_back(incoming),
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    pub(super) fn on_verdict(&mut self, verdict: Verdict) {
        let Verdict {
            from,
            message_id,
            bytes,
            result,
        } = verdict;
        if result.is_ok() {
            self.note_brought(from);
        }
        if result.is_ok() && bytes > IDONTWANT_ABOVE {
            let factor = self.rng.random_range(1.0..=PASS_ON_SPREAD);
            let at = self.clock.now() + ripening_time(bytes).mul_f64(factor);
            let place = self.ripening.partition_point(|(other, ..)| *other <= at);
            self.ripening.insert(place, (at, message_id, from));
            return;
        }
        let acceptance = match &result {
            Ok(()) => MessageAcceptance::Accept,
            Err(error) if error.is_offence() => MessageAcceptance::Reject,
            Err(_) => MessageAcceptance::Ignore,
        };
        self.report(&message_id, &from, acceptance);
        let Err(error) = result else { return };
        if let BatchError::Ahead { author, by_ms } = error {
            let report = ClockReport::author_ahead(author, by_ms);
            return self.bus.emit(Event::Clock(report));
        }
        if self
            .bus
            .may_log(Kind::MessageRefused, Some(Cause::Peer(from)))
        {
            tracing::warn!(peer_id = %from, %error, "a message was refused");
        }
        // Nodes check before they forward: whoever handed it on is who broke the rule.
        let reason = format!("the peer sent what is no batch: {error}");
        self.send_away(from, &reason, "INVALID_BATCH");
    }

    /// Passes on what has waited long enough for those that have it already to say so.
    pub(super) fn pass_on(&mut self, now: Time) {
        while self.ripening.front().is_some_and(|(at, ..)| *at <= now) {
            if let Some((_, id, from)) = self.ripening.pop_front() {
                self.report(&id, &from, MessageAcceptance::Accept);
            }
        }
    }

    /// Closes the link of a peer that did what no honest one does, and does not let it back for a
    /// while.
    pub(super) fn send_away(&mut self, peer_id: PeerId, reason: &str, code: &'static str) {
        self.admission.ban(self.clock.now(), peer_id);
        let Some(link) = self.links.of(&peer_id).cloned() else {
            return;
        };
        for connection_id in self.links.connections_of(&peer_id) {
            self.close(connection_id, reason);
        }
        let error = StageError::new(Stage::Link, reason).with_code(code);
        self.refused(Some(peer_id), link.address, error);
    }

    pub(super) fn report(
        &mut self,
        id: &gossipsub::MessageId,
        from: &PeerId,
        acceptance: MessageAcceptance,
    ) {
        let gossip = &mut self.swarm.behaviour_mut().gate.inner_mut().gossip;
        gossip.report_message_validation_result(id, from, acceptance);
    }

    pub(super) fn on_publish(&mut self, publish: Publish) {
        let now = self.clock.now();
        // A link that has just come up has not told its rooms yet: wait for it, shortly.
        match self.rooms.subscription_grace_until(now) {
            Some(until) => self.deferred = Some((until, publish)),
            None => self.publish(now, publish),
        }
    }

    pub(super) fn retry_deferred(&mut self, now: Time) {
        if self.rooms.subscription_grace_until(now).is_none()
            && let Some((_, publish)) = self.deferred.take()
        {
            self.publish(now, publish);
        }
    }

    /// Hands batches on for as long as the links have room for them; the rest waits.
    pub(super) fn publish(&mut self, now: Time, mut publish: Publish) {
        let room = publish.room.clone();
        let topic = gossip::topic(&room);
        let hash = topic.hash();
        let mut refused = None;
        while let Some(batch) = publish.batches.front() {
            if !self.rooms.is_in(&room) {
                refused = Some(BroadcastError::NotInRoom(room));
                break;
            }
            let peers = self.peers_in(&hash);
            if peers.is_empty()
                && let Some(until) = self.rooms.subscription_timeout_until(now)
            {
                self.deferred = Some((until, publish));
                return;
            }
            let clocks = &self.channels.clocks;
            refused = clocks.refusal(now, batch, &peers);
            if refused.is_some() {
                break;
            }
            let links = clocks.takers(now, batch, &peers);
            let by_offer = batch.bytes().len() > OFFER_ABOVE && self.all_take_offers(&peers);
            let send_windows = &self.channels.send_windows;
            // What is offered is offered, and mostly fetched, in its order. It is stored when this is
            // answered: nothing waits for what is answered together with it.
            let follows = publish.taken.iter().any(|taken| taken.to_offer.is_some());
            let waits = send_windows.is_full(peers.iter())
                || !by_offer && !follows && send_windows.would_reorder(peers.iter());
            if waits {
                self.deferred = Some((now + RETRY_FULL, publish));
                return;
            }
            if by_offer {
                let to_offer = Some(send_windows.begin_offer());
                publish.taken.push(Taken { links, to_offer });
                publish.batches.pop_front();
                continue;
            }
            send_windows.add(peers.iter(), batch.bytes().len());
            let to_offer = None;
            let gossip = &mut self.swarm.behaviour_mut().gate.inner_mut().gossip;
            let publish_it = || gossip.publish(topic.clone(), batch.bytes().to_vec());
            match self.channels.ids.publishing(batch.id(), publish_it) {
                Ok(_) => {
                    publish.taken.push(Taken { links, to_offer });
                    publish.batches.pop_front();
                }
                Err(PublishError::NoPeersSubscribedToTopic) => {
                    refused = Some(BroadcastError::NoLinks(room));
                    break;
                }
                // gossipsub remembers it as published, and would not take it again: the neighbours
                // fetch it when they compare.
                Err(PublishError::AllQueuesFull(_)) => {
                    if self.bus.may_log(Kind::QueueFull, None) {
                        tracing::warn!(%room, "all queues are full: data checking brings the batch");
                    }
                    publish.taken.push(Taken { links: 0, to_offer });
                    publish.batches.pop_front();
                }
                Err(error) => {
                    refused = Some(BroadcastError::Unsendable(error.to_string()));
                    break;
                }
            }
        }
        let Publish { taken, reply, .. } = publish;
        let _ = reply.send(Published { taken, refused });
    }

    /// Gossips a batch that came by an offer, when there are neighbours that understand none.
    pub(super) fn gossip_offered(&mut self, batch: &VerifiedBatch) {
        let topic = gossip::topic(batch.room());
        let peers = self.peers_in(&topic.hash());
        if peers.is_empty() || self.all_take_offers(&peers) {
            return;
        }
        let gossip = &mut self.swarm.behaviour_mut().gate.inner_mut().gossip;
        let publish = || gossip.publish(topic, batch.bytes().to_vec());
        if let Err(error) = self.channels.ids.publishing(batch.id(), publish) {
            tracing::debug!(%error, "a batch that was offered to us was not gossiped");
        }
    }

    /// Whether those of `peers` to which a link stands, and there is one, understand offers. One that has
    /// just come up or has ended compares what it holds, here or elsewhere.
    fn all_take_offers(&self, peers: &[PeerId]) -> bool {
        let linked = peers.iter().filter(|peer| self.links.of(peer).is_some());
        self.rooms.all_take_offers(linked)
    }

    /// The linked peers that are in a room.
    fn peers_in(&self, topic: &TopicHash) -> Vec<PeerId> {
        let gossip = &self.swarm.behaviour().gate.inner().gossip;
        gossip
            .all_peers()
            .filter(|(_, topics)| topics.contains(&topic))
            .map(|(peer_id, _)| *peer_id)
            .collect()
    }
}

fn ripening_time(bytes: usize) -> Duration {
    PASS_ON_AFTER + Duration::from_secs_f64(bytes as f64 / PASS_ON_BYTES_A_SECOND)
}
