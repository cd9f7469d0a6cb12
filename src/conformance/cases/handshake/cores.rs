//! The content of a Core: checks 5 to 13.

use bytes::Bytes;
use futures::FutureExt;
use prost::Message as _;

use super::{
    AUTH, REJECT_AUTH, body, core, free, mutation, not_canonical, set_key, small_order,
    with_message,
};
use crate::conformance::case::{Case, CaseContext, Expect, FrameKind, Observation, Run};
use crate::conformance::expectations;
use crate::conformance::script::{Mutation, Script};
use crate::conformance::scripted_handshake::run_handshake;
use crate::conformance::tag_mutation::TagMutation;
use crate::conformance::target::Mode;
use crate::handshake::RejectCode;
use crate::identity::Identity;
use crate::wire::proto::handshake as proto;

const NETWORK: Expect = Expect::Code(RejectCode::Network);
const NETWORK_REFUSED: &str = "Reject NETWORK, then closed";

pub(super) const CASES: &[Case] = &[
    mutation(
        "version-3",
        "5 check 5",
        "a server: Reject VERSION, then closed; a client: closed",
        FrameKind::Hello,
        |_| core(|core| core.version = 3),
        Expect::Code(RejectCode::Version),
    ),
    mutation(
        "version-3-challenge",
        "5 check 5",
        "closed without a word",
        FrameKind::Challenge,
        |_| core(|core| core.version = 3),
        Expect::Code(RejectCode::Version),
    ),
    mutation(
        "version-1",
        "5 check 5",
        "Reject VERSION, then closed",
        FrameKind::Hello,
        |_| core(|core| core.version = 1),
        Expect::Code(RejectCode::Version),
    ),
    mutation(
        "version-absent",
        "5 check 5",
        "Reject VERSION, then closed",
        FrameKind::Hello,
        |_| core(|core| core.version = 0),
        Expect::Code(RejectCode::Version),
    ),
    mutation(
        "version-3-of-another-shape",
        "5 check 5",
        "Reject VERSION, whatever the other fields are",
        FrameKind::Hello,
        |_| {
            Mutation::Core(Box::new(|_| {
                vec![0x08, 0x03, 0x1a, 0x01, 0x07, 0x20, 0x05, 0x2d, 1, 2, 3, 4]
            }))
        },
        Expect::Code(RejectCode::Version),
    ),
    mutation(
        "core-that-cannot-be-scanned",
        "5 check 5",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| Mutation::Core(Box::new(|_| vec![0x08, 0x02, 0x1a, 0x40, 0x07])),
        AUTH,
    ),
    mutation(
        "group-in-core",
        "4 Encoding",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core_and(&[0xa3, 0x06, 0xa4, 0x06]),
        AUTH,
    ),
    mutation(
        "group-in-core-of-challenge",
        "4 Encoding",
        REJECT_AUTH,
        FrameKind::Challenge,
        |_| core_and(&[0xa3, 0x06, 0xa4, 0x06]),
        AUTH,
    ),
    mutation(
        "longer-varint-in-core",
        "4 Encoding",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core_and(&[0x48, 0x81, 0x00]),
        AUTH,
    ),
    mutation(
        "key-of-33-bits-in-core",
        "4 Encoding",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core_and(&[0x80, 0x80, 0x80, 0x80, 0x10, 0x01]),
        AUTH,
    ),
    mutation(
        "group-in-hello",
        "4 Encoding",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| body(|body| [body, &[0xa3, 0x06, 0xa4, 0x06]].concat()),
        AUTH,
    ),
    mutation(
        "field-0-in-answer",
        "4 Encoding",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| body(|body| [body, &[0x00, 0x01]].concat()),
        AUTH,
    ),
    mutation(
        "short-nonce",
        "5 check 6",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core(|core| core.nonce.truncate(31)),
        AUTH,
    ),
    mutation(
        "long-instance-id",
        "5 check 6",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core(|core| core.instance_id = Bytes::from_static(&[9; 17])),
        AUTH,
    ),
    mutation(
        "short-signature-challenge",
        "5 check 6",
        REJECT_AUTH,
        FrameKind::Challenge,
        |_| {
            body(|body| {
                with_message(body, |kind| {
                    if let proto::frame::Kind::Challenge(c) = kind {
                        c.signature.truncate(63)
                    }
                })
            })
        },
        AUTH,
    ),
    mutation(
        "short-tags",
        "5 check 6",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core(|core| core.tags.truncate(31)),
        AUTH,
    ),
    mutation(
        "one-tag",
        "5 check 6",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core(|core| core.tags.truncate(16)),
        AUTH,
    ),
    mutation(
        "no-tags",
        "5 check 6",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core(|core| core.tags.clear()),
        AUTH,
    ),
    mutation(
        "key-in-hello",
        "5 check 6",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core(|core| core.key = 1),
        AUTH,
    ),
    mutation(
        "tags-in-challenge",
        "5 check 6",
        "closed without a word",
        FrameKind::Challenge,
        |_| core(|core| core.tags = Bytes::from_static(&[7; 32])),
        AUTH,
    ),
    mutation(
        "no-key-in-challenge",
        "5 check 6",
        "closed without a word",
        FrameKind::Challenge,
        |_| core(|core| core.key = 0),
        AUTH,
    ),
    mutation(
        "key-3-in-challenge",
        "5 check 6",
        "closed without a word",
        FrameKind::Challenge,
        |_| core(|core| core.key = 3),
        AUTH,
    ),
    mutation(
        "key-that-was-not-offered",
        "5 check 7",
        "closed without a word",
        FrameKind::Challenge,
        |_| core(|core| core.key = 2),
        AUTH,
    ),
    mutation(
        "wrong-network",
        "5 check 7",
        NETWORK_REFUSED,
        FrameKind::Hello,
        |_| core(|core| core.tags = Bytes::from_static(&[0x77; 32])),
        NETWORK,
    ),
    mutation(
        "tag-with-another-first-byte",
        "5 check 7",
        NETWORK_REFUSED,
        FrameKind::Hello,
        |_| core(|core| flip(&mut core.tags, 0)),
        NETWORK,
    ),
    mutation(
        "tag-with-another-middle-byte",
        "5 check 7",
        NETWORK_REFUSED,
        FrameKind::Hello,
        |_| core(|core| flip(&mut core.tags, 8)),
        NETWORK,
    ),
    mutation(
        "tag-with-another-last-byte",
        "5 check 7",
        NETWORK_REFUSED,
        FrameKind::Hello,
        |_| core(|core| flip(&mut core.tags, 15)),
        NETWORK,
    ),
    mutation(
        "tag-of-another-nonce",
        "5 check 7",
        NETWORK_REFUSED,
        FrameKind::Hello,
        |_| Mutation::Tags(TagMutation::OtherNonce),
        NETWORK,
    ),
    mutation(
        "tag-from-server-to-client",
        "5 check 7",
        NETWORK_REFUSED,
        FrameKind::Hello,
        |_| Mutation::Tags(TagMutation::Turned),
        NETWORK,
    ),
    mutation(
        "tag-to-another-server",
        "5 check 7",
        NETWORK_REFUSED,
        FrameKind::Hello,
        |_| Mutation::Tags(TagMutation::ToAnother),
        NETWORK,
    ),
    mutation(
        "tag-of-another-client",
        "5 check 7",
        NETWORK_REFUSED,
        FrameKind::Hello,
        |_| Mutation::Tags(TagMutation::OfAnother),
        NETWORK,
    ),
    mutation(
        "wrong-round",
        "5 check 8",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core(|core| core.round = 3 - core.round),
        AUTH,
    ),
    mutation(
        "wrong-prev",
        "5 check 8",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core(|core| core.prev = Bytes::from_static(&[0x55; 32])),
        AUTH,
    ),
    mutation(
        "prev-with-another-first-byte",
        "5 check 8",
        REJECT_AUTH,
        FrameKind::FirstOfRound2,
        |_| core(|core| flip(&mut core.prev, 0)),
        AUTH,
    ),
    mutation(
        "prev-with-another-last-byte",
        "5 check 8",
        REJECT_AUTH,
        FrameKind::FirstOfRound2,
        |_| core(|core| flip(&mut core.prev, 31)),
        AUTH,
    ),
    mutation(
        "prev-not-of-round-1",
        "5 check 8",
        REJECT_AUTH,
        FrameKind::FirstOfRound2,
        |_| core(|core| core.prev = Bytes::from_static(&[0; 32])),
        AUTH,
    ),
    mutation(
        "small-order-key",
        "5 check 9",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core(|core| set_key(core, &small_order())),
        AUTH,
    ),
    mutation(
        "key-not-canonical",
        "5 check 9",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core(|core| set_key(core, &not_canonical())),
        AUTH,
    ),
    mutation(
        "wrong-id",
        "5 check 10",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core(|core| set_key(core, Identity::generate().public_key().as_bytes())),
        AUTH,
    ),
    mutation(
        "wrong-id-challenge",
        "5 check 10",
        REJECT_AUTH,
        FrameKind::Challenge,
        |_| core(|core| set_key(core, Identity::generate().public_key().as_bytes())),
        AUTH,
    ),
    mutation(
        "peer-id-of-another-key",
        "5 check 10",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core(|core| core.peer_id = Identity::generate().peer_id().to_bytes().into()),
        AUTH,
    ),
    mutation(
        "id-of-the-peer-itself",
        "5 check 10",
        REJECT_AUTH,
        FrameKind::Hello,
        |facts| {
            let own = facts.peer.clone();
            core(move |core| {
                core.public_key = own.public_key.clone();
                core.peer_id = own.peer_id.clone();
            })
        },
        AUTH,
    ),
    free("nonce-sent-back", "5 check 11", REJECT_AUTH, None, |ctx| {
        nonce_sent_back(ctx).boxed()
    }),
    mutation(
        "instance-of-the-peer-itself",
        "5 check 11",
        REJECT_AUTH,
        FrameKind::FirstOfRound1,
        |facts| {
            let own = facts.peer.instance_id.clone();
            core(move |core| core.instance_id = own.clone())
        },
        AUTH,
    ),
    mutation(
        "instance-changes",
        "5 check 12",
        REJECT_AUTH,
        FrameKind::FirstOfRound2,
        |_| core(|core| core.instance_id = Bytes::from_static(&[0x33; 16])),
        AUTH,
    ),
    mutation(
        "sealing-key-changes",
        "5 check 12",
        REJECT_AUTH,
        FrameKind::FirstOfRound2,
        |_| core(|core| core.enc_key = Identity::generate().sealing_public().to_vec().into()),
        AUTH,
    ),
    mutation(
        "small-order-sealing-key",
        "5 check 13",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| core(|core| core.enc_key = Bytes::from_static(&[0; 32])),
        AUTH,
    ),
    Case {
        // As dialer the kit shows its key in round 1: only a listener's first Core is in a Challenge.
        only: Some(Mode::Listen),
        ..mutation(
            "small-order-sealing-key-challenge",
            "5 check 18",
            "closed without a word",
            FrameKind::Challenge,
            |_| core(|core| core.enc_key = Bytes::from_static(&[0; 32])),
            AUTH,
        )
    },
];

/// Flips one bit of the byte at `at`.
fn flip(bytes: &mut Bytes, at: usize) {
    let mut changed = bytes.to_vec();
    if let Some(byte) = changed.get_mut(at) {
        *byte ^= 1;
    }
    *bytes = changed.into();
}

/// The kit's Challenge repeats the nonce of the Hello that it answers.
async fn nonce_sent_back(ctx: CaseContext) -> Run {
    let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
    let role = ctx.connector.role();
    let frame = expectations::frame_number(FrameKind::Challenge, role);
    let script = Script::mutated(ctx.party(&raw), frame, Mutation::EchoNonce);
    let trace = run_handshake(&mut conn, role, script).await;
    expectations::refused(&conn, frame, AUTH, &trace)
        .await
        .map(Observation::new)
}

/// Appends these bytes to a Core.
fn core_and(more: &'static [u8]) -> Mutation {
    Mutation::Core(Box::new(move |core| [&core.encode_to_vec(), more].concat()))
}
