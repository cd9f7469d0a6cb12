//! Random inputs in random order: no panic, and only the one correct exchange passes.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use super::pair::*;
use crate::clock::Time;
use crate::handshake::{Input, Output, RejectCode, Role};

/// Something that happens to one of the two machines.
#[derive(Clone, Debug)]
enum Op {
    /// The oldest frame on its way to it arrives.
    Arrive,
    /// A frame on its way to it arrives, not the oldest.
    Overtake(Index),
    /// A frame that was sent before, by either, in this handshake or in an older one.
    Again {
        pool: Index,
        as_request: bool,
    },
    /// Bytes that nobody sent.
    Garbage {
        bytes: Vec<u8>,
        as_request: bool,
    },
    /// Its caller does an action that was requested.
    Obey,
    /// Its caller does an action that was not requested.
    Decision(bool),
    GateOpen,
    ResponseSent,
    Start,
    Busy,
    StreamFailed,
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        24 => Just(Op::Arrive),
        24 => Just(Op::Obey),
        2 => any::<Index>().prop_map(Op::Overtake),
        1 => (any::<Index>(), any::<bool>())
            .prop_map(|(pool, as_request)| Op::Again { pool, as_request }),
        1 => (prop::collection::vec(any::<u8>(), 0..64), any::<bool>())
            .prop_map(|(bytes, as_request)| Op::Garbage { bytes, as_request }),
        1 => any::<bool>().prop_map(Op::Decision),
        1 => Just(Op::GateOpen),
        1 => Just(Op::ResponseSent),
        1 => Just(Op::Start),
        1 => Just(Op::Busy),
        1 => Just(Op::StreamFailed),
        1 => (0..2_000u64).prop_map(Op::Wait),
    ]
}

/// One machine in a world that keeps no order.
struct Player {
    side: Side,
    /// Frames on their way to it; whether each is a request.
    coming: Vec<(Vec<u8>, bool)>,
    /// Actions that its outputs request of its caller.
    asked: Vec<Input>,
    /// Frames that were handed to it, and frames that it sent, in order.
    took: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    /// Number of frames that it had accepted when it returned Verified.
    verified_after: Option<usize>,
}

struct World {
    now: Time,
    players: [Player; 2],
    pool: Vec<Vec<u8>>,
}

impl World {
    fn new() -> World {
        let player = |machine| Player {
            side: Side::new(machine),
            coming: Vec::new(),
            asked: Vec::new(),
            took: Vec::new(),
            sent: Vec::new(),
            verified_after: None,
        };
        let mut world = World {
            now: Time::ZERO,
            players: [player(dialing(7)), player(listening(8))],
            pool: Pair::new().run().frames,
        };
        world.players[0].asked.push(Input::Start);
        world
    }

    fn play(&mut self, role: Role, op: Op) {
        let player = &mut self.players[index(role)];
        let input = match op {
            Op::Arrive if player.coming.is_empty() => return,
            Op::Arrive => arrival(player.coming.remove(0)),
            Op::Overtake(_) if player.coming.is_empty() => return,
            Op::Overtake(which) => {
                let which = which.index(player.coming.len());
                arrival(player.coming.remove(which))
            }
            Op::Again { pool, as_request } => {
                arrival((self.pool[pool.index(self.pool.len())].clone(), as_request))
            }
            Op::Garbage { bytes, as_request } => arrival((bytes, as_request)),
            Op::Obey if player.asked.is_empty() => return,
            Op::Obey => player.asked.remove(0),
            Op::Decision(true) => Input::Decision(Ok(())),
            Op::Decision(false) => Input::Decision(Err(RejectCode::Policy.into())),
            Op::GateOpen => Input::GateOpen,
            Op::ResponseSent => Input::ResponseSent,
            Op::Start => Input::Start,
            Op::Busy => Input::Busy,
            Op::StreamFailed => Input::StreamFailed("reset".to_owned()),
            Op::Wait(millis) => {
                self.now += Duration::from_millis(millis);
                Input::Deadline
            }
        };
        self.feed(role, input);
    }

    fn feed(&mut self, role: Role, input: Input) {
        let (now, at) = (self.now, index(role));
        let mut out = Vec::new();
        let player = &mut self.players[at];
        if let Input::Request(body) | Input::Response(body) = &input {
            player.took.push(body.clone());
        }
        player.side.machine.handle(now, input, &mut out);
        for output in out {
            self.obey(at, output);
        }
    }

    fn obey(&mut self, at: usize, output: Output) {
        let player = &mut self.players[at];
        let side = &mut player.side;
        assert!(
            side.failure.is_none(),
            "it speaks after it closed: {output:?}"
        );
        assert!(
            !side.passed || matches!(output, Output::Close(_)),
            "it speaks after it passed"
        );
        match output {
            Output::SendRequest(body) => self.send(at, body, true),
            Output::SendResponse(body) => {
                player.asked.push(Input::ResponseSent);
                self.send(at, body, false);
            }
            Output::Authorize { .. } => {
                side.authorized.push([0; 16]);
                assert_eq!(side.authorized.len(), 1, "it asked twice");
                player.asked.push(Input::Decision(Ok(())));
            }
            Output::Verified(peer) => {
                assert!(side.verified.replace(peer).is_none(), "verified twice");
                player.verified_after = Some(player.took.len());
                player.asked.push(Input::GateOpen);
            }
            Output::Passed => {
                assert!(side.verified.is_some(), "passed without a proof");
                side.passed = true;
            }
            Output::Close(failure) | Output::CloseAfterResponse(failure) => {
                side.failure = Some(failure);
                assert_eq!(side.machine.deadline(), None);
            }
        }
    }

    fn send(&mut self, at: usize, body: Vec<u8>, is_request: bool) {
        self.pool.push(body.clone());
        self.players[at].sent.push(body.clone());
        self.players[1 - at].coming.push((body, is_request));
    }

    /// A side that was verified had taken exactly the frames that its live peer had sent until
    /// then, each once. (The Hello of round 2 may have overtaken the Pass of round 1.)
    fn assert_honest(&self) {
        for at in [0, 1] {
            let player = &self.players[at];
            let Some(count) = player.verified_after else {
                continue;
            };
            // The dialer: Challenge, Pass, Hello, Answer. The listener: Hello, Answer, Challenge.
            assert_eq!(count, [4, 3][at]);
            let mut took = player.took[..count].to_vec();
            let mut sent = self.players[1 - at].sent[..count].to_vec();
            took.sort();
            sent.sort();
            assert_eq!(took, sent);
        }
    }
}

fn arrival((body, is_request): (Vec<u8>, bool)) -> Input {
    if is_request {
        Input::Request(body)
    } else {
        Input::Response(body)
    }
}

fn index(role: Role) -> usize {
    match role {
        Role::Dialer => 0,
        Role::Listener => 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn no_order_of_events_leads_to_a_false_pass(
        ops in prop::collection::vec((any::<bool>(), op()), 0..120)
    ) {
        let mut world = World::new();
        for (dialer, op) in ops {
            world.play(if dialer { Role::Dialer } else { Role::Listener }, op);
        }
        world.assert_honest();
    }
}

#[test]
fn the_disorderly_world_lets_an_orderly_handshake_pass() {
    let mut world = World::new();
    for _ in 0..40 {
        for role in [Role::Dialer, Role::Listener] {
            world.play(role, Op::Obey);
            world.play(role, Op::Arrive);
        }
    }
    assert!(world.players.iter().all(|player| player.side.passed));
    world.assert_honest();
}
