//! Frames that are no frame, or not the one that is due: checks 1 to 3.

use bytes::Bytes;
use futures::FutureExt;
use prost::Message;

use super::super::super::case::{Case, Expect, Mode, Run, Seen, Stand, Which};
use super::super::super::expectations;
use super::super::super::frame::framed;
use super::super::super::link::told;
use super::super::super::round;
use super::super::super::scripted_handshake::{End, Twist, ask};
use super::{AUTH, CLOSED, REJECT_AUTH, body, bytes, first_round, free, twist};
use crate::identity::Identity;
use crate::wire::proto::handshake as proto;

pub(super) const CASES: &[Case] = &[
    twist(
        "oversized-frame",
        "5 check 1",
        CLOSED,
        Which::Hello,
        |_| bytes(|_| framed(&[0x0a; 1025])),
        Expect::Closed,
    ),
    twist(
        "oversized-challenge",
        "5 check 1",
        CLOSED,
        Which::Challenge,
        |_| bytes(|_| framed(&[0x0a; 1025])),
        Expect::Closed,
    ),
    twist(
        "endless-varint",
        "4",
        "closed as soon as the length can only grow past the limit",
        Which::Hello,
        |_| Twist::Endless(vec![0xff]),
        Expect::Closed,
    ),
    twist(
        "endless-frame",
        "4",
        "closed as soon as the length is over the limit",
        Which::Hello,
        |_| Twist::Endless([&[0xff, 0xff, 0xff, 0xff, 0x07][..], &[0x0a; 100]].concat()),
        Expect::Closed,
    ),
    twist(
        "empty-frame",
        "5 check 1",
        CLOSED,
        Which::Hello,
        |_| bytes(|_| vec![0]),
        Expect::Closed,
    ),
    twist(
        "truncated-frame",
        "5 check 1",
        CLOSED,
        Which::Hello,
        |_| {
            bytes(|body| {
                let all = framed(body);
                all[..all.len() / 2].to_vec()
            })
        },
        Expect::Closed,
    ),
    twist(
        "length-not-minimal",
        "4",
        CLOSED,
        Which::Hello,
        |_| bytes(|_| vec![0x85, 0x00, 1, 2, 3, 4, 5]),
        Expect::Closed,
    ),
    twist(
        "two-frames",
        "5 check 1",
        CLOSED,
        Which::Hello,
        |_| bytes(|body| [framed(body), framed(body)].concat()),
        Expect::Closed,
    ),
    twist(
        "no-protobuf",
        "5 check 2",
        REJECT_AUTH,
        Which::Hello,
        |_| body(|_| vec![0xff; 40]),
        AUTH,
    ),
    twist(
        "no-kind",
        "5 check 2",
        REJECT_AUTH,
        Which::Hello,
        |_| body(|_| vec![0x7a, 0x01, 0x00]),
        AUTH,
    ),
    twist(
        "wrong-kind",
        "5 check 3",
        CLOSED,
        Which::Hello,
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
        |stand| hello_twice(stand).boxed(),
    ),
    free(
        "hello-after-pass",
        "5 check 3",
        "the connection is closed",
        None,
        |stand| hello_after_pass(stand).boxed(),
    ),
];

/// A Hello that was answered comes once more instead of the Answer.
async fn hello_twice(stand: Stand) -> Run {
    let (raw, conn) = stand.way.connect(Identity::generate()).await?;
    let round = first_round(stand.party(&raw), conn.peer);
    let (_, hello) = round.hello(&round::honest);
    ask(&conn, &framed(&hello))
        .await
        .map_err(|end| told(&end))?;
    let left = std::time::Instant::now();
    match ask(&conn, &framed(&hello)).await {
        Err(End::Closed) => expectations::closed(&conn, left).await.map(Seen::came),
        Err(end) => Err(told(&end)),
        Ok(_) => Err("it answers a second Hello".to_owned()),
    }
}

async fn hello_after_pass(stand: Stand) -> Run {
    let link = stand.kit.common.link(&stand.way).await?;
    link.ready().await?;
    let round = first_round(stand.party(&link.raw), link.conn.peer);
    let (_, hello) = round.hello(&round::honest);
    let left = std::time::Instant::now();
    match ask(&link.conn, &framed(&hello)).await {
        Err(End::Closed) => expectations::closed(&link.conn, left).await.map(Seen::came),
        // js and others negotiate for the whole node; what counts is that the link ends.
        Err(End::Wrong(_)) => expectations::closed(&link.conn, left).await.map(Seen::came),
        Err(end) => Err(told(&end)),
        Ok(_) => Err("it answers a Hello after the pass".to_owned()),
    }
}
