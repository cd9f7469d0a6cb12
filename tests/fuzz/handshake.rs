//! Fuzz targets for the handshake's state machine, with one changed frame after another.

use std::collections::VecDeque;
use std::sync::Arc;

use diatribe::clock::Time;
use diatribe::handshake::{Entropy, Input, Local, MAX_FRAME, Machine, Output, Role};
use diatribe::{Identity, NetworkKey};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::case::{Case, QUICK, SLOW, fuzz};
use crate::seeds;

fn machine(role: Role) -> Machine {
    let [own, peer] = match role {
        Role::Dialer => [1, 2],
        Role::Listener => [2, 1],
    };
    let identity = |n| Identity::from_seed(&[n; 32]);
    let network = NetworkKey::from_bytes(&[7; 32]);
    let local = Local::new(identity(own), Some(network), [own; 16]);
    let entropy: Entropy = Box::new(StdRng::seed_from_u64(own.into()));
    let peer = identity(peer).peer_id();
    Machine::new(Arc::new(local), role, peer, Time::ZERO, entropy)
}

/// Number of first frames that each role gets from a stranger: creating the keys of a machine takes most of the time.
const FIRST_WORDS: usize = QUICK / 4;

#[test]
fn a_strangers_first_words_are_answered_within_the_limit() {
    fuzz!(
        "handshake frames",
        FIRST_WORDS,
        seeds::of("handshake"),
        |case, seeds| {
            let bytes = case.bytes(seeds);
            let mut out = Vec::new();
            let mut listener = machine(Role::Listener);
            for input in [
                Input::Request(bytes.clone()),
                Input::Request(bytes.clone()),
                Input::Deadline,
            ] {
                listener.handle(Time::ZERO, input, &mut out);
            }
            let mut dialer = machine(Role::Dialer);
            for input in [
                Input::Start,
                Input::Response(bytes.clone()),
                Input::Request(bytes),
            ] {
                dialer.handle(Time::ZERO, input, &mut out);
            }
            out.iter().for_each(bounded);
        }
    );
}

#[test]
fn a_handshake_of_which_one_frame_is_changed_ends() {
    fuzz!(
        "handshakes",
        SLOW,
        vec![Vec::new(), vec![0x0a; 40]],
        |case, seeds| {
            let passed = run(case, seeds);
            assert!(passed <= 2);
        }
    );
}

fn bounded(output: &Output) {
    if let Output::SendRequest(body) | Output::SendResponse(body) = output {
        assert!((1..=MAX_FRAME).contains(&body.len()));
    }
}

/// Carries frames between two machines, with one of them changed. Returns how many sides passed.
fn run(case: &Case, seeds: &[Vec<u8>]) -> usize {
    let changed = case.choice(8);
    let mut machines = [machine(Role::Dialer), machine(Role::Listener)];
    let mut moves = VecDeque::from([(0, Input::Start)]);
    let (mut passed, mut frames) = (0, 0);
    let mut out = Vec::new();
    while let Some((to, input)) = moves.pop_front() {
        machines[to].handle(Time::ZERO, input, &mut out);
        for output in out.drain(..) {
            bounded(&output);
            let mut carry = |body: Vec<u8>| {
                frames += 1;
                match frames - 1 == changed {
                    true => case.of(body, seeds),
                    false => body,
                }
            };
            match output {
                Output::SendRequest(body) => {
                    moves.push_back((1 - to, Input::Request(carry(body))));
                }
                Output::SendResponse(body) => {
                    moves.push_back((1 - to, Input::Response(carry(body))));
                    moves.push_back((to, Input::ResponseSent));
                }
                Output::Authorize { .. } => moves.push_back((to, Input::Decision(Ok(())))),
                Output::Verified(_) => moves.push_back((to, Input::GateOpen)),
                Output::Passed => passed += 1,
                Output::Close(_) | Output::CloseAfterResponse(_) => {
                    moves.push_back((1 - to, Input::StreamFailed("closed".to_owned())));
                }
            }
        }
        assert!(frames < 20, "it ends");
    }
    passed
}
