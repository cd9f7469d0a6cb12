//! A handshake, both rounds and both sides, without a wire between them.

use std::collections::VecDeque;
use std::sync::Arc;

use criterion::Criterion;
use diatribe::Identity;
use diatribe::clock::Time;
use diatribe::handshake::{Entropy, Input, Local, Machine, Output, Role};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub(crate) fn both_rounds(c: &mut Criterion) {
    let identities = [1, 2].map(|byte| Identity::from_seed(&[byte; 32]));
    let locals = identities
        .each_ref()
        .map(|identity| Arc::new(Local::new(identity.clone(), None, rand::random())));
    c.bench_function("handshake/both rounds, both sides", |b| {
        b.iter(|| {
            let entropy = || -> Entropy { Box::new(StdRng::from_rng(&mut rand::rng())) };
            let machine = |own: usize, role| {
                let peer = identities[1 - own].peer_id();
                Machine::new(locals[own].clone(), role, peer, Time::ZERO, entropy())
            };
            let passed = run([machine(0, Role::Dialer), machine(1, Role::Listener)]);
            assert_eq!(passed, 2);
        });
    });
}

/// Carries frames between the dialer and the listener; how many of them passed.
fn run(mut machines: [Machine; 2]) -> usize {
    let mut passed = 0;
    let mut moves = VecDeque::from([(0, Input::Start)]);
    let mut out = Vec::new();
    while let Some((to, input)) = moves.pop_front() {
        machines[to].handle(Time::ZERO, input, &mut out);
        for output in out.drain(..) {
            match output {
                Output::SendRequest(body) => moves.push_back((1 - to, Input::Request(body))),
                Output::SendResponse(body) => {
                    moves.push_back((1 - to, Input::Response(body)));
                    moves.push_back((to, Input::ResponseSent));
                }
                Output::Authorize { .. } => moves.push_back((to, Input::Decision(Ok(())))),
                Output::Verified(_) => moves.push_back((to, Input::GateOpen)),
                Output::Passed => passed += 1,
                Output::Close(failure) | Output::CloseAfterResponse(failure) => {
                    panic!("{failure:?}")
                }
            }
        }
    }
    passed
}
