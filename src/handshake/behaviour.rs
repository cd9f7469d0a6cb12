//! The handshake as a libp2p behaviour. Each connection has a [`Machine`](super::Machine) and a request-response behaviour
//! of its own, so that a frame always travels on the connection that it proves.
//!
//! Entry type: [`Behaviour`]. The rule it keeps: it decides nothing. It feeds frames, failures and time to the machine, and
//! sends, reports or closes as the machine's outputs say.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::request_response::{self as rr, InboundFailure, OutboundFailure, ResponseChannel};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Sleep;

use super::event::{Event, VerifiedConnection};
use super::rate_limit::HandshakeRateLimiter;
use super::session::Session;
use super::{Failure, Input, Local, Output, REJECT_TIMEOUT, Reason, Refusal, Stage};
use crate::clock::{Clock, Time};
use crate::wire::{self, FrameError, Request, RequestResponse};

const HUNG_UP: &str = "the peer closed the connection before the handshake was over";
const ENDED: &str = "the peer ended it before the handshake was over";

/// The handshake of all connections.
pub struct Behaviour {
    local: Arc<Local>,
    clock: Clock,
    rate_limiter: HandshakeRateLimiter,
    sessions: HashMap<ConnectionId, Session>,
    actions: VecDeque<ToSwarm<Event, THandlerInEvent<RequestResponse>>>,
    timer: Pin<Box<Sleep>>,
}

impl Behaviour {
    /// Returns the behaviour of the node `local`. `rate_limiter` bounds the handshakes that strangers begin.
    pub fn new(local: Arc<Local>, clock: Clock, rate_limiter: HandshakeRateLimiter) -> Behaviour {
        Behaviour {
            local,
            clock,
            rate_limiter,
            sessions: HashMap::new(),
            actions: VecDeque::new(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Passes on the node's answer to [`Event::Authorize`].
    pub fn decide(&mut self, connection_id: ConnectionId, decision: Result<(), Refusal>) {
        self.feed(connection_id, Input::Decision(decision));
    }

    /// Confirms that the connection's gate accepts the peer's streams: the handshake may finish.
    pub fn gate_open(&mut self, connection_id: ConnectionId) {
        self.feed(connection_id, Input::GateOpen);
    }

    /// Notes that the node closes this connection itself, so that its end is not reported as a failure.
    pub fn abandon(&mut self, connection_id: ConnectionId) {
        if let Some(session) = self.sessions.get_mut(&connection_id) {
            session.failed = true;
        }
    }

    /// Returns the round of a connection's handshake; none if there is no such connection.
    pub fn stage(&self, connection_id: ConnectionId) -> Option<Stage> {
        self.sessions
            .get(&connection_id)
            .map(|session| session.machine.stage())
    }

    fn open_session(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        endpoint: ConnectedPoint,
    ) {
        let session = Session::new(self.local.clone(), peer_id, endpoint, self.clock.now());
        self.sessions.insert(connection_id, session);
    }

    fn feed(&mut self, connection_id: ConnectionId, input: Input) {
        let now = self.clock.now();
        let Some(session) = self.sessions.get_mut(&connection_id) else {
            return;
        };
        let mut out = Vec::new();
        session.machine.set_clock(self.clock.unix_millis());
        session.machine.handle(now, input, &mut out);
        for output in out {
            self.carry_out(connection_id, now, output);
        }
    }

    fn carry_out(&mut self, connection_id: ConnectionId, now: Time, output: Output) {
        let Some(session) = self.sessions.get_mut(&connection_id) else {
            return;
        };
        let peer_id = session.peer_id;
        match output {
            Output::SendRequest(frame) => {
                session.request_response.send_request(&peer_id, Ok(frame));
            }
            Output::SendResponse(frame) => session.respond(frame),
            Output::Authorize {
                peer,
                instance_id,
                features,
            } => {
                let peer_id = peer;
                let endpoint = session.endpoint.clone();
                self.report(Event::Authorize {
                    connection_id,
                    peer_id,
                    instance_id,
                    features,
                    endpoint,
                });
            }
            Output::Verified(verified) => {
                let proof = VerifiedConnection::new(connection_id, verified);
                session.proof = Some(proof.clone());
                self.report(Event::Verified(proof));
            }
            Output::Passed => {
                let Some(proof) = session.proof.clone() else {
                    return;
                };
                session.passed = true;
                let (endpoint, took) = (session.endpoint.clone(), now - session.since);
                self.report(Event::Passed {
                    proof,
                    endpoint,
                    took,
                });
            }
            Output::Close(failure) if failure.reason == Reason::NotSpoken => {
                // Identify may soon report which program the peer runs instead: wait for that before closing.
                session.close_at = Some(now + REJECT_TIMEOUT);
                self.fail(connection_id, failure);
            }
            Output::Close(failure) => {
                self.fail(connection_id, failure);
                self.close(connection_id);
            }
            Output::CloseAfterResponse(failure) => {
                session.close_at = Some(now + REJECT_TIMEOUT);
                self.fail(connection_id, failure);
            }
        }
    }

    fn report(&mut self, event: Event) {
        self.actions.push_back(ToSwarm::GenerateEvent(event));
    }

    fn fail(&mut self, connection_id: ConnectionId, failure: Failure) {
        let Some(session) = self.sessions.get_mut(&connection_id) else {
            return;
        };
        if !std::mem::replace(&mut session.failed, true) {
            let (peer_id, endpoint) = (session.peer_id, session.endpoint.clone());
            self.report(Event::Failed {
                connection_id,
                peer_id,
                endpoint,
                failure,
            });
        }
    }

    fn close(&mut self, connection_id: ConnectionId) {
        let Some(session) = self.sessions.get(&connection_id) else {
            return;
        };
        self.actions.push_back(ToSwarm::CloseConnection {
            peer_id: session.peer_id,
            connection: CloseConnection::One(connection_id),
        });
    }

    fn on_request_response_event(
        &mut self,
        connection_id: ConnectionId,
        event: rr::Event<Request, Vec<u8>>,
    ) {
        match event {
            rr::Event::Message {
                message:
                    rr::Message::Request {
                        request, channel, ..
                    },
                ..
            } => {
                self.on_request(connection_id, request, channel);
            }
            rr::Event::Message {
                message: rr::Message::Response { response, .. },
                ..
            } => {
                self.feed(connection_id, Input::Response(response));
            }
            rr::Event::ResponseSent { .. } => self.on_response_sent(connection_id),
            rr::Event::OutboundFailure { error, .. } => {
                self.on_outbound_failure(connection_id, error);
            }
            rr::Event::InboundFailure { error, .. } => {
                self.on_inbound_failure(connection_id, error)
            }
        }
    }

    fn on_request(
        &mut self,
        connection_id: ConnectionId,
        request: Request,
        channel: ResponseChannel<Vec<u8>>,
    ) {
        let now = self.clock.now();
        let Some(session) = self.sessions.get_mut(&connection_id) else {
            return;
        };
        session.reply = Some(channel);
        if !std::mem::replace(&mut session.hello_arrived, true)
            && !self.rate_limiter.admit(now, &session.endpoint)
        {
            self.feed(connection_id, Input::Busy);
        }
        match request {
            Ok(frame) => self.feed(connection_id, Input::Request(frame)),
            Err(violation) => self.feed(connection_id, Input::StreamFailed(violation.to_string())),
        }
    }

    fn on_response_sent(&mut self, connection_id: ConnectionId) {
        // The client closes when it has read the Reject. To close here at once could overtake the Reject in the client's
        // buffers, so the deadline closes instead.
        if !self.is_closing(connection_id) {
            self.feed(connection_id, Input::ResponseSent);
        }
    }

    fn on_outbound_failure(&mut self, connection_id: ConnectionId, error: OutboundFailure) {
        if wire::is_unsupported(&error) {
            return self.feed(connection_id, Input::NotSpoken);
        }
        let reason = match error {
            // The end of the connection or the machine's own deadline reports these.
            OutboundFailure::ConnectionClosed
            | OutboundFailure::DialFailure
            | OutboundFailure::UnsupportedProtocols
            | OutboundFailure::Timeout => return,
            // If the connection has ended, its streams may report it first, even before the peer has agreed to their
            // protocol.
            OutboundFailure::Io(error)
                if error.kind() == io::ErrorKind::UnexpectedEof
                    || FrameError::of(&error) == Some(&FrameError::Truncated) =>
            {
                format!("{ENDED}: {error}")
            }
            OutboundFailure::Io(error) => error.to_string(),
        };
        self.feed(connection_id, Input::StreamFailed(reason));
    }

    fn on_inbound_failure(&mut self, connection_id: ConnectionId, error: InboundFailure) {
        tracing::debug!(%connection_id, %error, "the end of a handshake response was not taken");
        // A peer may reset its stream as soon as it has read the response. If it has not read it, a deadline or the end of
        // the connection reports that.
        if matches!(error, InboundFailure::Io(_)) {
            self.on_response_sent(connection_id);
        }
    }

    fn is_closing(&self, connection_id: ConnectionId) -> bool {
        self.sessions
            .get(&connection_id)
            .is_some_and(|s| s.close_at.is_some())
    }

    fn on_connection_closed(&mut self, connection_id: ConnectionId) {
        // A connection that ends before the handshake is a failure, which the node reports to its caller.
        if self
            .sessions
            .get(&connection_id)
            .is_some_and(|session| !session.passed)
        {
            self.feed(connection_id, Input::StreamFailed(HUNG_UP.to_owned()));
        }
        self.sessions.remove(&connection_id);
    }

    /// Handles expired deadlines; returns whether there were any.
    fn handle_deadlines(&mut self, now: Time) -> bool {
        let due: Vec<(ConnectionId, bool)> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.deadline().is_some_and(|d| d <= now))
            .map(|(id, s)| (*id, s.close_at.is_some()))
            .collect();
        for (connection_id, closing) in &due {
            if *closing {
                if let Some(session) = self.sessions.get_mut(connection_id) {
                    session.close_at = None;
                }
                self.close(*connection_id);
            } else {
                self.feed(*connection_id, Input::Deadline);
            }
        }
        !due.is_empty()
    }
}

impl Behaviour {
    /// Waits for the next deadline; pending until it has passed.
    fn sleep(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.sessions.values().filter_map(Session::deadline).min() else {
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
        let endpoint = ConnectedPoint::Listener {
            local_addr: local_addr.clone(),
            send_back_addr: send_back_addr.clone(),
        };
        self.open_session(connection_id, peer_id, endpoint);
        match self.sessions.get_mut(&connection_id) {
            Some(session) => session
                .request_response
                .handle_established_inbound_connection(
                    connection_id,
                    peer_id,
                    local_addr,
                    send_back_addr,
                ),
            None => Err(ConnectionDenied::new("the connection was not entered")),
        }
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        address: &Multiaddr,
        role_override: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let endpoint = ConnectedPoint::Dialer {
            address: address.clone(),
            role_override,
            port_use,
        };
        self.open_session(connection_id, peer_id, endpoint);
        match self.sessions.get_mut(&connection_id) {
            Some(session) => session
                .request_response
                .handle_established_outbound_connection(
                    connection_id,
                    peer_id,
                    address,
                    role_override,
                    port_use,
                ),
            None => Err(ConnectionDenied::new("the connection was not entered")),
        }
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(mut established) => {
                let connection_id = established.connection_id;
                // Each request-response behaviour knows one connection only.
                established.other_established = 0;
                if let Some(session) = self.sessions.get_mut(&connection_id) {
                    session
                        .request_response
                        .on_swarm_event(FromSwarm::ConnectionEstablished(established));
                }
                self.feed(connection_id, Input::Start);
            }
            FromSwarm::ConnectionClosed(closed) => self.on_connection_closed(closed.connection_id),
            // Another behaviour denied the connection after this one had accepted it.
            FromSwarm::DialFailure(failure) => {
                self.sessions.remove(&failure.connection_id);
            }
            FromSwarm::ListenFailure(failure) => {
                self.sessions.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer_id: PeerId,
        connection_id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if let Some(session) = self.sessions.get_mut(&connection_id) {
            session
                .request_response
                .on_connection_handler_event(peer_id, connection_id, event);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            let mut progress = false;
            let mut events = Vec::new();
            for (connection_id, session) in &mut self.sessions {
                while let Poll::Ready(action) = session.request_response.poll(cx) {
                    progress = true;
                    match action {
                        ToSwarm::GenerateEvent(event) => events.push((*connection_id, event)),
                        ToSwarm::NotifyHandler {
                            peer_id,
                            handler,
                            event,
                        } => self.actions.push_back(ToSwarm::NotifyHandler {
                            peer_id,
                            handler,
                            event,
                        }),
                        // A dial for a connection that has just closed: ignored.
                        _ => {}
                    }
                }
            }
            for (connection_id, event) in events {
                self.on_request_response_event(connection_id, event);
            }
            let now = self.clock.now();
            progress |= self.handle_deadlines(now);
            if !progress && self.sleep(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
