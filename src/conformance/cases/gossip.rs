//! gossipsub: the protocols a peer speaks, fields of gossipsub that it drops, and the ids of messages.
//!
//! Entry: [`CASES`]. The rule it keeps: nothing sent here is an offence, so that the link stays up, and a genuine batch
//! is still forwarded.

use futures::FutureExt;

use super::forwarding::{forwarded, stays};
use crate::conformance::case::{Case, CaseContext, Kind, Observation, Procedure, Run};
use crate::conformance::link::{Link, SUBSCRIBE_TIMEOUT};
use crate::conformance::rpc;
use crate::conformance::streams::OpenError;

/// The gossip protocols that a peer may speak.
const GOSSIP: [&str; 3] = crate::gossip::PROTOCOLS;
/// Gossip protocols that libraries know and a peer must not speak.
const OTHERS: [&str; 3] = ["/meshsub/1.3.0", "/meshsub/1.4.0", "/floodsub/1.0.0"];

const DROPPED: &str = "dropped, and neither forwarded nor held against the link; the same batch without the field is forwarded";

/// Fields of gossipsub's own message, by number and content.
type Own = &'static [(u32, &'static [u8])];

macro_rules! signed {
    ($name:literal, $own:expr) => {
        Case::new(
            Kind::Hostile,
            $name,
            "8 What must agree",
            DROPPED,
            Procedure::OnLink(|ctx, link| signed(ctx, link, $own).boxed()),
        )
    };
}

pub(super) const CASES: &[Case] = &[
    Case::new(
        Kind::Good,
        "gossip-protocols",
        "8 What must agree",
        "exactly /meshsub/1.2.0, 1.1.0 and 1.0.0 are opened; /meshsub/1.3.0 and floodsub are refused with na",
        Procedure::OnLink(|_, link| protocols(link).boxed()),
    ),
    signed!(
        "signed-by-gossipsub",
        &[(1, b"\x00\x24\x08\x01"), (3, &[0; 8])]
    ),
    signed!("gossipsub-from", &[(1, b"\x00\x24\x08\x01")]),
    signed!("gossipsub-seqno", &[(3, &[0; 8])]),
    signed!("gossipsub-signature", &[(5, &[7; 64])]),
    signed!("gossipsub-key", &[(6, b"\x08\x01\x12\x20")]),
    signed!("gossipsub-from-that-is-empty", &[(1, b"")]),
    signed!("gossipsub-seqno-that-is-empty", &[(3, b"")]),
    signed!("gossipsub-signature-that-is-empty", &[(5, b"")]),
    signed!("gossipsub-key-that-is-empty", &[(6, b"")]),
    Case::new(
        Kind::Hostile,
        "wrong-topic-first",
        "8 Ids",
        "a batch that comes first in rooms and topics where it does not belong is forwarded in its own",
        Procedure::OnLink(|ctx, link| wrong_topic(ctx, link).boxed()),
    ),
    Case::new(
        Kind::Hostile,
        "other-spelling-first",
        "8 Ids",
        "a batch of which another spelling came first, by a link that was closed for it, is forwarded",
        Procedure::OnLink(|ctx, link| wrong_copy(ctx, link, longer).boxed()),
    ),
    Case::new(
        Kind::Hostile,
        "other-signature-first",
        "8 Ids",
        "a batch of which a copy with another signature came first, by a link that was closed for it, is forwarded",
        Procedure::OnLink(|ctx, link| wrong_copy(ctx, link, forged).boxed()),
    ),
];

async fn protocols(link: Link) -> Run {
    link.ready().await?;
    for protocol in OTHERS {
        match link.conn.open(protocol).await {
            Err(OpenError::Refused) => {}
            Ok(_) => return Err(format!("{protocol} is taken")),
            Err(OpenError::Lost(why)) => {
                return Err(format!("neither na nor a stream for {protocol}: {why}"));
            }
        }
    }
    if !link
        .until(SUBSCRIBE_TIMEOUT, |received| received.streams > 0)
        .await
    {
        return Err(format!("no gossip stream within {SUBSCRIBE_TIMEOUT:?}"));
    }
    let opened: Vec<String> = link.received.borrow().protocols.iter().cloned().collect();
    if let Some(other) = opened
        .iter()
        .find(|opened| !GOSSIP.contains(&opened.as_str()))
    {
        return Err(format!("the peer opened {other}"));
    }
    stays(&link).await?;
    Ok(Observation::new(format!("it opened {}", opened.join(" and "))).with(link))
}

/// Sends a message with fields of gossipsub's own, then the same batch without them.
async fn signed(ctx: CaseContext, mut link: Link, own: Own) -> Run {
    let observer = ctx.runner.observer().await?;
    let topic = ctx.runner.link_config.topic();
    let dropped = link.honest("chat", b"with a field of gossipsub's".to_vec())?;
    let genuine = link.honest("chat", b"first with a field of gossipsub's".to_vec())?;
    link.send(rpc::publish_with(own, &topic, &dropped));
    link.send(rpc::publish_with(own, &topic, &genuine));
    let dropped = link.id_of(&dropped);
    let mut seen = forwarded(ctx, link, vec![genuine]).await?;
    if observer.is_some_and(|observer| observer.borrow().messages.contains_key(&dropped)) {
        return Err("it is forwarded".to_owned());
    }
    seen.not_forwarded.push(dropped);
    seen.actual = "dropped; the same batch without the field was forwarded".to_owned();
    Ok(seen)
}

/// Sends a fresh batch first in topics that are not its own: a room that the peer is not in, and topics that are no
/// room.
async fn wrong_topic(ctx: CaseContext, mut link: Link) -> Run {
    ctx.runner.observer().await?;
    let data = link.honest("chat", b"first in another topic".to_vec())?;
    let elsewhere = format!("/diatribe/1/nobody is in {:08x}", rand::random::<u32>());
    for topic in [
        &elsewhere[..],
        "/diatribe/1/a/b",
        "/diatribe/1/",
        "another program",
        "",
    ] {
        link.send(rpc::publish(topic, &data));
    }
    let mut seen = forwarded(ctx, link, vec![data]).await?;
    seen.actual = "forwarded in its own room".to_owned();
    Ok(seen)
}

/// Sends a bad copy of a fresh batch on a link that is closed for it, then the genuine batch.
async fn wrong_copy(ctx: CaseContext, mut link: Link, spoil: fn(&[u8]) -> Vec<u8>) -> Run {
    ctx.runner.observer().await?;
    let data = link.honest("chat", b"first in a bad copy".to_vec())?;
    let bad = spoil(&data);
    let bad_id = link.publish(&bad);
    if link.conn.gone(SUBSCRIBE_TIMEOUT).await.is_none() {
        return Err("the bad copy was taken: the link stays".to_owned());
    }
    drop(link);
    let link = ctx.runner.link(&ctx.connector).await?;
    link.ready().await?;
    let mut seen = forwarded(ctx, link, vec![data]).await?;
    seen.not_forwarded.push(bad_id);
    seen.actual = "the bad copy ended its link; the genuine one was forwarded".to_owned();
    Ok(seen)
}

/// Encodes the length of the body in one byte more than it needs.
fn longer(data: &[u8]) -> Vec<u8> {
    let end = data
        .iter()
        .skip(1)
        .position(|byte| byte & 0x80 == 0)
        .unwrap_or(0)
        + 1;
    [&data[..end], &[data[end] | 0x80, 0x00], &data[end + 1..]].concat()
}

fn forged(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    if let Some(last) = data.last_mut() {
        *last ^= 1;
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::envelope::id_of;
    use crate::wire::envelope::{MessageId, bad_id};

    #[test]
    fn a_bad_copy_has_another_id() {
        let body = [7; 300];
        let mut data = vec![0x0a, 0xac, 0x02];
        data.extend([&body[..], &[0x12, 0x40], &[1; 64]].concat());
        let id = MessageId::of("lobby", &data).expect("an envelope");
        assert_eq!(MessageId::of("lobby", &longer(&data)), None);
        assert_ne!(MessageId::of("lobby", &forged(&data)), Some(id));
        assert_ne!(id_of("/diatribe/1/lobby", &longer(&data)), *id.as_bytes());
        assert_eq!(id_of("lobby", &data), bad_id("lobby", &data));
    }
}
