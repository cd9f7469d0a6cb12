//! Invalid proofs: checks 14 to 23.

use futures::FutureExt;

use super::{AUTH, REJECT_AUTH, body, free, mutation, with_message};
use crate::conformance::case::{Case, CaseContext, Expect, FrameKind, Observation, Run};
use crate::conformance::expectations;
use crate::conformance::script::{Mutation, Script};
use crate::conformance::scripted_handshake::run_handshake;
use crate::handshake::forge::Forgery;
use crate::identity::Identity;
use crate::wire::proto::handshake as proto;

pub(super) const CASES: &[Case] = &[
    mutation(
        "short-answer",
        "5 check 14",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| {
            body(|body| {
                with_message(body, |kind| {
                    if let proto::frame::Kind::Answer(a) = kind {
                        a.confirm.truncate(31)
                    }
                })
            })
        },
        AUTH,
    ),
    mutation(
        "signed-by-another-key",
        "5 check 15",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::SignedByOther),
        AUTH,
    ),
    mutation(
        "challenge-signed-by-another-key",
        "5 check 15",
        REJECT_AUTH,
        FrameKind::Challenge,
        |_| Mutation::Proof(Forgery::SignedByOther),
        AUTH,
    ),
    mutation(
        "signed-as-the-other-role",
        "5 check 15",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::SignedAsOtherRole),
        AUTH,
    ),
    mutation(
        "signed-without-a-label",
        "5 check 15",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::SignedBare),
        AUTH,
    ),
    mutation(
        "cofactored-signature",
        "3 rule 4",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::Cofactored),
        AUTH,
    ),
    mutation(
        "challenge-with-cofactored-signature",
        "3 rule 4",
        REJECT_AUTH,
        FrameKind::Challenge,
        |_| Mutation::Proof(Forgery::Cofactored),
        AUTH,
    ),
    mutation(
        "signature-s-not-reduced",
        "3 rule 1",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::Malleable),
        AUTH,
    ),
    mutation(
        "signature-r-of-small-order",
        "3 rule 3",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::SmallOrderR),
        AUTH,
    ),
    mutation(
        "sealed-to-another-key",
        "5 check 16",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::SealedToOther),
        AUTH,
    ),
    mutation(
        "sealed-as-the-other-role",
        "5 check 16",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::SealedAsOtherRole),
        AUTH,
    ),
    mutation(
        "sealed-bound-to-nothing",
        "5 check 16",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::SealedUnbound),
        AUTH,
    ),
    mutation(
        "sealed-garbage",
        "5 check 16",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::SealedGarbage),
        AUTH,
    ),
    mutation(
        "sealed-with-small-order-enc",
        "5 check 16",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::SmallOrderEnc),
        AUTH,
    ),
    mutation(
        "wrong-nonce",
        "5 check 17",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::Nonce),
        AUTH,
    ),
    mutation(
        "nonce-with-another-first-byte",
        "5 check 17",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::NonceByte(0)),
        AUTH,
    ),
    mutation(
        "nonce-with-another-middle-byte",
        "5 check 17",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::NonceByte(16)),
        AUTH,
    ),
    mutation(
        "nonce-with-another-last-byte",
        "5 check 17",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::NonceByte(31)),
        AUTH,
    ),
    mutation(
        "wrong-nonce-challenge",
        "5 check 17",
        REJECT_AUTH,
        FrameKind::Challenge,
        |_| Mutation::Proof(Forgery::Nonce),
        AUTH,
    ),
    mutation(
        "nonce-with-another-first-byte-challenge",
        "5 check 17",
        REJECT_AUTH,
        FrameKind::Challenge,
        |_| Mutation::Proof(Forgery::NonceByte(0)),
        AUTH,
    ),
    mutation(
        "nonce-with-another-middle-byte-challenge",
        "5 check 17",
        REJECT_AUTH,
        FrameKind::Challenge,
        |_| Mutation::Proof(Forgery::NonceByte(16)),
        AUTH,
    ),
    mutation(
        "nonce-with-another-last-byte-challenge",
        "5 check 17",
        REJECT_AUTH,
        FrameKind::Challenge,
        |_| Mutation::Proof(Forgery::NonceByte(31)),
        AUTH,
    ),
    mutation(
        "confirm-with-another-first-byte",
        "5 check 19",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::ConfirmByte(0)),
        AUTH,
    ),
    mutation(
        "confirm-with-another-middle-byte",
        "5 check 19",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::ConfirmByte(16)),
        AUTH,
    ),
    mutation(
        "wrong-confirm",
        "5 check 19",
        REJECT_AUTH,
        FrameKind::Answer,
        |_| Mutation::Proof(Forgery::ConfirmByte(31)),
        AUTH,
    ),
    mutation(
        "pass-with-another-first-byte",
        "5 check 23",
        "closed without a word",
        FrameKind::Pass,
        |_| pass_with(0),
        Expect::Closed,
    ),
    mutation(
        "pass-with-another-middle-byte",
        "5 check 23",
        "closed without a word",
        FrameKind::Pass,
        |_| pass_with(16),
        Expect::Closed,
    ),
    mutation(
        "wrong-pass",
        "5 check 23",
        "closed without a word",
        FrameKind::Pass,
        |_| pass_with(31),
        Expect::Closed,
    ),
    free(
        "tag-without-the-key",
        "5 check 19",
        "Reject AUTH: who has a tag alone has no key",
        None,
        |ctx| tag_only(ctx).boxed(),
    ),
];

/// Sends the tag of this network's key, which anybody may have observed, and confirms with another key.
async fn tag_only(ctx: CaseContext) -> Run {
    let (raw, mut conn) = ctx.connector.connect(Identity::generate()).await?;
    let role = ctx.connector.role();
    let frame = expectations::frame_number(FrameKind::Answer, role);
    let forgery = Forgery::OtherNetworkKey;
    let script = Script::mutated(ctx.party(&raw), frame, Mutation::Proof(forgery));
    let trace = run_handshake(&mut conn, role, script).await;
    expectations::refused(&conn, frame, AUTH, &trace)
        .await
        .map(Observation::new)
}

/// Flips one bit of this byte of a Pass's confirmation, which is the last field of the frame.
fn pass_with(at: usize) -> Mutation {
    body(move |body| {
        let mut body = body.to_vec();
        let confirm = body.len().saturating_sub(32);
        if let Some(byte) = body.get_mut(confirm + at) {
            *byte ^= 1;
        }
        body
    })
}
