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
//!                                            Judge … Ruling
//!                                ←           Pass 1
//!                                ←           (its ResponseSent) Hello 2
//!   Challenge 2                  →
//!                                            Verified … GateOpen
//!                                ←           Answer 2
//!   Judge … Ruling
//!   Verified … GateOpen
//!   Pass 2                       →
//!   (its ResponseSent) Passed                Passed
//! ```

use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;

use super::crypto::Entropy;
use super::message::{Answer, Challenge, Frame, FrameKind, Hello, Pass, encode};
use super::reason::{Failure, Reason, RejectCode, Stage};
use super::round::{self, Accepted, AwaitAnswer, AwaitChallenge, AwaitPass, Ground, Local, Peer};
use super::signals::{Input, Output, Role};
use crate::clock::Time;
use crate::identity::PublicKey;

/// How long a side waits for each frame from when it is due.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the whole may take, from the connection to the pass.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a Reject may take to leave before the connection is closed all the same.
pub const REJECT_FLUSH: Duration = Duration::from_millis(500);

/// A peer that has proved its key in both rounds of a handshake. Only [`Machine`] makes one.
#[derive(Debug)]
pub struct VerifiedPeer {
    peer: Box<Peer>,
    role: Role,
}

impl VerifiedPeer {
    fn new(peer: Peer, role: Role) -> VerifiedPeer {
        VerifiedPeer {
            peer: Box::new(peer),
            role,
        }
    }

    /// Its public id, as noise and the handshake proved it.
    pub fn peer_id(&self) -> PeerId {
        self.peer.public_key.peer_id()
    }

    /// Its public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.peer.public_key
    }

    /// Which running process of it.
    pub fn instance_id(&self) -> [u8; 16] {
        self.peer.core.instance_id
    }

    /// The X25519 key to which others seal for it.
    pub fn sealing_key(&self) -> [u8; 32] {
        self.peer.core.enc_key
    }

    /// The features it names; those that this node does not know mean nothing.
    pub fn features(&self) -> u64 {
        self.peer.core.features
    }

    /// Which end of the connection this node is.
    pub fn role(&self) -> Role {
        self.role
    }
}

/// The handshake of one connection.
pub struct Machine {
    local: Arc<Local>,
    role: Role,
    remote: PeerId,
    entropy: Entropy,
    state: State,
    stage: Stage,
    /// T_end of round 1, once there is one.
    prev: [u8; 32],
    /// Whom round 1 has shown.
    first: Option<Peer>,
    /// Round 2's Hello, when it overtakes round 1's Pass.
    held: Option<Vec<u8>>,
    /// Responses of ours that are still on their way out.
    leaving: u32,
    busy: bool,
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
    /// A server waits for its caller's ruling.
    AwaitRuling(Accepted),
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
            prev: [0; 32],
            first: None,
            held: None,
            leaving: 0,
            busy: false,
            end: now + TIMEOUT,
            due,
        }
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
            Input::Ruling(ruling) => self.on_ruling(now, ruling, out),
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
            State::AwaitPass(state) if self.role == Role::Dialer && self.held.is_none() => {
                self.state = State::AwaitPass(state);
                self.held = Some(body);
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
            (State::AwaitChallenge(_) | State::AwaitPass(_), Frame::Reject(code)) => {
                Err(Trouble::Close(Reason::RefusedByRemote(code)))
            }
            (_, frame) => Err(unexpected(&frame)),
        }
    }

    /// A server takes a Hello.
    fn on_hello(&mut self, now: Time, hello: &Hello, out: &mut Vec<Output>) -> Result<(), Trouble> {
        if self.busy {
            return Err(Trouble::Reject(Reason::RefusedByUs(RejectCode::Busy)));
        }
        let (ground, entropy) = self.ground();
        let (state, frame) = round::challenge(&ground, hello, entropy).map_err(Trouble::Reject)?;
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
        let (ground, _) = self.ground();
        let accepted = state.answer(&ground, answer).map_err(Trouble::Reject)?;
        out.push(Output::Judge {
            peer: accepted.peer.public_key.peer_id(),
            instance_id: accepted.peer.core.instance_id,
        });
        self.pause(State::AwaitRuling(accepted));
        Ok(())
    }

    fn on_ruling(
        &mut self,
        now: Time,
        ruling: Result<(), RejectCode>,
        out: &mut Vec<Output>,
    ) -> Result<(), Trouble> {
        let accepted = match self.take() {
            State::AwaitRuling(accepted) => accepted,
            // Nobody asked: the ruling of a question that a time-out has overtaken.
            state => {
                self.state = state;
                return Ok(());
            }
        };
        ruling.map_err(|code| Trouble::Reject(Reason::RefusedByUs(code)))?;
        match self.stage {
            Stage::Round1 => {
                self.prev = accepted.end;
                self.first = Some(accepted.peer);
                self.pass(now, accepted.pass, out);
            }
            Stage::Round2 => {
                out.push(Output::Verified(VerifiedPeer::new(
                    accepted.peer,
                    self.role,
                )));
                self.pause(State::AwaitGateToPass(accepted.pass));
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
        let (ground, entropy) = self.ground();
        let (state, peer, answer) = state
            .challenge(&ground, challenge, entropy)
            .map_err(Trouble::Close)?;
        match self.stage {
            Stage::Round1 => {
                self.first = Some(peer);
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
        self.prev = end;
        self.stage = Stage::Round2;
        self.wait(now, State::AwaitHello, FrameKind::Hello);
        match self.held.take() {
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
        self.leaving = self.leaving.saturating_sub(1);
        if let State::PassLeaves = self.state
            && self.leaving == 0
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
        let (ground, entropy) = self.ground();
        let (state, frame) = round::hello(&ground, entropy);
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
        self.leaving = self.leaving.saturating_add(1);
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
        self.state = State::Over;
        out.push(Output::SendResponse(encode::reject(reason.code())));
        out.push(Output::CloseAfterResponse(Failure::new(self.stage, reason)));
    }

    fn close(&mut self, reason: Reason, out: &mut Vec<Output>) {
        self.state = State::Over;
        out.push(Output::Close(Failure::new(self.stage, reason)));
    }

    /// Takes the state out to be consumed; whoever does not put one back has failed.
    fn take(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Over)
    }

    fn ground(&mut self) -> (Ground<'_>, &mut Entropy) {
        let ground = Ground {
            local: &self.local,
            remote: self.remote,
            round: self.stage,
            prev: self.prev,
            first: self.first.as_ref(),
        };
        (ground, &mut self.entropy)
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
