//! The relay for anti-entropy ("data checking"): carries requests and answers between the links and the ingest task, which
//! compares rooms.
//!
//! Entry type: [`SyncRelay`]. The rule it keeps: every request of the ingest task gets an answer or a failure, and the number
//! of neighbours' requests in progress is bounded.

use std::collections::HashMap;

use bytes::Bytes;
use libp2p::PeerId;
use libp2p::request_response::{self as rr, InboundRequestId, OutboundRequestId, ResponseChannel};
use tokio::sync::mpsc;

use super::effect::{Effect, Effects};
use super::network::Network;
use crate::node::event::{Cause, EventBus, Kind};
use crate::node::ingest::{NetworkRequest, SyncCommand};
use crate::sync::{ANNOUNCE_ABOVE, RequestId, message};
use crate::wire::{FrameError, Request, is_unsupported};

/// Size in bytes above which the ingest task is notified when an answer was sent, so that it paces large uploads.
const LARGE_RESPONSE: usize = ANNOUNCE_ABOVE;

/// Number of requests in progress above which those of closed connections are dropped: more than six links may have open at
/// once.
const MAX_REPLIES: usize = 64;

const INVALID_SYNC: &str = "INVALID_SYNC";

/// Requests in flight, in both directions.
pub(super) struct SyncRelay {
    bus: EventBus,
    commands: mpsc::UnboundedSender<SyncCommand>,
    /// Requests that neighbours have not answered, and the ingest task's numbers for them.
    outbound: HashMap<OutboundRequestId, u64>,
    /// Neighbours' requests that are not answered, by the numbers that the ingest task knows.
    inbound: HashMap<RequestId, (InboundRequestId, ResponseChannel<Vec<u8>>)>,
    last_inbound: RequestId,
    /// Large answers in flight.
    uploads: HashMap<InboundRequestId, RequestId>,
}

impl SyncRelay {
    pub(super) fn new(bus: EventBus, commands: mpsc::UnboundedSender<SyncCommand>) -> SyncRelay {
        SyncRelay {
            bus,
            commands,
            outbound: HashMap::new(),
            inbound: HashMap::new(),
            last_inbound: 0,
            uploads: HashMap::new(),
        }
    }

    /// Sends a command to the ingest task.
    pub(super) fn send(&self, command: SyncCommand) {
        // An ingest task that has ended stores nothing more; the node is stopping.
        let _ = self.commands.send(command);
    }

    /// Carries out a request of the ingest task.
    pub(super) fn on_network_request(
        &mut self,
        network: &mut Network,
        request: NetworkRequest,
        effects: &mut Effects,
    ) {
        match request {
            NetworkRequest::Ask {
                peer_id,
                token,
                request,
            } => {
                if network.gate().is_open(&peer_id) {
                    let id = network.sync().send_request(&peer_id, Ok(request));
                    self.outbound.insert(id, token);
                } else {
                    self.send(SyncCommand::Failed(token));
                }
            }
            NetworkRequest::Reply { request, response } => self.reply(network, request, response),
            NetworkRequest::Gossip(batch) => effects.push_back(Effect::Gossip(batch)),
            NetworkRequest::Drop { peer_id, reason } => {
                if self.bus.may_log(Kind::Offence, Some(Cause::Peer(peer_id))) {
                    tracing::warn!(%peer_id, reason, "a neighbour broke the rules of data checking");
                }
                effects.push_back(Effect::Ban {
                    peer_id,
                    reason,
                    code: INVALID_SYNC,
                });
            }
        }
    }

    fn reply(&mut self, network: &mut Network, request: RequestId, response: Vec<u8>) {
        let is_large = response.len() > LARGE_RESPONSE;
        // A neighbour that is gone needs no answer.
        let sent = self.inbound.remove(&request).and_then(|(id, channel)| {
            let sent = network.sync().send_response(channel, response);
            sent.ok().map(|()| id)
        });
        match sent {
            Some(id) if is_large => {
                self.uploads.insert(id, request);
            }
            None if is_large => self.send(SyncCommand::Sent(request, false)),
            _ => {}
        }
    }

    /// Handles an event of the request-response protocol.
    pub(super) fn on_event(&mut self, event: rr::Event<Request, Vec<u8>>, effects: &mut Effects) {
        match event {
            rr::Event::Message { peer, message, .. } => self.on_message(peer, message, effects),
            rr::Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                tracing::debug!(peer_id = %peer, %error, "no answer in data checking");
                if is_unsupported(&error) {
                    effects.push_back(Effect::NoSync(peer));
                    self.send(SyncCommand::RoomsOf(peer, Vec::new()));
                }
                if let Some(token) = self.outbound.remove(&request_id) {
                    self.send(SyncCommand::Failed(token));
                }
            }
            // The channel of a failed request is dropped when the ingest task answers.
            rr::Event::InboundFailure { request_id, .. } => self.on_upload_ended(request_id, false),
            rr::Event::ResponseSent { request_id, .. } => self.on_upload_ended(request_id, true),
        }
    }

    fn on_message(
        &mut self,
        peer_id: PeerId,
        message: rr::Message<Request, Vec<u8>>,
        effects: &mut Effects,
    ) {
        match message {
            rr::Message::Request {
                request_id,
                request: Ok(bytes),
                channel,
            } => self.on_request(peer_id, (request_id, channel), bytes.into(), effects),
            // The neighbour has given up.
            rr::Message::Request {
                request: Err(FrameError::Truncated),
                ..
            } => {}
            rr::Message::Request {
                request: Err(violation),
                ..
            } => effects.push_back(Effect::Ban {
                peer_id,
                reason: format!("data checking: {violation}"),
                code: INVALID_SYNC,
            }),
            rr::Message::Response {
                request_id,
                response,
            } => {
                if let Some(token) = self.outbound.remove(&request_id) {
                    self.send(SyncCommand::Response(token, response.into()));
                }
            }
        }
    }

    /// Passes a neighbour's request to the ingest task, after the neighbour's clock that it contains.
    fn on_request(
        &mut self,
        peer_id: PeerId,
        reply: (InboundRequestId, ResponseChannel<Vec<u8>>),
        bytes: Bytes,
        effects: &mut Effects,
    ) {
        if self.inbound.len() >= MAX_REPLIES {
            self.inbound.retain(|_, (_, channel)| channel.is_open());
        }
        self.last_inbound += 1;
        self.inbound.insert(self.last_inbound, reply);
        if let Some(theirs_ms) = message::Request::clock_ms(&bytes) {
            effects.push_back(Effect::PeerClock { peer_id, theirs_ms });
        }
        let request = SyncCommand::Request(peer_id, self.last_inbound, bytes);
        effects.push_back(Effect::Sync(request));
    }

    /// Notifies the ingest task when a large answer was sent, or could not be sent.
    fn on_upload_ended(&mut self, request_id: InboundRequestId, is_sent: bool) {
        if let Some(request) = self.uploads.remove(&request_id) {
            self.send(SyncCommand::Sent(request, is_sent));
        }
    }
}
