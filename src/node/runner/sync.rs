//! The loop's part in data checking: it carries requests and answers between links and the keeper.
//!
//! The rule it keeps: every question of the keeper gets an answer or a failure, and every request of
//! a neighbour has a bounded place while it is worked on.

use std::collections::HashMap;

use libp2p::PeerId;
use libp2p::request_response::{self as rr, InboundRequestId, ResponseChannel};

use super::Runner;
use crate::model::RoomName;
use crate::node::event::{Cause, Kind};
use crate::node::ingest::{Note, Wish};
use crate::sync::{self, RequestId};
use crate::wire::{FrameError, Request, is_unsupported};

/// Answers above so many bytes are told of when they were sent.
const LARGE: usize = sync::OFFER_ABOVE;

/// Requests under way above which those that nobody waits for any more are forgotten: more than
/// six links may have open at once.
const MAX_REPLIES: usize = 64;

/// Where the answers to neighbours' requests go, by the keeper's numbers for them; bounded by the streams
/// that links may have.
#[derive(Debug, Default)]
pub(super) struct Replies {
    channels: HashMap<RequestId, (InboundRequestId, ResponseChannel<Vec<u8>>)>,
    /// Large answers that are on their way.
    sending: HashMap<InboundRequestId, RequestId>,
}

impl Runner {
    pub(super) fn on_wish(&mut self, wish: Wish) {
        match wish {
            Wish::Ask {
                peer_id,
                token,
                request,
            } => {
                let gate = &mut self.swarm.behaviour_mut().gate;
                if gate.is_open(&peer_id) {
                    let id = gate.inner_mut().sync.send_request(&peer_id, Ok(request));
                    self.asked.insert(id, token);
                } else {
                    self.note(Note::Failed(token));
                }
            }
            Wish::Reply { request, response } => {
                let is_large = response.len() > LARGE;
                let replied = self.replies.channels.remove(&request);
                // A neighbour that is gone wants no answer.
                let sent = replied.and_then(|(id, channel)| {
                    let sync = &mut self.swarm.behaviour_mut().gate.inner_mut().sync;
                    sync.send_response(channel, response).ok().map(|()| id)
                });
                match sent {
                    Some(id) if is_large => {
                        self.replies.sending.insert(id, request);
                    }
                    None if is_large => self.note(Note::Sent(request, false)),
                    _ => {}
                }
            }
            Wish::Gossip(batch) => self.gossip_offered(&batch),
            Wish::Clock(peer_id, theirs_ms) => {
                let now = self.clock.now();
                if self.links.of(&peer_id).is_some() {
                    self.channels.clocks.on_clock(now, peer_id, theirs_ms);
                }
            }
            Wish::Drop { peer_id, reason } => {
                if self.bus.may_log(Kind::Offence, Some(Cause::Peer(peer_id))) {
                    tracing::warn!(%peer_id, reason, "a neighbour broke the rules of data checking");
                }
                self.send_away(peer_id, &reason, "INVALID_SYNC");
            }
        }
    }

    pub(super) fn on_sync(&mut self, event: rr::Event<Request, Vec<u8>>) {
        match event {
            rr::Event::Message {
                peer,
                message:
                    rr::Message::Request {
                        request_id,
                        request,
                        channel,
                    },
                ..
            } => match request {
                Ok(bytes) => {
                    self.last_request += 1;
                    let channels = &mut self.replies.channels;
                    if channels.len() >= MAX_REPLIES {
                        // Those whose neighbours went away before they were answered.
                        channels.retain(|_, (_, channel)| channel.is_open());
                    }
                    channels.insert(self.last_request, (request_id, channel));
                    self.note(Note::Request(peer, self.last_request, bytes.into()));
                }
                // Who asked has given up.
                Err(FrameError::Truncated) => {}
                Err(violation) => {
                    let reason = format!("data checking: {violation}");
                    self.send_away(peer, &reason, "INVALID_SYNC");
                }
            },
            rr::Event::Message {
                message:
                    rr::Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => {
                if let Some(token) = self.asked.remove(&request_id) {
                    self.note(Note::Response(token, response.into()));
                }
            }
            rr::Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                tracing::debug!(peer_id = %peer, %error, "no answer in data checking");
                if is_unsupported(&error) {
                    self.rooms.set_without_sync(peer);
                    self.note(Note::RoomsOf(peer, Vec::new()));
                }
                if let Some(token) = self.asked.remove(&request_id) {
                    self.note(Note::Failed(token));
                }
            }
            // The channel of a request that failed is of no use any more, and is dropped when the keeper
            // answers.
            rr::Event::InboundFailure { request_id, .. } => self.tell_sent(request_id, false),
            rr::Event::ResponseSent { request_id, .. } => self.tell_sent(request_id, true),
        }
    }

    /// Tells the keeper what became of a large answer.
    fn tell_sent(&mut self, request_id: InboundRequestId, is_sent: bool) {
        if let Some(request) = self.replies.sending.remove(&request_id) {
            self.note(Note::Sent(request, is_sent));
        }
    }

    /// Tells the keeper in which rooms a neighbour is, as gossipsub knows it.
    pub(super) fn tell_rooms_of(&mut self, peer_id: PeerId) {
        if !self.rooms.supports_sync(&peer_id) {
            return;
        }
        let gossip = &self.swarm.behaviour().gate.inner().gossip;
        let rooms = gossip
            .all_peers()
            .filter(|(peer, _)| **peer == peer_id)
            .flat_map(|(_, topics)| topics)
            .filter_map(|topic| RoomName::from_topic(topic.as_str()))
            .map(|room| room.as_str().to_owned())
            .collect();
        self.note(Note::RoomsOf(peer_id, rooms));
    }

    pub(super) fn note(&self, note: Note) {
        // A keeper that is gone keeps nothing more; the node is stopping.
        let _ = self.channels.notes.send(note);
    }
}
