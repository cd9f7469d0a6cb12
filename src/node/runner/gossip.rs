//! The gossip driver: rooms, received messages on their way to the ingest task, and batches on their way to the links.
//!
//! Entry type: [`GossipDriver`]. The rule it keeps: backpressure instead of loss. While the ingest task's queue is full, the
//! network is not read; while the links are full, the outbox waits.

mod forwards;
mod publish;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use libp2p::PeerId;
use libp2p::gossipsub::{self, MessageAcceptance};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Notify, mpsc};

use self::forwards::DelayedForwards;
use super::effect::{Effect, Effects};
use super::network::Network;
use crate::clock::Time;
use crate::gossip::{self, BatchError, MIN_IDONTWANT_BYTES, MessageIds};
use crate::model::RoomName;
use crate::net::backpressure::SendWindows;
use crate::node::clocks::ClockReport;
use crate::node::error::JoinError;
use crate::node::event::{Cause, Event, EventBus, Kind};
use crate::node::inbox::{Incoming, Verdict};
use crate::node::outbox::Publish;
use crate::node::rooms::Rooms;

/// Rooms, received messages and outgoing batches.
pub(super) struct GossipDriver {
    bus: EventBus,
    rooms: Rooms,
    linked: HashSet<PeerId>,
    /// To the ingest task.
    messages: mpsc::Sender<Incoming>,
    /// Messages for which the ingest task's queue had no room.
    held: VecDeque<Incoming>,
    /// Large messages that are forwarded with a delay.
    delayed_forwards: DelayedForwards,
    /// Batches that wait for subscriptions or for room on the links, and when to try again.
    deferred: Option<(Time, Publish)>,
    send_windows: SendWindows,
    ids: Arc<MessageIds>,
    rng: StdRng,
}

impl GossipDriver {
    pub(super) fn new(
        bus: EventBus,
        messages: mpsc::Sender<Incoming>,
        peer_joined: Arc<Notify>,
        send_windows: SendWindows,
        ids: Arc<MessageIds>,
    ) -> GossipDriver {
        GossipDriver {
            bus,
            rooms: Rooms::new(peer_joined),
            linked: HashSet::new(),
            messages,
            held: VecDeque::new(),
            delayed_forwards: DelayedForwards::default(),
            deferred: None,
            send_windows,
            ids,
            rng: StdRng::from_rng(&mut rand::rng()),
        }
    }

    /// Returns when [`GossipDriver::on_time`] is next due.
    pub(super) fn deadline(&self) -> Option<Time> {
        let retry = self.deferred.as_ref().map(|(at, _)| *at);
        retry
            .into_iter()
            .chain(self.delayed_forwards.deadline())
            .min()
    }

    /// Returns whether the network may be read: all received messages are in the ingest task's queue.
    pub(super) fn can_receive(&self) -> bool {
        self.held.is_empty()
    }

    /// Waits until the ingest task's queue has room, or the task has ended.
    pub(super) async fn inbox_writable(&self) {
        let _ = self.messages.reserve().await;
    }

    /// Moves held messages to the ingest task's queue, as far as there is room.
    pub(super) fn refill_inbox(&mut self) {
        while let Some(incoming) = self.held.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(incoming)) = self.messages.try_send(incoming)
            {
                self.held.push_front(incoming);
                return;
            }
        }
    }

    /// Joins a room and subscribes to its topic.
    ///
    /// # Errors
    ///
    /// [`JoinError::TooMany`] when the node is in as many rooms as it may be.
    pub(super) fn join(&mut self, network: &mut Network, room: &RoomName) -> Result<(), JoinError> {
        self.rooms.join(room.clone())?;
        if let Err(error) = network.gossip().subscribe(&gossip::topic(room)) {
            // Every well-formed room may be subscribed to, and `room` is one.
            tracing::error!(%room, %error, "gossipsub refused a subscription");
        }
        Ok(())
    }

    /// Leaves a room. Returns whether the node was in it.
    pub(super) fn leave(&mut self, network: &mut Network, room: &RoomName) -> bool {
        network.gossip().unsubscribe(&gossip::topic(room));
        self.rooms.leave(room)
    }

    /// Returns the rooms of this node.
    pub(super) fn joined(&self) -> Vec<RoomName> {
        self.rooms.joined()
    }

    /// Adds a linked peer. Returns until when to wait for the peer's subscriptions before the link is announced.
    pub(super) fn on_link_up(
        &mut self,
        now: Time,
        network: &Network,
        peer_id: PeerId,
        supports_announcements: bool,
    ) -> Time {
        self.linked.insert(peer_id);
        if supports_announcements {
            self.rooms.set_supports_announcements(peer_id);
        }
        let has_subscribed = network.has_subscribed(&peer_id);
        self.rooms.await_subscriptions(now, peer_id, has_subscribed)
    }

    /// A peer's last link is gone.
    pub(super) fn on_link_down(&mut self, peer_id: &PeerId) {
        self.linked.remove(peer_id);
        self.rooms.forget(peer_id);
    }

    /// Marks a peer that does not support data checking.
    pub(super) fn set_no_sync(&mut self, peer_id: PeerId) {
        self.rooms.set_without_sync(peer_id);
    }

    /// Returns whether a peer may take part in data checking.
    pub(super) fn may_sync(&self, peer_id: &PeerId) -> bool {
        self.rooms.supports_sync(peer_id)
    }

    /// Wakes broadcasts that wait for a peer in their room.
    pub(super) fn notify_peer_joined(&self) {
        self.rooms.notify_joined();
    }

    /// Handles an event of gossipsub.
    pub(super) fn on_event(
        &mut self,
        network: &mut Network,
        event: gossipsub::Event,
        effects: &mut Effects,
    ) {
        match event {
            gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            } => self.on_message(network, propagation_source, message_id, message),
            gossipsub::Event::Subscribed { peer_id, .. } => {
                self.rooms.subscriptions_known(&peer_id);
                effects.push_back(Effect::Subscribed(peer_id));
            }
            gossipsub::Event::Unsubscribed { peer_id, .. } => {
                effects.push_back(Effect::Unsubscribed(peer_id));
            }
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
                effects.push_back(Effect::NoGossip(peer_id));
            }
        }
    }

    fn on_message(
        &mut self,
        network: &mut Network,
        from: PeerId,
        message_id: gossipsub::MessageId,
        message: gossipsub::Message,
    ) {
        let Some(room) = RoomName::from_topic(message.topic.as_str()) else {
            return network.report_validation(&message_id, &from, MessageAcceptance::Reject);
        };
        let incoming = Incoming {
            from,
            hashed: self.ids.take(&message_id),
            message_id,
            room,
            data: message.data.into(),
        };
        match self.messages.try_send(incoming) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(incoming)) => self.held.push_back(incoming),
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    /// Handles the result of verifying a message: forwards it, or bans the peer that sent it. Nodes verify before they
    /// forward, so that an invalid message is the sender's offence.
    pub(super) fn on_verdict(
        &mut self,
        now: Time,
        network: &mut Network,
        verdict: Verdict,
        effects: &mut Effects,
    ) {
        let Verdict {
            from,
            message_id,
            bytes,
            result,
        } = verdict;
        let error = match result {
            Ok(()) => {
                effects.push_back(Effect::Brought(from));
                if bytes > MIN_IDONTWANT_BYTES {
                    let rng = &mut self.rng;
                    self.delayed_forwards
                        .insert(now, message_id, from, bytes, rng);
                } else {
                    network.report_validation(&message_id, &from, MessageAcceptance::Accept);
                }
                return;
            }
            Err(error) => error,
        };
        let acceptance = match error.is_offence() {
            true => MessageAcceptance::Reject,
            false => MessageAcceptance::Ignore,
        };
        network.report_validation(&message_id, &from, acceptance);
        if let BatchError::Ahead { author, by_ms } = error {
            let report = ClockReport::author_ahead(author, by_ms);
            return self.bus.emit(Event::Clock(report));
        }
        let cause = Some(Cause::Peer(from));
        if self.bus.may_log(Kind::MessageRefused, cause) {
            tracing::warn!(peer_id = %from, %error, "a message was refused");
        }
        effects.push_back(Effect::Ban {
            peer_id: from,
            reason: format!("the peer sent what is no batch: {error}"),
            code: "INVALID_BATCH",
        });
    }

    /// Forwards the delayed messages that are due by `now`.
    pub(super) fn flush_forwards(&mut self, now: Time, network: &mut Network) {
        for (id, from) in self.delayed_forwards.take_due(now) {
            network.report_validation(&id, &from, MessageAcceptance::Accept);
        }
    }
}
