//! Handshakes that must not pass: one frame of the kit is wrong, and all others fit it. The files are in the order of
//! the checks.
//!
//! Entry: [`CASES`]. The rule they keep: a peer that lacks the one check continues with the handshake, and is caught.

mod cores;
mod frames;
mod fresh;
mod moved;
mod proofs;

use curve25519_dalek::constants::EIGHT_TORSION;
use libp2p::PeerId;
use prost::Message;

use crate::conformance::case::{Case, CaseContext, Expect, FrameKind, Kind, Procedure, Run};
use crate::conformance::observer::PeerFacts;
use crate::conformance::round::{Party, Round};
use crate::conformance::script::Mutation;
use crate::conformance::target::Mode;
use crate::handshake::{RejectCode, Stage};
use crate::wire::proto::handshake as proto;

/// The cases by the part that is wrong: a frame, the content of a Core, a proof, the place of a frame, or its
/// freshness.
pub(super) const CASES: [&[Case]; 5] = [
    frames::CASES,
    cores::CASES,
    proofs::CASES,
    moved::CASES,
    fresh::CASES,
];

const AUTH: Expect = Expect::Code(RejectCode::Auth);
const REJECT_AUTH: &str = "a server: Reject AUTH, then closed; a client: closed without a word";
const CLOSED: &str = "closed at once, without a Reject";

const fn mutation(
    name: &'static str,
    spec: &'static str,
    expected: &'static str,
    which: FrameKind,
    make: fn(&PeerFacts) -> Mutation,
    expect: Expect,
) -> Case {
    let procedure = Procedure::MutatedHandshake(which, make, expect);
    Case::new(Kind::Hostile, name, spec, expected, procedure)
}

const fn free(
    name: &'static str,
    spec: &'static str,
    expected: &'static str,
    only: Option<Mode>,
    run: fn(CaseContext) -> futures::future::BoxFuture<'static, Run>,
) -> Case {
    Case {
        only,
        ..Case::new(
            Kind::Hostile,
            name,
            spec,
            expected,
            Procedure::OwnConnections(run),
        )
    }
}

/// Changes the Core of a frame of the kit; all that follows uses the changed Core.
fn core(change: impl Fn(&mut proto::Core) + Send + Sync + 'static) -> Mutation {
    Mutation::Core(Box::new(move |mut core| {
        change(&mut core);
        core.encode_to_vec()
    }))
}

fn bytes(change: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Mutation {
    Mutation::Bytes(Box::new(change))
}

fn body(change: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Mutation {
    Mutation::Body(Box::new(move |_, body| change(&body)))
}

/// Sets a key that cannot be used: its PublicKey message and the matching id.
fn set_key(core: &mut proto::Core, key: &[u8; 32]) {
    let message = [&[0x08, 0x01, 0x12, 0x20][..], key].concat();
    core.peer_id = [&[0x00, 0x24][..], &message].concat().into();
    core.public_key = message.into();
}

fn small_order() -> [u8; 32] {
    let [_, point, ..] = EIGHT_TORSION;
    point.compress().to_bytes()
}

/// Returns y = p + 3, a non-canonical encoding of y = 3.
fn not_canonical() -> [u8; 32] {
    let mut key = [0xff; 32];
    key[0] = 0xf0;
    key[31] = 0x7f;
    key
}

/// Another length of one field inside the Frame's one message.
fn with_message(body: &[u8], change: impl Fn(&mut proto::frame::Kind)) -> Vec<u8> {
    match proto::Frame::decode(body) {
        Ok(proto::Frame {
            kind: Some(mut kind),
        }) => {
            change(&mut kind);
            proto::Frame { kind: Some(kind) }.encode_to_vec()
        }
        _ => body.to_vec(),
    }
}

fn first_round(party: Party, remote: PeerId) -> Round {
    Round {
        party,
        remote,
        stage: Stage::Round1,
        prev: [0; 32],
    }
}
