//! State machine of one connection's handshake: takes frames and decisions, returns frames, a result and a deadline.
//!
//! Entry type: [`Machine`]. The rules it keeps: it returns [`Output::Verified`] once, and only after the peer has proved
//! its key to this side in both rounds; after [`Output::Close`] or [`Output::CloseAfterResponse`] it returns nothing.
//!
//! ```text
//! dialer                                   listener
//!   Start: Hello 1               →
//!                                ←           Challenge 1
//!   Answer 1                     →
//!                                            Authorize … Decision
//!                                ←           Pass 1
//!                                ←           (its ResponseSent) Hello 2
//!   Challenge 2                  →
//!                                            Verified … GateOpen
//!                                ←           Answer 2
//!   Authorize … Decision
//!   Verified … GateOpen
//!   Pass 2                       →
//!   (its ResponseSent) Passed                Passed
//! ```

use libp2p::PeerId;
use std::sync::Arc;

use super::crypto::Entropy;
use super::deadlines::Deadlines;
use super::encode;
use super::io::{Input, Output};
use super::message::{Answer, Challenge, Frame, Hello, Pass};
use super::protocol::{FrameKind, RejectCode, Role, Stage};
use super::reason::{Failure, Reason};
use super::referrals::{Referrals, Refusal, Rejection};
use super::round::{
    self, Accepted, AwaitAnswer, AwaitChallenge, AwaitPass, Local, Peer, RoundContext,
};
use super::verified::VerifiedPeer;
use crate::clock::Time;

/// State machine of one connection's handshake.
///
/// # Examples
///
/// The dialer's first action is to send its Hello:
///
/// ```
/// use diatribe::Identity;
/// use diatribe::clock::Time;
/// use diatribe::handshake::{Input, Local, Machine, Output, Role};
/// use rand::{rand_core::UnwrapErr, rngs::SysRng};
///
/// let local = Local::new(Identity::generate(), None, [7; 16]);
/// let peer = Identity::generate().peer_id();
/// let entropy = Box::new(UnwrapErr(SysRng));
/// let mut machine = Machine::new(local.into(), Role::Dialer, peer, Time::ZERO, entropy);
/// let mut out = Vec::new();
/// machine.handle(Time::ZERO, Input::Start, &mut out);
/// assert!(matches!(out[..], [Output::SendRequest(_)]));
/// ```
pub struct Machine {
    local: Arc<Local>,
    role: Role,
    remote: PeerId,
    entropy: Entropy,
    state: State,
    stage: Stage,
    /// T_end of round 1; zeros until round 1 has ended.
    round1_transcript: [u8; 32],
    /// The peer as it introduced itself in round 1.
    round1_peer: Option<Peer>,
    /// Round 2's Hello, if it arrived before round 1's Pass.
    early_hello: Option<Vec<u8>>,
    /// Number of responses that have not left yet.
    responses_in_flight: u32,
    busy: bool,
    /// This node's Unix time in milliseconds, as the caller set it last.
    unix_ms: u64,
    deadlines: Deadlines,
}

enum State {
    /// The dialer, before Start.
    Idle,
    AwaitChallenge(AwaitChallenge),
    AwaitPass(AwaitPass),
    AwaitHello,
    AwaitAnswer(AwaitAnswer),
    /// A server waits for its caller's decision.
    AwaitDecision(Accepted),
    /// Round 2's client waits for its gate to open, then sends its Answer.
    AwaitGateToAnswer(AwaitPass, Vec<u8>),
    /// Round 2's server waits for its gate to open, then sends its Pass.
    AwaitGateToPass(Vec<u8>),
    /// A server waits for its Pass to leave.
    PassLeaves,
    Passed,
    /// The handshake has failed: all further input is ignored.
    Over,
}

/// How a handshake ends when a frame is out of turn or fails a check.
enum Abort {
    /// Close the connection without a response.
    Close(Reason),
    /// Send a Reject with the reason's code, then close.
    Reject(Reason),
}

impl Machine {
    /// Returns the handshake of a connection that was established at `now`, with the peer that noise authenticated.
    pub fn new(
        local: Arc<Local>,
        role: Role,
        remote: PeerId,
        now: Time,
        entropy: Entropy,
    ) -> Machine {
        let mut deadlines = Deadlines::new(now);
        let state = match role {
            Role::Dialer => State::Idle,
            Role::Listener => {
                deadlines.expect_frame(now, FrameKind::Hello);
                State::AwaitHello
            }
        };
        Machine {
            local,
            role,
            remote,
            entropy,
            state,
            stage: Stage::Round1,
            round1_transcript: [0; 32],
            round1_peer: None,
            early_hello: None,
            responses_in_flight: 0,
            busy: false,
            unix_ms: 0,
            deadlines,
        }
    }

    /// Sets this node's Unix time in milliseconds, which goes into this node's Core and is compared with the peer's. To be
    /// called before [`Machine::handle`].
    pub fn set_clock(&mut self, unix_ms: u64) {
        self.unix_ms = unix_ms;
    }

    /// Handles an input at `now`, and appends the actions to take to `out`.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        if matches!(self.state, State::Over) {
            return;
        }
        if let Some(reason) = self.expired(now) {
            return self.close(reason, out);
        }
        let result = match input {
            Input::Start => self.on_start(now, out),
            Input::Request(body) => self.on_request(now, body, out),
            Input::Response(body) => self.on_response(now, body, out),
            Input::ResponseSent => self.on_response_sent(now, out),
            Input::Decision(decision) => self.on_decision(now, decision, out),
            Input::GateOpen => self.on_gate_open(now, out),
            Input::Busy => {
                self.busy = true;
                Ok(())
            }
            Input::Deadline => Ok(()),
            Input::StreamFailed(error) => Err(Abort::Close(Reason::Stream(error))),
            Input::NotSpoken => Err(Abort::Close(Reason::NotSpoken)),
        };
        match result {
            Ok(()) => {}
            Err(Abort::Close(reason)) => self.close(reason, out),
            Err(Abort::Reject(reason)) => self.reject(reason, out),
        }
    }

    /// Returns the time at which to feed [`Input::Deadline`]; none once the handshake has passed or failed.
    pub fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Passed | State::Over => None,
            _ => Some(self.deadlines.next()),
        }
    }

    /// Returns the round in which the handshake is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    fn expired(&self, now: Time) -> Option<Reason> {
        self.deadline()?;
        self.deadlines.expired(now)
    }

    fn on_start(&mut self, now: Time, out: &mut Vec<Output>) -> Result<(), Abort> {
        if let State::Idle = self.state {
            self.send_hello(now, out);
        }
        Ok(())
    }

    fn on_request(&mut self, now: Time, body: Vec<u8>, out: &mut Vec<Output>) -> Result<(), Abort> {
        match self.take_state() {
            State::AwaitHello => match decode(body, Abort::Reject)? {
                Frame::Hello(hello) => self.on_hello(now, &hello, out),
                frame => Err(unexpected(&frame)),
            },
            State::AwaitAnswer(state) => match decode(body, Abort::Reject)? {
                Frame::Answer(answer) => self.on_answer(state, &answer, out),
                frame => Err(unexpected(&frame)),
            },
            // Streams overtake each other: round 2's Hello may arrive before round 1's Pass. Only one is kept, so that a
            // stranger cannot make this grow.
            State::AwaitPass(state) if self.role == Role::Dialer && self.early_hello.is_none() => {
                self.state = State::AwaitPass(state);
                self.early_hello = Some(body);
                Ok(())
            }
            _ => Err(unexpected(&decode(body, Abort::Close)?)),
        }
    }

    fn on_response(
        &mut self,
        now: Time,
        body: Vec<u8>,
        out: &mut Vec<Output>,
    ) -> Result<(), Abort> {
        let frame = decode(body, Abort::Close)?;
        match (self.take_state(), frame) {
            (State::AwaitChallenge(state), Frame::Challenge(challenge)) => {
                self.on_challenge(now, state, &challenge, out)
            }
            (State::AwaitPass(state), Frame::Pass(pass)) => self.on_pass(now, state, &pass, out),
            (State::AwaitChallenge(_), Frame::Reject(rejection)) => {
                Err(Abort::Close(Reason::RefusedByRemote(rejection.code)))
            }
            (State::AwaitPass(state), Frame::Reject(rejection)) => {
                self.on_reject(&state, &rejection, out);
                Ok(())
            }
            (_, frame) => Err(unexpected(&frame)),
        }
    }

    /// A client that has proved its key is refused: the Reject may carry referrals.
    fn on_reject(&mut self, state: &AwaitPass, rejection: &Rejection, out: &mut Vec<Output>) {
        let referrals = match self.stage {
            Stage::Round1 => state.referrals(rejection),
            Stage::Round2 => None,
        };
        self.close_with(Reason::RefusedByRemote(rejection.code), referrals, out);
    }

    /// A server receives a Hello: it sends its Challenge.
    fn on_hello(&mut self, now: Time, hello: &Hello, out: &mut Vec<Output>) -> Result<(), Abort> {
        if self.busy {
            return Err(Abort::Reject(Reason::RefusedByUs(RejectCode::Busy)));
        }
        let (context, entropy) = self.context();
        let (state, frame) = round::challenge(&context, hello, entropy).map_err(Abort::Reject)?;
        self.respond(frame, out);
        self.await_frame(now, State::AwaitAnswer(state), FrameKind::Answer);
        Ok(())
    }

    /// A server receives an Answer: the peer has proved its key, and the caller decides whether it may stay.
    fn on_answer(
        &mut self,
        state: AwaitAnswer,
        answer: &Answer,
        out: &mut Vec<Output>,
    ) -> Result<(), Abort> {
        let (context, _) = self.context();
        let accepted = state.answer(&context, answer).map_err(Abort::Reject)?;
        out.push(Output::Authorize {
            peer: accepted.peer.public_key.peer_id(),
            instance_id: accepted.peer.core.instance_id,
            features: accepted.peer.core.features,
        });
        self.await_caller(State::AwaitDecision(accepted));
        Ok(())
    }

    fn on_decision(
        &mut self,
        now: Time,
        decision: Result<(), Refusal>,
        out: &mut Vec<Output>,
    ) -> Result<(), Abort> {
        let accepted = match self.take_state() {
            State::AwaitDecision(accepted) => accepted,
            // The caller answers twice, or was not asked: ignored.
            state => {
                self.state = state;
                return Ok(());
            }
        };
        if let Err(refusal) = decision {
            self.refuse(&accepted, refusal, out);
            return Ok(());
        }
        match self.stage {
            Stage::Round1 => {
                self.round1_transcript = accepted.end();
                let pass = accepted.pass();
                self.round1_peer = Some(accepted.peer);
                self.send_pass(now, pass, out);
            }
            Stage::Round2 => {
                let pass = accepted.pass();
                let peer = VerifiedPeer::new(accepted.peer, self.role);
                out.push(Output::Verified(peer));
                self.await_caller(State::AwaitGateToPass(pass));
            }
        }
        Ok(())
    }

    /// A client receives a Challenge. In round 2 that is the second proof of the peer's key: the gate opens before the
    /// Answer leaves, because the peer opens its own gate when it has the Answer.
    fn on_challenge(
        &mut self,
        now: Time,
        state: AwaitChallenge,
        challenge: &Challenge,
        out: &mut Vec<Output>,
    ) -> Result<(), Abort> {
        let (context, entropy) = self.context();
        let (state, peer, answer) = state
            .challenge(&context, challenge, entropy)
            .map_err(Abort::Close)?;
        match self.stage {
            Stage::Round1 => {
                self.round1_peer = Some(peer);
                out.push(Output::SendRequest(answer));
                self.await_frame(now, State::AwaitPass(state), FrameKind::Pass);
            }
            Stage::Round2 => {
                out.push(Output::Verified(VerifiedPeer::new(peer, self.role)));
                self.await_caller(State::AwaitGateToAnswer(state, answer));
            }
        }
        Ok(())
    }

    /// A client receives a Pass: its round is over.
    fn on_pass(
        &mut self,
        now: Time,
        state: AwaitPass,
        pass: &Pass,
        out: &mut Vec<Output>,
    ) -> Result<(), Abort> {
        let end = state.pass(pass).map_err(Abort::Close)?;
        if self.stage == Stage::Round2 {
            self.finish(out);
            return Ok(());
        }
        self.round1_transcript = end;
        self.stage = Stage::Round2;
        self.await_frame(now, State::AwaitHello, FrameKind::Hello);
        match self.early_hello.take() {
            Some(body) => self.on_request(now, body, out),
            None => Ok(()),
        }
    }

    fn on_gate_open(&mut self, now: Time, out: &mut Vec<Output>) -> Result<(), Abort> {
        match self.take_state() {
            State::AwaitGateToAnswer(state, answer) => {
                out.push(Output::SendRequest(answer));
                self.await_frame(now, State::AwaitPass(state), FrameKind::Pass);
            }
            State::AwaitGateToPass(pass) => self.send_pass(now, pass, out),
            state => self.state = state,
        }
        Ok(())
    }

    /// The server's round ends when its Pass has left. After round 1 the server becomes the client.
    fn on_response_sent(&mut self, now: Time, out: &mut Vec<Output>) -> Result<(), Abort> {
        self.responses_in_flight = self.responses_in_flight.saturating_sub(1);
        if let State::PassLeaves = self.state
            && self.responses_in_flight == 0
        {
            match self.stage {
                Stage::Round1 => {
                    self.stage = Stage::Round2;
                    self.send_hello(now, out);
                }
                Stage::Round2 => self.finish(out),
            }
        }
        Ok(())
    }

    /// Begins the round as its client.
    fn send_hello(&mut self, now: Time, out: &mut Vec<Output>) {
        let (context, entropy) = self.context();
        let (state, frame) = round::hello(&context, entropy);
        out.push(Output::SendRequest(frame));
        self.await_frame(now, State::AwaitChallenge(state), FrameKind::Challenge);
    }

    /// Sends the Pass of the round that this side serves.
    fn send_pass(&mut self, now: Time, frame: Vec<u8>, out: &mut Vec<Output>) {
        self.respond(frame, out);
        self.state = State::PassLeaves;
        self.deadlines.expect_pass_taken(now);
    }

    fn respond(&mut self, frame: Vec<u8>, out: &mut Vec<Output>) {
        self.responses_in_flight = self.responses_in_flight.saturating_add(1);
        out.push(Output::SendResponse(frame));
    }

    /// Waits for a frame of the peer.
    fn await_frame(&mut self, now: Time, state: State, frame: FrameKind) {
        self.state = state;
        self.deadlines.expect_frame(now, frame);
    }

    /// Waits for an input of the caller.
    fn await_caller(&mut self, state: State) {
        self.state = state;
        self.deadlines.expect_nothing();
    }

    fn finish(&mut self, out: &mut Vec<Output>) {
        self.state = State::Passed;
        out.push(Output::Passed);
    }

    fn reject(&mut self, reason: Reason, out: &mut Vec<Output>) {
        let frame = encode::reject(reason.code(), None);
        self.reject_with(frame, reason, out);
    }

    /// Refuses a peer that has proved its key. Only a dialer gets referrals, because only it can try another node.
    fn refuse(&mut self, accepted: &Accepted, refusal: Refusal, out: &mut Vec<Output>) {
        let Refusal { code, referrals } = refusal;
        let referrals =
            referrals.filter(|_| self.stage == Stage::Round1 && code == RejectCode::Busy);
        let frame = encode::reject(code, referrals.as_ref().map(|r| (r, accepted.prove(r))));
        self.reject_with(frame, Reason::RefusedByUs(code), out);
    }

    fn reject_with(&mut self, frame: Vec<u8>, reason: Reason, out: &mut Vec<Output>) {
        self.state = State::Over;
        out.push(Output::SendResponse(frame));
        out.push(Output::CloseAfterResponse(Failure::new(self.stage, reason)));
    }

    fn close(&mut self, reason: Reason, out: &mut Vec<Output>) {
        self.close_with(reason, None, out);
    }

    fn close_with(&mut self, reason: Reason, referrals: Option<Referrals>, out: &mut Vec<Output>) {
        self.state = State::Over;
        let failure = Failure::new(self.stage, reason);
        out.push(Output::Close(Failure {
            referrals,
            ..failure
        }));
    }

    /// Takes the state out to be consumed. A caller that puts none back has failed the handshake.
    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Over)
    }

    fn context(&mut self) -> (RoundContext<'_>, &mut Entropy) {
        let context = RoundContext {
            local: &self.local,
            remote: self.remote,
            round: self.stage,
            round1_transcript: self.round1_transcript,
            round1_peer: self.round1_peer.as_ref(),
            unix_ms: self.unix_ms,
        };
        (context, &mut self.entropy)
    }
}

fn decode(body: Vec<u8>, abort: fn(Reason) -> Abort) -> Result<Frame, Abort> {
    Frame::decode(body).map_err(abort)
}

fn unexpected(frame: &Frame) -> Abort {
    Abort::Close(Reason::Unexpected(frame.kind()))
}
