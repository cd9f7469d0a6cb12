//! Proofs that do not hold: checks 14 to 23.

use futures::FutureExt;

use super::super::super::case::{Case, Expect, Run, Seen, Stand, Which};
use super::super::super::forge::Forgery;
use super::super::super::judge;
use super::super::super::shake::{Plan, Twist, shake};
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
        "wrong-nonce-challenge",
        "5 check 17",
        REJECT_AUTH,
        Which::Challenge,
        |_| Twist::Proof(Forgery::Nonce),
        AUTH,
    ),
    twist(
        "wrong-confirm",
        "5 check 19",
        REJECT_AUTH,
        Which::Answer,
        |_| Twist::Proof(Forgery::Confirm),
        AUTH,
    ),
    twist(
        "wrong-pass",
        "5 check 23",
        "closed without a word",
        Which::Pass,
        |_| {
            body(|body| {
                let mut body = body.to_vec();
                if let Some(last) = body.last_mut() {
                    *last ^= 1;
                }
                body
            })
        },
        Expect::Closed,
    ),
    free(
        "network-id-without-the-key",
        "5 check 19",
        "Reject AUTH: who has the id alone has no key",
        None,
        |stand| network_id_only(stand).boxed(),
    ),
];

/// Knows the network's public id and not its key: on the open network the key that counts is zeros.
async fn network_id_only(stand: Stand) -> Run {
    let (raw, mut conn) = stand.way.connect(Identity::generate()).await?;
    let role = stand.way.role();
    let frame = judge::number(Which::Answer, role);
    let forgery = match stand.kit.common.network {
        Some(_) => Forgery::NoNetworkKey,
        None => Forgery::OtherNetworkKey,
    };
    let plan = Plan::twisted(stand.party(&raw), frame, Twist::Proof(forgery));
    let shaken = shake(&mut conn, role, plan).await;
    judge::twisted(&conn, frame, AUTH, &shaken)
        .await
        .map(Seen::came)
}
