//! The overlay on real links: the connection-limit behaviour that sends the redirect hints.
//!
//! Entry type: [`Behaviour`]. The rule it keeps: it decides nothing. Exchanges, links and time go
//! into the state machine; what comes out is sent, or told to the node, which dials and closes.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::request_response::{self as rr, OutboundRequestId, ResponseChannel};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use rand::rngs::StdRng;
use tokio::time::Sleep;

use super::address::Remote;
use super::peer_store::Saved;
use super::event::{
    Admission, DialError, DialId, Direction, ExchangeError, ExchangeId, Input, Output, Purpose,
    Reason, Report, Target,
};
use super::message::{
    Contact, MAX_FRAME, Request, decode_request, decode_response, encode_request, encode_response,
};
use super::options::Options;
use super::peer_address::PeerAddress;
use super::state::Overlay;
use crate::clock::Clock;
use crate::wire::{self, Limits, RequestResponse};

/// The protocol's id.
pub const PROTOCOL: &str = "/diatribe/overlay/1.0.0";
/// Exchanges that may be open at once on a link.
const STREAMS: usize = 8;
/// Requests under way above which those that nobody waits for any more are forgotten: more than
/// six links may have open at once.
const MAX_REPLIES: usize = 64;
/// How long an exchange may take.
const TIME: Duration = Duration::from_secs(5);
/// Requests of a peer that are held until its link is announced: the two ends of a link learn that
/// it is up in either order.
const MAX_EARLY: usize = 4;

type EarlyRequest = (ExchangeId, Request<PeerId, PeerAddress>);

/// What the overlay wants of the node.
#[derive(Debug)]
pub enum Event {
    /// Connect.
    Dial {
        /// Name of the dial.
        dial: DialId,
        /// Who must answer, when it is known.
        peer_id: Option<PeerId>,
        /// Where, the likeliest first.
        addresses: Vec<Multiaddr>,
        /// What for.
        purpose: Purpose<PeerId>,
    },
    /// Close a link, once what was sent on it has had its chance.
    Close {
        /// Whose.
        peer_id: PeerId,
        /// Why.
        reason: Reason,
    },
    /// Tell people.
    Report(Report<PeerId, PeerAddress>),
    /// The address book has changed: keep it, in time.
    Persist(Vec<Saved<PeerId, PeerAddress>>),
    /// The peer sent what is no message of the protocol.
    Violation {
        /// Who.
        peer_id: PeerId,
        /// What was wrong.
        reason: String,
    },
}

/// The overlay of a node.
pub struct Behaviour {
    own: PeerId,
    state: Overlay<PeerId, PeerAddress, StdRng>,
    wanted: usize,
    /// Addresses of the entry nodes, as they were typed.
    entries: Vec<Vec<Multiaddr>>,
    exchange: RequestResponse,
    clock: Clock,
    timer: Pin<Box<Sleep>>,
    asked: HashMap<OutboundRequestId, ExchangeId>,
    replies: HashMap<ExchangeId, ResponseChannel<Vec<u8>>>,
    last_reply: u64,
    /// Requests that came before their link was announced.
    early: HashMap<PeerId, Vec<EarlyRequest>>,
    events: VecDeque<Event>,
}

impl Behaviour {
    /// The overlay of the node `own`, with what an earlier run kept of the address book.
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
            exchange: wire::request_response(PROTOCOL, limits, STREAMS, TIME, None),
            clock,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            asked: HashMap::new(),
            replies: HashMap::new(),
            last_reply: 0,
            early: HashMap::new(),
            events: VecDeque::new(),
        }
    }

    /// Decides whether a peer that has proved its key may become a link; if so, a place is held for
    /// it. Otherwise returns whom it may ask instead.
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

    /// A node that had no place for us has named others.
    pub fn referred(
        &mut self,
        remote: Remote<PeerAddress>,
        contacts: Vec<Contact<PeerId, PeerAddress>>,
    ) {
        self.feed(Input::Referred { remote, contacts });
    }

    /// A link has brought a batch that was new here.
    pub fn brought(&mut self, peer_id: PeerId) {
        self.feed(Input::Brought { peer: peer_id });
    }

    /// Whether there is anybody to dial: an entry node, or a peer of the address book.
    pub fn knows_somebody(&self) -> bool {
        !self.entries.is_empty() || !self.state.saved_peers().is_empty()
    }

    /// Whether more than `links` links are wanted.
    pub fn wants_more_than(&self, links: usize) -> bool {
        links < self.wanted
    }

    /// Takes the next link that the overlay has given up and that is not closed yet, and why. These
    /// come as events too, but a new link may pass before its turn.
    pub fn take_close(&mut self) -> Option<(PeerId, Reason)> {
        let is_close = |event: &Event| matches!(event, Event::Close { .. });
        let at = self.events.iter().position(is_close)?;
        match self.events.remove(at) {
            Some(Event::Close { peer_id, reason }) => Some((peer_id, reason)),
            _ => None,
        }
    }

    /// A peer that was admitted will not become a link.
    pub fn dismiss(&mut self, peer_id: PeerId) {
        self.state.dismiss(peer_id);
    }

    /// A peer's first connection has passed.
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

    /// A peer's last connection is gone; why, as far as the overlay knows.
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

    /// A dial brought no link.
    pub fn dial_failed(&mut self, dial: DialId, error: DialError<PeerId, PeerAddress>) {
        self.feed(Input::DialFailed { dial, error });
    }

    /// The addresses by which the node enters when it has lost all others.
    pub fn set_entries(&mut self, entries: Vec<(Option<PeerId>, Vec<Multiaddr>)>) {
        let own = self.own;
        let others = |(id, addresses): &(Option<PeerId>, Vec<Multiaddr>)| {
            *id != Some(own) && !addresses.is_empty()
        };
        let (ids, addresses) = entries.into_iter().filter(others).unzip();
        self.entries = addresses;
        self.feed(Input::Entries(ids));
    }

    /// Where the node listens.
    pub fn set_addresses(&mut self, addresses: Vec<PeerAddress>) {
        let dialable = !addresses.is_empty();
        self.feed(Input::Addresses {
            addresses,
            dialable,
        });
    }

    /// The node stops: take leave.
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
                    // A peer that is gone wants no answer.
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
            // Its channel is dropped when the state machine answers.
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
            // Who asked has given up.
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
            // Those whose peers went away before they were answered.
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

    /// Waits for the next deadline; ready when it has come.
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

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = THandler<RequestResponse>;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        local_addr: &Multiaddr,
        send_back_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.exchange.handle_established_inbound_connection(
            connection_id,
            peer_id,
            local_addr,
            send_back_addr,
        )
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        address: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.exchange.handle_established_outbound_connection(
            connection_id,
            peer_id,
            address,
            role_override,
            port_use,
        )
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = &event
            && closed.remaining_established == 0
        {
            self.early.remove(&closed.peer_id);
        }
        self.exchange.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer_id: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.exchange
            .on_connection_handler_event(peer_id, connection_id, event);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(ToSwarm::GenerateEvent(event));
            }
            match self.exchange.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => self.on_exchange(event),
                Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler,
                    event,
                }) => {
                    return Poll::Ready(ToSwarm::NotifyHandler {
                        peer_id,
                        handler,
                        event,
                    });
                }
                // A request for a link that has just gone: it fails by itself.
                Poll::Ready(ToSwarm::Dial { opts }) => {
                    if let Some(peer_id) = opts.get_peer_id() {
                        tracing::debug!(%peer_id, "a request for a link that is gone");
                    }
                }
                Poll::Ready(_) => {}
                Poll::Pending if self.sleep(cx).is_ready() => self.feed(Input::Tick),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
