//! Proofs that do not hold: checks 14 to 23.

use futures::FutureExt;

use super::super::super::case::{Case, Expect, Run, Seen, Stand, Which};
use super::super::super::expectations;
use super::super::super::forge::Forgery;
use super::super::super::scripted_handshake::{Plan, Twist, shake};
use super::{AUTH, REJECT_AUTH, body, free, twist, with_message};
use crate::identity::Identity;
use crate::wire::proto::handshake as proto;

pub(super) const CASES: &[Case] = &[
    twist(
        "short-answer",
        "5 check 14",
        REJECT_AUTH,
        Which::Answer,
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
    twist(
        "signed-by-another-key",
        "5 check 15",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SignedByOther),
        AUTH,
    ),
    twist(
        "challenge-signed-by-another-key",
        "5 check 15",
        REJECT_AUTH,
        Which::Challenge,
        |_| Twist::Proof(Forgery::SignedByOther),
        AUTH,
    ),
    twist(
        "signed-as-the-other-role",
        "5 check 15",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SignedAsOtherRole),
        AUTH,
    ),
    twist(
        "signed-without-a-label",
        "5 check 15",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SignedBare),
        AUTH,
    ),
    twist(
        "cofactored-signature",
        "3 rule 4",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::Cofactored),
        AUTH,
    ),
    twist(
        "challenge-with-cofactored-signature",
        "3 rule 4",
        REJECT_AUTH,
        Which::Challenge,
        |_| Twist::Proof(Forgery::Cofactored),
        AUTH,
    ),
    twist(
        "signature-s-not-reduced",
        "3 rule 1",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::Malleable),
        AUTH,
    ),
    twist(
        "signature-r-of-small-order",
        "3 rule 3",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SmallOrderR),
        AUTH,
    ),
    twist(
        "sealed-to-another-key",
        "5 check 16",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SealedToOther),
        AUTH,
    ),
    twist(
        "sealed-as-the-other-role",
        "5 check 16",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SealedAsOtherRole),
        AUTH,
    ),
    twist(
        "sealed-bound-to-nothing",
        "5 check 16",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SealedUnbound),
        AUTH,
    ),
    twist(
        "sealed-garbage",
        "5 check 16",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SealedGarbage),
        AUTH,
    ),
    twist(
        "sealed-with-small-order-enc",
        "5 check 16",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::SmallOrderEnc),
        AUTH,
    ),
    twist(
        "wrong-nonce",
        "5 check 17",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::Nonce),
        AUTH,
    ),
    twist(
        "nonce-with-another-first-byte",
        "5 check 17",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::NonceByte(0)),
        AUTH,
    ),
    twist(
        "nonce-with-another-middle-byte",
        "5 check 17",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::NonceByte(16)),
        AUTH,
    ),
    twist(
        "nonce-with-another-last-byte",
        "5 check 17",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::NonceByte(31)),
        AUTH,
    ),
    twist(
        "wrong-nonce-challenge",
        "5 check 17",
        REJECT_AUTH,
        Which::Challenge,
        |_| Twist::Proof(Forgery::Nonce),
        AUTH,
    ),
    twist(
        "nonce-with-another-first-byte-challenge",
        "5 check 17",
        REJECT_AUTH,
        Which::Challenge,
        |_| Twist::Proof(Forgery::NonceByte(0)),
        AUTH,
    ),
    twist(
        "nonce-with-another-middle-byte-challenge",
        "5 check 17",
        REJECT_AUTH,
        Which::Challenge,
        |_| Twist::Proof(Forgery::NonceByte(16)),
        AUTH,
    ),
    twist(
        "nonce-with-another-last-byte-challenge",
        "5 check 17",
        REJECT_AUTH,
        Which::Challenge,
        |_| Twist::Proof(Forgery::NonceByte(31)),
        AUTH,
    ),
    twist(
        "confirm-with-another-first-byte",
        "5 check 19",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::ConfirmByte(0)),
        AUTH,
    ),
    twist(
        "confirm-with-another-middle-byte",
        "5 check 19",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::ConfirmByte(16)),
        AUTH,
    ),
    twist(
        "wrong-confirm",
        "5 check 19",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::ConfirmByte(31)),
        AUTH,
    ),
    twist(
        "pass-with-another-first-byte",
        "5 check 23",
        "closed without a word",
        Which::Pass,
        |_| pass_with(0),
        Expect::Closed,
    ),
    twist(
        "pass-with-another-middle-byte",
        "5 check 23",
        "closed without a word",
        Which::Pass,
        |_| pass_with(16),
        Expect::Closed,
    ),
    twist(
        "wrong-pass",
        "5 check 23",
        "closed without a word",
        Which::Pass,
        |_| pass_with(31),
        Expect::Closed,
    ),
    free(
        "tag-without-the-key",
        "5 check 19",
        "Reject AUTH: who has a tag alone has no key",
        None,
        |stand| tag_only(stand).boxed(),
    ),
];

/// Sends the tag of this network's key, as somebody may have seen it, and confirms with another key.
async fn tag_only(stand: Stand) -> Run {
    let (raw, mut conn) = stand.way.connect(Identity::generate()).await?;
    let role = stand.way.role();
    let frame = expectations::number(Which::Answer, role);
    let forgery = Forgery::OtherNetworkKey;
    let plan = Plan::twisted(stand.party(&raw), frame, Twist::Proof(forgery));
    let shaken = shake(&mut conn, role, plan).await;
    expectations::twisted(&conn, frame, AUTH, &shaken)
        .await
        .map(Seen::came)
}

/// A Pass whose confirm has one bit of this byte changed. The confirm is the last field of the frame.
fn pass_with(at: usize) -> Twist {
    body(move |body| {
        let mut body = body.to_vec();
        let confirm = body.len().saturating_sub(32);
        if let Some(byte) = body.get_mut(confirm + at) {
            *byte ^= 1;
        }
        body
    })
}
