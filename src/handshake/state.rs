//! The handshake of one connection, as a pure machine: frames and rulings in; frames, a verdict and
//! a deadline out.
//!
//! Entry type: [`Machine`]. The rule it keeps: [`Output::Verified`] comes once, and only after the
//! peer has proved its key in both rounds to this side; once it has said [`Output::Close`] or
//! [`Output::CloseAfterResponse`] it says nothing more.
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

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;

use super::crypto::Entropy;
use super::io::{Input, Output, Role};
use super::message::{Answer, Challenge, Frame, FrameKind, Hello, Pass, encode};
use super::reason::{Failure, Reason, RejectCode, Stage};
use super::referrals::{Referrals, Refusal, Rejection};
use super::round::{
    self, Accepted, AwaitAnswer, AwaitChallenge, AwaitPass, Local, Peer, RoundContext,
};
use super::verified::VerifiedPeer;
use crate::clock::Time;

/// How long a side waits for each frame from when it is due.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the whole may take, from the connection to the pass.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a Reject may take to leave before the connection is closed all the same.
pub const REJECT_FLUSH: Duration = Duration::from_millis(500);

/// The handshake of one connection.
pub struct Machine {
    local: Arc<Local>,
    role: Role,
    remote: PeerId,
    entropy: Entropy,
    state: State,
    stage: Stage,
    /// T_end of round 1, once there is one.
    round1_transcript: [u8; 32],
    /// Whom round 1 has shown.
    round1_peer: Option<Peer>,
    /// Round 2's Hello, when it overtakes round 1's Pass.
    early_hello: Option<Vec<u8>>,
    /// Responses of ours that are still on their way out.
    responses_in_flight: u32,
    busy: bool,
    /// This node's Unix time in milliseconds, as it was told last.
    unix_ms: u64,
    /// When the whole must have passed.
    end: Time,
    /// Until when the next step is due, and what is wrong when it has not come by then.
    due: Option<(Time, Reason)>,
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
    /// Round 2's client waits for its gate, then answers.
    AwaitGateToAnswer(AwaitPass, Vec<u8>),
    /// Round 2's server waits for its gate, then passes.
    AwaitGateToPass(Vec<u8>),
    /// A server waits for its Pass to leave.
    PassLeaves,
    Passed,
    /// It has failed: nothing more is said or heard.
    Over,
}

/// A frame that came out of turn, or one whose check failed.
enum Trouble {
    /// Close without a word.
    Close(Reason),
    /// A server refuses by name.
    Reject(Reason),
}

impl Machine {
    /// A handshake on a connection that came up at `now`, with the peer that noise authenticated.
    pub fn new(
        local: Arc<Local>,
        role: Role,
        remote: PeerId,
        now: Time,
        entropy: Entropy,
    ) -> Machine {
        let (state, due) = match role {
            Role::Dialer => (State::Idle, None),
            Role::Listener => (State::AwaitHello, Some(frame_due(now, FrameKind::Hello))),
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
            end: now + TIMEOUT,
            due,
        }
    }

    /// Sets this node's Unix time in milliseconds: before each input that may have a Core made or read.
    pub fn set_clock(&mut self, unix_ms: u64) {
        self.unix_ms = unix_ms;
    }

    /// Takes what happened, and appends what is to be done.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        if matches!(self.state, State::Over) {
            return;
        }
        if let Some(reason) = self.too_late(now) {
            return self.close(reason, out);
        }
        let done = match input {
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
            Input::StreamFailed(what) => Err(Trouble::Close(Reason::Stream(what))),
            Input::NotSpoken => Err(Trouble::Close(Reason::NotSpoken)),
        };
        match done {
            Ok(()) => {}
            Err(Trouble::Close(reason)) => self.close(reason, out),
            Err(Trouble::Reject(reason)) => self.reject(reason, out),
        }
    }

    /// When to feed [`Input::Deadline`]; none once the handshake has passed or failed.
    pub fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Passed | State::Over => None,
            _ => Some(
                self.due
                    .as_ref()
                    .map_or(self.end, |(due, _)| self.end.min(*due)),
            ),
        }
    }

    /// In which round the handshake stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    fn too_late(&self, now: Time) -> Option<Reason> {
        if self.deadline()? > now {
            return None;
        }
        Some(match &self.due {
            Some((due, reason)) if *due <= self.end => reason.clone(),
            _ => Reason::TooSlow,
        })
    }

    fn on_start(&mut self, now: Time, out: &mut Vec<Output>) -> Result<(), Trouble> {
        if let State::Idle = self.state {
            self.ask(now, out);
        }
        Ok(())
    }

    fn on_request(
        &mut self,
        now: Time,
        body: Vec<u8>,
        out: &mut Vec<Output>,
    ) -> Result<(), Trouble> {
        match self.take() {
            State::AwaitHello => match decode(body, Trouble::Reject)? {
                Frame::Hello(hello) => self.on_hello(now, &hello, out),
                frame => Err(unexpected(&frame)),
            },
            State::AwaitAnswer(state) => match decode(body, Trouble::Reject)? {
                Frame::Answer(answer) => self.on_answer(state, &answer, out),
                frame => Err(unexpected(&frame)),
            },
            // Streams overtake each other: round 2's Hello may come before round 1's Pass. One
            // may, so that a stranger cannot make this grow.
            State::AwaitPass(state) if self.role == Role::Dialer && self.early_hello.is_none() => {
                self.state = State::AwaitPass(state);
                self.early_hello = Some(body);
                Ok(())
            }
            _ => Err(unexpected(&decode(body, Trouble::Close)?)),
        }
    }

    fn on_response(
        &mut self,
        now: Time,
        body: Vec<u8>,
        out: &mut Vec<Output>,
    ) -> Result<(), Trouble> {
        let frame = decode(body, Trouble::Close)?;
        match (self.take(), frame) {
            (State::AwaitChallenge(state), Frame::Challenge(challenge)) => {
                self.on_challenge(now, state, &challenge, out)
            }
            (State::AwaitPass(state), Frame::Pass(pass)) => self.on_pass(now, state, &pass, out),
            (State::AwaitChallenge(_), Frame::Reject(rejection)) => {
                Err(Trouble::Close(Reason::RefusedByRemote(rejection.code)))
            }
            (State::AwaitPass(state), Frame::Reject(rejection)) => {
                self.on_reject(&state, &rejection, out);
                Ok(())
            }
            (_, frame) => Err(unexpected(&frame)),
        }
    }

    /// A client is refused after it has proved its key: the server may name others.
    fn on_reject(&mut self, state: &AwaitPass, rejection: &Rejection, out: &mut Vec<Output>) {
        let referrals = match self.stage {
            Stage::Round1 => state.referrals(rejection),
            Stage::Round2 => None,
        };
        self.close_with(Reason::RefusedByRemote(rejection.code), referrals, out);
    }

    /// A server takes a Hello.
    fn on_hello(&mut self, now: Time, hello: &Hello, out: &mut Vec<Output>) -> Result<(), Trouble> {
        if self.busy {
            return Err(Trouble::Reject(Reason::RefusedByUs(RejectCode::Busy)));
        }
        let (context, entropy) = self.context();
        let (state, frame) = round::challenge(&context, hello, entropy).map_err(Trouble::Reject)?;
        self.respond(frame, out);
        self.wait(now, State::AwaitAnswer(state), FrameKind::Answer);
        Ok(())
    }

    /// A server takes an Answer: the peer has proved its key, now the caller judges.
    fn on_answer(
        &mut self,
        state: AwaitAnswer,
        answer: &Answer,
        out: &mut Vec<Output>,
    ) -> Result<(), Trouble> {
        let (context, _) = self.context();
        let accepted = state.answer(&context, answer).map_err(Trouble::Reject)?;
        out.push(Output::Authorize {
            peer: accepted.peer.public_key.peer_id(),
            instance_id: accepted.peer.core.instance_id,
            features: accepted.peer.core.features,
        });
        self.pause(State::AwaitDecision(accepted));
        Ok(())
    }

    fn on_decision(
        &mut self,
        now: Time,
        decision: Result<(), Refusal>,
        out: &mut Vec<Output>,
    ) -> Result<(), Trouble> {
        let accepted = match self.take() {
            State::AwaitDecision(accepted) => accepted,
            // Nobody asked: the decision of a question that a time-out has overtaken.
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
                self.pass(now, pass, out);
            }
            Stage::Round2 => {
                let pass = accepted.pass();
                let peer = VerifiedPeer::new(accepted.peer, self.role);
                out.push(Output::Verified(peer));
                self.pause(State::AwaitGateToPass(pass));
            }
        }
        Ok(())
    }

    /// A client takes a Challenge. In round 2 that is the second proof of the peer's key: the gate
    /// opens before the Answer leaves, for the peer opens its own when it has that.
    fn on_challenge(
        &mut self,
        now: Time,
        state: AwaitChallenge,
        challenge: &Challenge,
        out: &mut Vec<Output>,
    ) -> Result<(), Trouble> {
        let (context, entropy) = self.context();
        let (state, peer, answer) = state
            .challenge(&context, challenge, entropy)
            .map_err(Trouble::Close)?;
        match self.stage {
            Stage::Round1 => {
                self.round1_peer = Some(peer);
                out.push(Output::SendRequest(answer));
                self.wait(now, State::AwaitPass(state), FrameKind::Pass);
            }
            Stage::Round2 => {
                out.push(Output::Verified(VerifiedPeer::new(peer, self.role)));
                self.pause(State::AwaitGateToAnswer(state, answer));
            }
        }
        Ok(())
    }

    /// A client takes a Pass: its round is over.
    fn on_pass(
        &mut self,
        now: Time,
        state: AwaitPass,
        pass: &Pass,
        out: &mut Vec<Output>,
    ) -> Result<(), Trouble> {
        let end = state.pass(pass).map_err(Trouble::Close)?;
        if self.stage == Stage::Round2 {
            self.finish(out);
            return Ok(());
        }
        self.round1_transcript = end;
        self.stage = Stage::Round2;
        self.wait(now, State::AwaitHello, FrameKind::Hello);
        match self.early_hello.take() {
            Some(body) => self.on_request(now, body, out),
            None => Ok(()),
        }
    }

    fn on_gate_open(&mut self, now: Time, out: &mut Vec<Output>) -> Result<(), Trouble> {
        match self.take() {
            State::AwaitGateToAnswer(state, answer) => {
                out.push(Output::SendRequest(answer));
                self.wait(now, State::AwaitPass(state), FrameKind::Pass);
            }
            State::AwaitGateToPass(pass) => self.pass(now, pass, out),
            state => self.state = state,
        }
        Ok(())
    }

    /// A Pass that has left ends the server's round; in round 1 the parts are then exchanged.
    fn on_response_sent(&mut self, now: Time, out: &mut Vec<Output>) -> Result<(), Trouble> {
        self.responses_in_flight = self.responses_in_flight.saturating_sub(1);
        if let State::PassLeaves = self.state
            && self.responses_in_flight == 0
        {
            match self.stage {
                Stage::Round1 => {
                    self.stage = Stage::Round2;
                    self.ask(now, out);
                }
                Stage::Round2 => self.finish(out),
            }
        }
        Ok(())
    }

    /// Opens the round as its client.
    fn ask(&mut self, now: Time, out: &mut Vec<Output>) {
        let (context, entropy) = self.context();
        let (state, frame) = round::hello(&context, entropy);
        out.push(Output::SendRequest(frame));
        self.wait(now, State::AwaitChallenge(state), FrameKind::Challenge);
    }

    /// Ends the round as its server, but for the frame's way out.
    fn pass(&mut self, now: Time, frame: Vec<u8>, out: &mut Vec<Output>) {
        self.respond(frame, out);
        self.state = State::PassLeaves;
        self.due = Some((now + FRAME_TIMEOUT, Reason::PassNotTaken));
    }

    fn respond(&mut self, frame: Vec<u8>, out: &mut Vec<Output>) {
        self.responses_in_flight = self.responses_in_flight.saturating_add(1);
        out.push(Output::SendResponse(frame));
    }

    /// The peer's turn.
    fn wait(&mut self, now: Time, state: State, frame: FrameKind) {
        self.state = state;
        self.due = Some(frame_due(now, frame));
    }

    /// The caller's turn: no frame is due, but the whole still has its end.
    fn pause(&mut self, state: State) {
        self.state = state;
        self.due = None;
    }

    fn finish(&mut self, out: &mut Vec<Output>) {
        self.state = State::Passed;
        self.due = None;
        out.push(Output::Passed);
    }

    fn reject(&mut self, reason: Reason, out: &mut Vec<Output>) {
        let frame = encode::reject(reason.code(), None);
        self.reject_with(frame, reason, out);
    }

    /// Refuses a peer that has proved its key. Only a dialer is told of others, for only it has somewhere to go.
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

    /// Takes the state out to be consumed; whoever does not put one back has failed.
    fn take(&mut self) -> State {
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

fn frame_due(now: Time, kind: FrameKind) -> (Time, Reason) {
    (now + FRAME_TIMEOUT, Reason::NoFrame(kind))
}

fn decode(body: Vec<u8>, trouble: fn(Reason) -> Trouble) -> Result<Frame, Trouble> {
    Frame::decode(body).map_err(trouble)
}

fn unexpected(frame: &Frame) -> Trouble {
    Trouble::Close(Reason::Unexpected(frame.kind()))
}
