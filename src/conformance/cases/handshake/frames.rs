//! Malformed frames, and frames at the wrong time: checks 1 to 3.

use bytes::Bytes;
use futures::FutureExt;
use prost::Message;

use super::{AUTH, CLOSED, REJECT_AUTH, body, bytes, first_round, free, mutation};
use crate::conformance::case::{Case, CaseContext, Expect, FrameKind, Observation, Run};
use crate::conformance::expectations;
use crate::conformance::frame::framed;
use crate::conformance::round;
use crate::conformance::script::{End, Mutation, describe};
use crate::conformance::scripted_handshake::ask;
use crate::conformance::target::Mode;
use crate::identity::Identity;
use crate::wire::proto::handshake as proto;

pub(super) const CASES: &[Case] = &[
    mutation(
        "oversized-frame",
        "5 check 1",
        CLOSED,
        FrameKind::Hello,
        |_| bytes(|_| framed(&[0x0a; 1025])),
        Expect::Closed,
    ),
    mutation(
        "oversized-challenge",
        "5 check 1",
        CLOSED,
        FrameKind::Challenge,
        |_| bytes(|_| framed(&[0x0a; 1025])),
        Expect::Closed,
    ),
    mutation(
        "endless-varint",
        "4",
        "closed as soon as the length can only grow past the limit",
        FrameKind::Hello,
        |_| Mutation::Endless(vec![0xff]),
        Expect::Closed,
    ),
    mutation(
        "endless-frame",
        "4",
        "closed as soon as the length is over the limit",
        FrameKind::Hello,
        |_| Mutation::Endless([&[0xff, 0xff, 0xff, 0xff, 0x07][..], &[0x0a; 100]].concat()),
        Expect::Closed,
    ),
    mutation(
        "empty-frame",
        "5 check 1",
        CLOSED,
        FrameKind::Hello,
        |_| bytes(|_| vec![0]),
        Expect::Closed,
    ),
    mutation(
        "truncated-frame",
        "5 check 1",
        CLOSED,
        FrameKind::Hello,
        |_| {
            bytes(|body| {
                let all = framed(body);
                all[..all.len() / 2].to_vec()
            })
        },
        Expect::Closed,
    ),
    mutation(
        "length-not-minimal",
        "4",
        CLOSED,
        FrameKind::Hello,
        |_| bytes(|_| vec![0x85, 0x00, 1, 2, 3, 4, 5]),
        Expect::Closed,
    ),
    mutation(
        "two-frames",
        "5 check 1",
        CLOSED,
        FrameKind::Hello,
        |_| bytes(|body| [framed(body), framed(body)].concat()),
        Expect::Closed,
    ),
    mutation(
        "no-protobuf",
        "5 check 2",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| body(|_| vec![0xff; 40]),
        AUTH,
    ),
    mutation(
        "no-kind",
        "5 check 2",
        REJECT_AUTH,
        FrameKind::Hello,
        |_| body(|_| vec![0x7a, 0x01, 0x00]),
        AUTH,
    ),
    mutation(
        "wrong-kind",
        "5 check 3",
        CLOSED,
        FrameKind::Hello,
        |_| {
            body(|_| {
                proto::Frame {
                    kind: Some(proto::frame::Kind::Pass(proto::Pass {
                        confirm: Bytes::from_static(&[7; 32]),
                    })),
                }
                .encode_to_vec()
            })
        },
        Expect::Closed,
    ),
    free(
        "hello-twice",
        "5 check 3",
        CLOSED,
        Some(Mode::Dial),
        |ctx| hello_twice(ctx).boxed(),
    ),
    free(
        "hello-after-pass",
        "5 check 3",
        "the connection is closed",
        None,
        |ctx| hello_after_pass(ctx).boxed(),
    ),
];

/// Sends a Hello that was already answered in place of the Answer.
async fn hello_twice(ctx: CaseContext) -> Run {
    let (raw, conn) = ctx.connector.connect(Identity::generate()).await?;
    let round = first_round(ctx.party(&raw), conn.peer);
    let (_, hello) = round.hello(&round::honest);
    ask(&conn, &framed(&hello))
        .await
        .map_err(|end| describe(&end))?;
    let left = std::time::Instant::now();
    match ask(&conn, &framed(&hello)).await {
        Err(End::Closed) => expectations::closed(&conn, left)
            .await
            .map(Observation::new),
        Err(end) => Err(describe(&end)),
        Ok(_) => Err("it answers a second Hello".to_owned()),
    }
}

async fn hello_after_pass(ctx: CaseContext) -> Run {
    let link = ctx.runner.link_config.link(&ctx.connector).await?;
    link.ready().await?;
    let round = first_round(ctx.party(&link.raw), link.conn.peer);
    let (_, hello) = round.hello(&round::honest);
    let left = std::time::Instant::now();
    match ask(&link.conn, &framed(&hello)).await {
        Err(End::Closed) => expectations::closed(&link.conn, left)
            .await
            .map(Observation::new),
        // js-libp2p and others negotiate for the whole node, so the stream may be refused; the link must end all the
        // same.
        Err(End::Violation(_)) => expectations::closed(&link.conn, left)
            .await
            .map(Observation::new),
        Err(end) => Err(describe(&end)),
        Ok(_) => Err("it answers a Hello after the pass".to_owned()),
    }
}
