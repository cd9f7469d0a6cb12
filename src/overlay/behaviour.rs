//! The overlay on real links: the connection-limit behaviour that sends the redirect hints.
//!
//! Entry type: [`Behaviour`]. The rule it keeps: it decides nothing. Exchanges, links and time are inputs of the state machine;
//! its outputs are sent to peers, or passed to the node, which dials and closes.

mod swarm;

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::request_response::{self as rr, OutboundRequestId, ResponseChannel};
use libp2p::{Multiaddr, PeerId};
use rand::rngs::StdRng;
use tokio::time::Sleep;

use super::address::Remote;
use super::event::{
    Admission, DialError, DialId, Direction, ExchangeError, ExchangeId, Input, Output, Purpose,
    Reason, Report, Target,
};
use super::message::{
    Contact, MAX_FRAME, Request, decode_request, decode_response, encode_request, encode_response,
};
use super::options::Options;
use super::peer_address::PeerAddress;
use super::peer_store::Saved;
use super::state::Overlay;
use crate::clock::Clock;
use crate::wire::{self, Limits, RequestResponse};

/// The id of the protocol.
pub const PROTOCOL: &str = "/diatribe/overlay/1.0.0";
/// Maximum number of exchanges that may be open at once on a link.
const MAX_STREAMS: usize = 8;
/// Number of unanswered requests above which those of lost peers are forgotten: more than six links may have open at once.
const MAX_REPLIES: usize = 64;
/// Timeout of an exchange.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of a peer's requests that are held until its link is up here: either end of a link may be the first to learn
/// that it is up.
const MAX_EARLY: usize = 4;

type EarlyRequest = (ExchangeId, Request<PeerId, PeerAddress>);

/// An action that the overlay asks of the node.
#[derive(Debug)]
pub enum Event {
    /// Dial a peer.
    Dial {
        /// The name of the dial.
        dial: DialId,
        /// The peer that must answer, when it is known.
        peer_id: Option<PeerId>,
        /// The addresses, the most likely one first.
        addresses: Vec<Multiaddr>,
        /// The reason.
        purpose: Purpose<PeerId>,
    },
    /// Close a link, after a moment for the messages under way.
    Close {
        /// The peer at the other end.
        peer_id: PeerId,
        /// The reason.
        reason: Reason,
    },
    /// Report an event to people.
    Report(Report<PeerId, PeerAddress>),
    /// Save the verified peers, which have changed.
    Persist(Vec<Saved<PeerId, PeerAddress>>),
    /// Ban the peer: it has sent bytes that are no message of the protocol.
    Violation {
        /// The peer.
        peer_id: PeerId,
        /// The offence.
        reason: String,
    },
}

/// The overlay of a node.
pub struct Behaviour {
    own: PeerId,
    state: Overlay<PeerId, PeerAddress, StdRng>,
    wanted: usize,
    /// Addresses of the entry nodes, as they were configured.
    entries: Vec<Vec<Multiaddr>>,
    exchange: RequestResponse,
    clock: Clock,
    timer: Pin<Box<Sleep>>,
    asked: HashMap<OutboundRequestId, ExchangeId>,
    replies: HashMap<ExchangeId, ResponseChannel<Vec<u8>>>,
    last_reply: u64,
    /// Requests that arrived before their link was up here.
    early: HashMap<PeerId, Vec<EarlyRequest>>,
    events: VecDeque<Event>,
}

impl Behaviour {
    /// Returns the overlay of the node `own`, with the peers that an earlier run has kept.
    pub fn new(
        own: PeerId,
        options: Options,
        clock: Clock,
        rng: StdRng,
        saved: Vec<Saved<PeerId, PeerAddress>>,
    ) -> Behaviour {
        let limits = Limits {
            request: MAX_FRAME,
            response: MAX_FRAME,
        };
        Behaviour {
            own,
            wanted: options.wanted_links,
            entries: Vec::new(),
            state: Overlay::new(clock.now(), own, options, rng, saved),
            exchange: wire::request_response(PROTOCOL, limits, MAX_STREAMS, EXCHANGE_TIMEOUT, None),
            clock,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            asked: HashMap::new(),
            replies: HashMap::new(),
            last_reply: 0,
            early: HashMap::new(),
            events: VecDeque::new(),
        }
    }

    /// Decides whether a verified peer may become a link, and reserves a place for it if so. Otherwise returns contacts that it may
    /// try instead.
    pub fn admit(
        &mut self,
        peer_id: PeerId,
        direction: Direction,
        remote: &Remote<PeerAddress>,
    ) -> Admission<PeerId, PeerAddress> {
        let now = self.clock.now();
        let mut out = Vec::new();
        let admission = self.state.admit(now, peer_id, direction, remote, &mut out);
        for output in out {
            self.carry_out(output);
        }
        admission
    }

    /// Handles the contacts that a full node has named when it refused this one.
    pub fn referred(
        &mut self,
        remote: Remote<PeerAddress>,
        contacts: Vec<Contact<PeerId, PeerAddress>>,
    ) {
        self.feed(Input::Referred { remote, contacts });
    }

    /// Records that a link has brought a batch that was new here.
    pub fn on_new_batch(&mut self, peer_id: PeerId) {
        self.feed(Input::NewBatch { peer: peer_id });
    }

    /// Returns whether there is a peer to dial: an entry node, or a verified peer.
    pub fn knows_peers(&self) -> bool {
        !self.entries.is_empty() || !self.state.saved_peers().is_empty()
    }

    /// Returns whether more than `links` links are wanted.
    pub fn wants_more_than(&self, links: usize) -> bool {
        links < self.wanted
    }

    /// Takes the next link that the overlay closes, and the reason. The same links are events, too, but a new link may be up before
    /// an event is polled.
    pub fn take_close(&mut self) -> Option<(PeerId, Reason)> {
        let is_close = |event: &Event| matches!(event, Event::Close { .. });
        let at = self.events.iter().position(is_close)?;
        match self.events.remove(at) {
            Some(Event::Close { peer_id, reason }) => Some((peer_id, reason)),
            _ => None,
        }
    }

    /// Releases the place of a peer that was admitted and will not become a link.
    pub fn dismiss(&mut self, peer_id: PeerId) {
        self.state.dismiss(peer_id);
    }

    /// Handles a peer's first verified connection.
    pub fn link_up(
        &mut self,
        peer_id: PeerId,
        direction: Direction,
        remote: Remote<PeerAddress>,
        dial: Option<DialId>,
    ) {
        self.feed(Input::LinkUp {
            peer: peer_id,
            direction,
            remote,
            dial,
        });
        for (id, request) in self.early.remove(&peer_id).unwrap_or_default() {
            self.feed(Input::Request {
                from: peer_id,
                id,
                request,
            });
        }
    }

    /// Handles the end of a peer's last connection. Returns the reason, as far as the overlay knows it.
    pub fn link_down(&mut self, peer_id: PeerId) -> Option<Reason> {
        self.feed(Input::LinkDown { peer: peer_id });
        let ended = |event: &Event| match event {
            Event::Report(Report::LinkEnded { peer, reason }) if *peer == peer_id => Some(*reason),
            _ => None,
        };
        let reason = self.events.iter().find_map(ended);
        self.events.retain(|event| ended(event).is_none());
        reason
    }

    /// Handles a dial that has led to no link.
    pub fn dial_failed(&mut self, dial: DialId, error: DialError<PeerId, PeerAddress>) {
        self.feed(Input::DialFailed { dial, error });
    }

    /// Sets the entry nodes, by which the node bootstraps and returns after it has lost all links.
    pub fn set_entries(&mut self, entries: Vec<(Option<PeerId>, Vec<Multiaddr>)>) {
        let own = self.own;
        let others = |(id, addresses): &(Option<PeerId>, Vec<Multiaddr>)| {
            *id != Some(own) && !addresses.is_empty()
        };
        let (ids, addresses) = entries.into_iter().filter(others).unzip();
        self.entries = addresses;
        self.feed(Input::Entries(ids));
    }

    /// Sets the addresses at which the node listens.
    pub fn set_addresses(&mut self, addresses: Vec<PeerAddress>) {
        let dialable = !addresses.is_empty();
        self.feed(Input::Addresses {
            addresses,
            dialable,
        });
    }

    /// Shuts down: sends a Leave on all links, and closes them.
    pub fn stop(&mut self) {
        self.feed(Input::Shutdown);
    }

    fn feed(&mut self, input: Input<PeerId, PeerAddress>) {
        let mut out = Vec::new();
        self.state.handle(self.clock.now(), input, &mut out);
        for output in out {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output<PeerId, PeerAddress>) {
        match output {
            Output::Dial {
                dial,
                peer,
                to,
                purpose,
            } => {
                let addresses = match to {
                    Target::Entry(at) => self.entries.get(at).cloned().unwrap_or_default(),
                    Target::Addresses(a) => a.iter().map(PeerAddress::to_multiaddr).collect(),
                };
                self.events.push_back(Event::Dial {
                    dial,
                    peer_id: peer,
                    addresses,
                    purpose,
                });
            }
            Output::Send { to, id, request } => {
                let sent = self
                    .exchange
                    .send_request(&to, Ok(encode_request(&request)));
                self.asked.insert(sent, id);
            }
            Output::Respond { id, response, .. } => {
                if let Some(channel) = self.replies.remove(&id) {
                    // It fails when the peer is gone, and then nobody awaits the response.
                    let _ = self
                        .exchange
                        .send_response(channel, encode_response(&response));
                }
            }
            Output::Close { peer, reason } => self.events.push_back(Event::Close {
                peer_id: peer,
                reason,
            }),
            Output::Report(report) => self.events.push_back(Event::Report(report)),
            Output::Persist => {
                let book = self.state.saved_peers();
                self.events.push_back(Event::Persist(book));
            }
        }
    }

    fn on_exchange(&mut self, event: rr::Event<wire::Request, Vec<u8>>) {
        match event {
            rr::Event::Message {
                peer,
                message:
                    rr::Message::Request {
                        request, channel, ..
                    },
                ..
            } => self.on_request(peer, request, channel),
            rr::Event::Message {
                peer,
                message:
                    rr::Message::Response {
                        request_id,
                        response,
                    },
                ..
            } => self.on_response(peer, request_id, &response),
            rr::Event::OutboundFailure {
                peer,
                request_id,
                error,
                ..
            } => {
                let error = match wire::is_unsupported(&error) {
                    true => ExchangeError::Unsupported,
                    false => ExchangeError::Lost,
                };
                self.answered(peer, request_id, Err(error));
            }
            // The channel is dropped when the state machine answers.
            rr::Event::InboundFailure { .. } | rr::Event::ResponseSent { .. } => {}
        }
    }

    fn on_request(
        &mut self,
        peer_id: PeerId,
        request: wire::Request,
        channel: ResponseChannel<Vec<u8>>,
    ) {
        if request == Err(wire::FrameError::Truncated) {
            // The peer has given the request up.
            return;
        }
        let decoded = request
            .map_err(|violation| violation.to_string())
            .and_then(|body| decode_request(&body, &peer_id).map_err(|error| error.to_string()));
        let request = match decoded {
            Ok(request) => request,
            Err(reason) => {
                self.events.push_back(Event::Violation { peer_id, reason });
                return;
            }
        };
        self.last_reply += 1;
        if self.replies.len() >= MAX_REPLIES {
            // Requests of peers that were lost before the response.
            self.replies.retain(|_, channel| channel.is_open());
        }
        let id = ExchangeId(self.last_reply);
        self.replies.insert(id, channel);
        if self.state.links().iter().any(|link| link.peer() == peer_id) {
            self.feed(Input::Request {
                from: peer_id,
                id,
                request,
            });
            return;
        }
        let early = self.early.entry(peer_id).or_default();
        if early.len() < MAX_EARLY {
            early.push((id, request));
        } else {
            self.replies.remove(&id);
        }
    }

    fn on_response(&mut self, peer_id: PeerId, request_id: OutboundRequestId, body: &[u8]) {
        match decode_response(body, &peer_id) {
            Ok(response) => self.answered(peer_id, request_id, Ok(response)),
            Err(error) => {
                self.answered(peer_id, request_id, Err(ExchangeError::Lost));
                self.events.push_back(Event::Violation {
                    peer_id,
                    reason: error.to_string(),
                });
            }
        }
    }

    fn answered(
        &mut self,
        from: PeerId,
        request_id: OutboundRequestId,
        result: Result<super::message::Response<PeerId, PeerAddress>, ExchangeError>,
    ) {
        if let Some(id) = self.asked.remove(&request_id) {
            self.feed(Input::Response { from, id, result });
        }
    }

    /// Waits for the next deadline; ready once it has passed.
    fn sleep(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.state.deadline() else {
            return Poll::Pending;
        };
        self.timer
            .as_mut()
            .reset(self.clock.instant(deadline).into());
        self.timer.as_mut().poll(cx)
    }
}
