//! Messages that a peer must accept and forward, and messages that it must drop without closing the link.
//!
//! Entry: [`CASES`]. The rule it keeps: a message sent on one link must arrive on another; where there is no other
//! link, the sending link must stay up.

use futures::FutureExt;
use prost::Message as _;

use super::forwarding::{forwarded, forwarded_all};
use crate::conformance::batch_builder::{self, batch};
use crate::conformance::case::{Case, CaseContext, Kind, Procedure, Run};
use crate::conformance::envelope::id_of;
use crate::conformance::link::Link;
use crate::conformance::rpc;

const MINUTE: i64 = 60_000;
/// Enough for the yamux window to grow beyond the largest yamux frame.
const LARGEST_IN_A_ROW: u8 = 10;
const EVENT: usize = 1024 * 1024;

const fn case(
    name: &'static str,
    kind: Kind,
    spec: &'static str,
    expected: &'static str,
    run: fn(CaseContext, Link) -> futures::future::BoxFuture<'static, Run>,
) -> Case {
    Case::new(kind, name, spec, expected, Procedure::OnLink(run))
}

const FORWARDED: &str = "forwarded to another link; this link stays";

pub(super) const CASES: &[Case] = &[
    case(
        "message",
        Kind::Good,
        "8 rules 1–9",
        FORWARDED,
        |ctx, mut link| {
            async move {
                let data = link.honest("chat", b"from the conformance kit".to_vec())?;
                forwarded(ctx, link, vec![data]).await
            }
            .boxed()
        },
    ),
    case(
        "largest-event",
        Kind::Good,
        "8 rule 4",
        "an event of 1,048,576 bytes is forwarded; this link stays",
        |ctx, mut link| {
            async move {
                let data = link.honest("chat", vec![0x5a; EVENT])?;
                forwarded(ctx, link, vec![data]).await
            }
            .boxed()
        },
    ),
    case(
        "largest-message",
        Kind::Good,
        "8 rule 1",
        "a message of 1,049,600 bytes is forwarded; this link stays",
        |ctx, link| {
            async move {
                // A second event fills the message up to the limit, to the byte.
                let sized = |fill: usize| {
                    let events = vec![("n", vec![1; EVENT]), ("", vec![2; fill])];
                    batch_builder::seal(&link, &batch(&link, 0, events).encode_to_vec())
                };
                let over = sized(500).len() - 500;
                let data = sized(crate::gossip::MAX_MESSAGE - over);
                if data.len() != crate::gossip::MAX_MESSAGE {
                    return Err(format!("the kit made a message of {} bytes", data.len()));
                }
                forwarded(ctx, link, vec![data]).await
            }
            .boxed()
        },
    ),
    case(
        "largest-events-in-a-row",
        Kind::Good,
        "2",
        "ten events of 1,048,576 bytes back to back are all forwarded, in yamux frames of at most 1 MiB; both links stay",
        |ctx, mut link| {
            async move {
                let mut all = Vec::new();
                for n in 0..LARGEST_IN_A_ROW {
                    all.push(link.honest("chat", vec![n; EVENT])?);
                }
                forwarded(ctx, link, all).await
            }
            .boxed()
        },
    ),
    case(
        "burst",
        Kind::Good,
        "8 What must agree",
        "40 events of 50,000 bytes back to back are all forwarded",
        |ctx, mut link| {
            async move {
                let mut all = Vec::new();
                for n in 0..40_u8 {
                    all.push(link.honest("chat", vec![n; 50_000])?);
                }
                forwarded(ctx, link, all).await
            }
            .boxed()
        },
    ),
    case(
        "many-messages-in-one-rpc",
        Kind::Good,
        "8 What must agree",
        "100 messages in one RPC are all forwarded",
        |ctx, mut link| {
            async move {
                let mut all = Vec::new();
                for n in 0..100_u16 {
                    all.push(link.honest("chat", n.to_be_bytes().to_vec())?);
                }
                let ids: Vec<_> = all.iter().map(|data| link.id_of(data)).collect();
                let topic = ctx.runner.link_config.topic();
                let observer = ctx.runner.observer().await?;
                link.send(rpc::publish_all(&topic, &all));
                forwarded_all(link, ids, observer).await
            }
            .boxed()
        },
    ),
    case(
        "many-events-in-one-batch",
        Kind::Good,
        "8 rule 4",
        "a batch of 1,024 events is forwarded",
        |ctx, link| {
            async move {
                let events = vec![("n", b"x".to_vec()); 1024];
                let data = batch_builder::seal(&link, &batch(&link, 0, events).encode_to_vec());
                forwarded(ctx, link, vec![data]).await
            }
            .boxed()
        },
    ),
    case(
        "unknown-fields-in-a-batch",
        Kind::Good,
        "8 rule 3",
        FORWARDED,
        |ctx, link| {
            async move {
                let mut body = batch(
                    &link,
                    0,
                    vec![("chat", b"from a later minor version".to_vec())],
                )
                .encode_to_vec();
                body.extend([0xfa, 0x3e, 0x03, 1, 2, 3, 0x98, 0x3f, 0x07]);
                let data = batch_builder::seal(&link, &body);
                forwarded(ctx, link, vec![data]).await
            }
            .boxed()
        },
    ),
    case(
        "fields-in-any-order",
        Kind::Good,
        "8 rule 3",
        "a field that is there twice counts as the last; forwarded",
        |ctx, link| {
            async move {
                let honest = batch(&link, 0, vec![("chat", b"in any order".to_vec())]);
                let mut first = honest.clone();
                first.room = "another".to_owned();
                first.author = Default::default();
                first.events.clear();
                let mut second = honest;
                second.instance_id = Default::default();
                // Two concatenated messages are one message with the fields of both.
                let body = [first.encode_to_vec(), second.encode_to_vec()].concat();
                let data = batch_builder::seal(&link, &body);
                forwarded(ctx, link, vec![data]).await
            }
            .boxed()
        },
    ),
    case(
        "a-clock-that-is-ahead",
        Kind::Good,
        "8 rule 9",
        "dated 4 minutes ahead: forwarded",
        |ctx, link| dated(ctx, link, 4 * MINUTE).boxed(),
    ),
    case(
        "long-past",
        Kind::Good,
        "8 rule 9",
        "dated a year ago: forwarded",
        |ctx, link| dated(ctx, link, -365 * 24 * 60 * MINUTE).boxed(),
    ),
    case(
        "future-date",
        Kind::Hostile,
        "8 rule 9",
        "dated 6 minutes ahead: not forwarded, and the link stays",
        |ctx, mut link| {
            async move {
                let events = vec![("chat", b"too early".to_vec())];
                let data =
                    batch_builder::seal(&link, &batch(&link, 6 * MINUTE, events).encode_to_vec());
                let early = link.publish(&data);
                let honest = link.honest("chat", b"in time".to_vec())?;
                let mut seen = forwarded(ctx, link, vec![honest]).await?;
                seen.not_forwarded.push(early);
                seen.actual = "passed over; what came after it was taken".to_owned();
                Ok(seen)
            }
            .boxed()
        },
    ),
    case(
        "the-same-message-again",
        Kind::Hostile,
        "8 Receiving",
        "forwarded once, however often it comes",
        |ctx, mut link| {
            async move {
                let observer = ctx.runner.observer().await?;
                let data = link.honest("chat", b"once".to_vec())?;
                for _ in 0..50 {
                    link.publish(&data);
                }
                let after = link.honest("chat", b"after it".to_vec())?;
                let id = link.id_of(&data);
                let mut seen = forwarded(ctx, link, vec![data, after]).await?;
                if let Some(observer) = observer {
                    let times = observer.borrow().messages.get(&id).copied();
                    match times {
                        Some(1) => seen.actual = "forwarded once".to_owned(),
                        times => return Err(format!("forwarded {} times", times.unwrap_or(0))),
                    }
                }
                Ok(seen)
            }
            .boxed()
        },
    ),
    case(
        "topic-that-is-no-room",
        Kind::Hostile,
        "8 What must agree",
        "ignored; the link stays",
        |ctx, mut link| {
            async move {
                ctx.runner.observer().await?;
                link.send(rpc::subscribe("/diatribe/1/a/b"));
                link.send(rpc::subscribe("/another/program"));
                link.send(rpc::publish("/diatribe/1/a/b", b"in a room that cannot be"));
                let honest = link.honest("chat", b"in a room".to_vec())?;
                let mut seen = forwarded(ctx, link, vec![honest]).await?;
                seen.not_forwarded
                    .push(id_of("/diatribe/1/a/b", b"in a room that cannot be"));
                seen.actual = "ignored; what came after it was taken".to_owned();
                Ok(seen)
            }
            .boxed()
        },
    ),
];

async fn dated(ctx: CaseContext, link: Link, ahead_ms: i64) -> Run {
    let events = vec![("chat", b"by another clock".to_vec())];
    let body = batch(&link, ahead_ms, events).encode_to_vec();
    let data = batch_builder::seal(&link, &body);
    forwarded(ctx, link, vec![data]).await
}
