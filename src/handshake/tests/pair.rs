//! Two machines on one connection, run until no input is left.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::clock::Time;
use crate::handshake::{
    Entropy, Failure, Input, Local, Machine, Output, Refusal, Role, VerifiedPeer,
};
use crate::identity::{Identity, NetworkKey};
use crate::wire::proto::handshake as proto;

pub(super) const DIALER_SEED: [u8; 32] = [1; 32];
pub(super) const LISTENER_SEED: [u8; 32] = [2; 32];
pub(super) const STRANGER_SEED: [u8; 32] = [3; 32];
pub(super) const DIALER_INSTANCE: [u8; 16] = [11; 16];
pub(super) const LISTENER_INSTANCE: [u8; 16] = [22; 16];

/// The frames of a handshake that passes, by their number.
pub(super) const HELLO_1: usize = 0;
pub(super) const CHALLENGE_1: usize = 1;
pub(super) const ANSWER_1: usize = 2;
pub(super) const PASS_1: usize = 3;
pub(super) const HELLO_2: usize = 4;
pub(super) const CHALLENGE_2: usize = 5;
pub(super) const ANSWER_2: usize = 6;
pub(super) const PASS_2: usize = 7;
pub(super) const FRAMES: usize = 8;

/// Changes a frame on its way: it arrives as the returned bytes, or is lost.
type Wire = Box<dyn FnMut(usize, Vec<u8>) -> Option<Vec<u8>>>;

/// One machine and its outputs.
pub(super) struct Side {
    pub(super) machine: Machine,
    pub(super) decision: Result<(), Refusal>,
    pub(super) authorized: Vec<[u8; 16]>,
    pub(super) verified: Option<VerifiedPeer>,
    pub(super) passed: bool,
    pub(super) failure: Option<Failure>,
}

/// A dialer, a listener and the frames between them.
pub(super) struct Pair {
    pub(super) now: Time,
    pub(super) dialer: Side,
    pub(super) listener: Side,
    /// The frames as they left, in order.
    pub(super) frames: Vec<Vec<u8>>,
    /// How long each frame travels.
    pub(super) delay: Duration,
    wire: Wire,
    moves: VecDeque<(Role, Input)>,
}

pub(super) fn dialer() -> Identity {
    Identity::from_seed(&DIALER_SEED)
}

pub(super) fn listener() -> Identity {
    Identity::from_seed(&LISTENER_SEED)
}

pub(super) fn stranger() -> Identity {
    Identity::from_seed(&STRANGER_SEED)
}

pub(super) fn network(byte: u8) -> Option<NetworkKey> {
    Some(NetworkKey::from_bytes(&[byte; 32]))
}

pub(super) fn entropy(seed: u64) -> Entropy {
    Box::new(StdRng::seed_from_u64(seed))
}

/// A dialer's machine on a connection to the listener.
pub(super) fn dialing(seed: u64) -> Machine {
    let local = Arc::new(Local::new(dialer(), None, DIALER_INSTANCE));
    Machine::new(
        local,
        Role::Dialer,
        listener().peer_id(),
        Time::ZERO,
        entropy(seed),
    )
}

/// A listener's machine on a connection from the dialer.
pub(super) fn listening(seed: u64) -> Machine {
    let local = Arc::new(Local::new(listener(), None, LISTENER_INSTANCE));
    Machine::new(
        local,
        Role::Listener,
        dialer().peer_id(),
        Time::ZERO,
        entropy(seed),
    )
}

/// The body of an honest frame, changed.
pub(super) fn changed(body: &[u8], change: impl FnOnce(&mut proto::Frame)) -> Vec<u8> {
    let mut frame = proto::Frame::decode(body).unwrap();
    change(&mut frame);
    frame.encode_to_vec()
}

/// The Core in a Hello or a Challenge, changed.
pub(super) fn change_core(frame: &mut proto::Frame, change: impl FnOnce(&mut proto::Core)) {
    let bytes = match frame.kind.as_mut().unwrap() {
        proto::frame::Kind::Hello(hello) => &mut hello.core,
        proto::frame::Kind::Challenge(challenge) => &mut challenge.core,
        other => panic!("{other:?} has no core"),
    };
    let mut core = proto::Core::decode(bytes.clone()).unwrap();
    change(&mut core);
    *bytes = core.encode_to_vec().into();
}

impl Side {
    pub(super) fn new(machine: Machine) -> Side {
        Side {
            machine,
            decision: Ok(()),
            authorized: Vec::new(),
            verified: None,
            passed: false,
            failure: None,
        }
    }

    pub(super) fn reason(&self) -> &crate::handshake::Reason {
        &self.failure.as_ref().expect("it failed").reason
    }

    pub(super) fn code(&self) -> Option<crate::handshake::RejectCode> {
        self.failure.as_ref().expect("it failed").code
    }
}

impl Pair {
    /// An honest pair on the open network.
    pub(super) fn new() -> Pair {
        Pair::of(dialing(1), listening(2))
    }

    pub(super) fn of(dialer: Machine, listener: Machine) -> Pair {
        Pair {
            now: Time::ZERO,
            dialer: Side::new(dialer),
            listener: Side::new(listener),
            frames: Vec::new(),
            delay: Duration::ZERO,
            wire: Box::new(|_, body| Some(body)),
            moves: VecDeque::new(),
        }
    }

    pub(super) fn on_networks(dialers: Option<NetworkKey>, listeners: Option<NetworkKey>) -> Pair {
        Pair::of_locals(
            Local::new(dialer(), dialers, DIALER_INSTANCE),
            Local::new(listener(), listeners, LISTENER_INSTANCE),
        )
    }

    /// Returns a dialer and a listener with these keys.
    pub(super) fn of_locals(dialers: Local, listeners: Local) -> Pair {
        let (from, to) = (dialers.peer_id(), listeners.peer_id());
        let machine = |local, role, remote, seed| {
            Machine::new(Arc::new(local), role, remote, Time::ZERO, entropy(seed))
        };
        Pair::of(
            machine(dialers, Role::Dialer, to, 1),
            machine(listeners, Role::Listener, from, 2),
        )
    }

    /// The same, with something between the two.
    pub(super) fn through(
        mut self,
        wire: impl FnMut(usize, Vec<u8>) -> Option<Vec<u8>> + 'static,
    ) -> Pair {
        self.wire = Box::new(wire);
        self
    }

    /// The same, with one frame replaced on its way.
    pub(super) fn with_frame(
        self,
        number: usize,
        mut change: impl FnMut(&[u8]) -> Vec<u8> + 'static,
    ) -> Pair {
        self.through(move |n, body| Some(if n == number { change(&body) } else { body }))
    }

    /// Runs from the start until nothing moves.
    pub(super) fn run(mut self) -> Pair {
        self.moves.push_back((Role::Dialer, Input::Start));
        self.settle();
        self
    }

    pub(super) fn feed(&mut self, role: Role, input: Input) {
        self.moves.push_back((role, input));
        self.settle();
    }

    pub(super) fn side(&mut self, role: Role) -> &mut Side {
        match role {
            Role::Dialer => &mut self.dialer,
            Role::Listener => &mut self.listener,
        }
    }

    pub(super) fn both_passed(&self) -> bool {
        let good = |side: &Side| side.verified.is_some() && side.passed && side.failure.is_none();
        good(&self.dialer) && good(&self.listener)
    }

    fn settle(&mut self) {
        while let Some((role, input)) = self.moves.pop_front() {
            let now = self.now;
            let side = self.side(role);
            let mut out = Vec::new();
            side.machine.handle(now, input, &mut out);
            for output in out {
                self.obey(role, output);
            }
        }
    }

    fn obey(&mut self, role: Role, output: Output) {
        let side = self.side(role);
        assert!(
            side.failure.is_none(),
            "{role:?} speaks after it closed: {output:?}"
        );
        match output {
            Output::SendRequest(body) => self.travel(role, body, Input::Request),
            Output::SendResponse(body) => {
                self.travel(role, body, Input::Response);
                self.moves.push_back((role, Input::ResponseSent));
            }
            Output::Authorize { instance_id, .. } => {
                side.authorized.push(instance_id);
                let decision = side.decision.clone();
                self.moves.push_back((role, Input::Decision(decision)));
            }
            Output::Verified(peer) => {
                assert!(
                    side.verified.replace(peer).is_none(),
                    "{role:?} verified twice"
                );
                self.moves.push_back((role, Input::GateOpen));
            }
            Output::Passed => side.passed = true,
            Output::Close(failure) | Output::CloseAfterResponse(failure) => {
                side.failure = Some(failure);
            }
        }
    }

    fn travel(&mut self, from: Role, body: Vec<u8>, arrive: fn(Vec<u8>) -> Input) {
        let number = self.frames.len();
        self.frames.push(body.clone());
        self.now += self.delay;
        let to = match from {
            Role::Dialer => Role::Listener,
            Role::Listener => Role::Dialer,
        };
        if let Some(body) = (self.wire)(number, body) {
            self.moves.push_back((to, arrive(body)));
        }
    }
}
