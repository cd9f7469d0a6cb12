//! Optional protocols: a peer answers, or refuses them with `na`.
//!
//! Entry: [`CASES`].

use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncWriteExt, FutureExt};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::conformance::case::{Case, CaseContext, Kind, Observation, Procedure, Run};
use crate::conformance::envelope::now_ms;
use crate::conformance::frame::{self, framed};
use crate::conformance::link::Link;
use crate::conformance::streams::OpenError;
use crate::wire::proto::{overlay, sync};

pub(super) const OVERLAY: &str = "/diatribe/overlay/1.0.0";
pub(super) const SYNC: &str = "/diatribe/sync/1.0.0";
/// Response timeouts of chapters 9 and 10: a peer that verifies thousands of batches answers late.
const OVERLAY_TIMEOUT: Duration = Duration::from_secs(5);
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a response of either protocol.
const MAX_RESPONSE: usize = 1_179_648;
/// Maximum number of bytes, without the room's name, of the one exchange by which two peers that hold the same batches
/// agree.
const MAX_AGREEMENT: usize = 60;
const MAX_POSTPONED: usize = 3;
const HOUR_MS: u64 = 3_600_000;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "overlay",
        kind: Kind::Good,
        spec: "9",
        expected: "Shuffle is answered with Contacts; or na",
        only: None,
        procedure: Procedure::OnLink(|_, link| shuffle(link).boxed()),
    },
    Case {
        name: "sync",
        kind: Kind::Good,
        spec: "10",
        expected: "where both hold the same, one exchange of at most 60 bytes says so; or na",
        only: None,
        procedure: Procedure::OnLink(|ctx, link| compare(ctx, link).boxed()),
    },
    Case {
        name: "offer",
        kind: Kind::Good,
        spec: "10",
        expected: "an Announce of what the peer lacks is answered with Ack, without ids; or it has no bit 0 in its features",
        only: None,
        procedure: Procedure::OnLink(|ctx, link| offer(ctx, link).boxed()),
    },
];

/// The feature bit of a peer that understands announcements.
const OFFERS: u64 = 1;

/// Sends a request and returns the response, or none if the peer does not speak the protocol.
pub(super) async fn exchange(
    link: &Link,
    protocol: &'static str,
    request: &[u8],
) -> Result<Option<Vec<u8>>, String> {
    let mut stream = match link.conn.open(protocol).await {
        Ok(stream) => stream,
        Err(OpenError::Refused) => return Ok(None),
        Err(OpenError::Lost(why)) => return Err(format!("neither na nor a stream: {why}")),
    };
    let said = async {
        stream.write_all(&framed(request)).await?;
        stream.close().await
    };
    said.await
        .map_err(|e| format!("the request was not taken: {e}"))?;
    let within = match protocol {
        OVERLAY => OVERLAY_TIMEOUT,
        _ => SYNC_TIMEOUT,
    };
    match tokio::time::timeout(within, frame::read(&mut stream, MAX_RESPONSE)).await {
        Ok(Ok(body)) => Ok(Some(body)),
        Ok(Err(frame::FrameError::Ended)) => Err("the stream ended without a response".to_owned()),
        Ok(Err(frame::FrameError::Malformed(what))) => Err(format!("it sent {what}")),
        Err(_) => Err(format!("no response within {within:?}")),
    }
}

pub(super) fn absent(link: Link) -> Observation {
    Observation {
        actual: "na: optional, absent".to_owned(),
        absent: true,
        link: Some(link),
        ..Observation::default()
    }
}

async fn shuffle(link: Link) -> Run {
    let shuffle = overlay::Shuffle {
        offered: Vec::new(),
    };
    let request = overlay::Request {
        kind: Some(overlay::request::Kind::Shuffle(shuffle)),
    };
    let Some(body) = exchange(&link, OVERLAY, &request.encode_to_vec()).await? else {
        return Ok(absent(link));
    };
    let response = overlay::Response::decode(&body[..])
        .map_err(|e| format!("a response that does not parse: {e}"))?;
    match response.kind {
        Some(overlay::response::Kind::Contacts(contacts)) if contacts.contacts.len() <= 8 => {
            let count = contacts.contacts.len();
            Ok(Observation::new(format!("Contacts, {count} of them")).with(link))
        }
        Some(overlay::response::Kind::Contacts(_)) => Err("more than 8 contacts".to_owned()),
        _ => Err("another response than Contacts".to_owned()),
    }
}

/// Compares a millisecond an hour ahead, in which no batch can be dated: both hold the same.
async fn compare(ctx: CaseContext, link: Link) -> Run {
    link.ready().await?;
    // The fingerprint of the empty set: the first 16 bytes of SHA-256 over a sum of zero and a count of zero.
    let nothing = Sha256::digest([0; 33]);
    let frame = [&[0x61, 0x00, 0x00, 0x01][..], &nothing[..16]].concat();
    let room = ctx.runner.link_config.room.as_str().to_owned();
    let since_ms = now_ms() + HOUR_MS;
    let compare = sync::Compare {
        room: room.clone(),
        since_ms,
        until_ms: since_ms + 1,
        frame: Bytes::from(frame),
    };
    let request = sync::Request {
        clock_ms: 0,
        kind: Some(sync::request::Kind::Compare(compare)),
    };
    let request = request.encode_to_vec();
    for _ in 0..MAX_POSTPONED {
        let Some(body) = exchange(&link, SYNC, &request).await? else {
            return Ok(absent(link));
        };
        let response = sync::Response::decode(&body[..])
            .map_err(|e| format!("a response that does not parse: {e}"))?;
        match response.kind {
            Some(sync::response::Kind::Ranges(ranges)) if ranges.frame == [0x61][..] => {
                let bytes = framed(&request).len() + framed(&body).len();
                return match bytes <= MAX_AGREEMENT + room.len() {
                    true => Ok(
                        Observation::new(format!("in agreement, after {bytes} bytes")).with(link),
                    ),
                    false => Err(format!("in agreement, but with {bytes} bytes")),
                };
            }
            Some(sync::response::Kind::Ranges(_)) => {
                return Err("Ranges that differ, where both hold nothing".to_owned());
            }
            Some(sync::response::Kind::RetryAfter(later)) => {
                let pause = u64::from(later.after_ms.min(5_000));
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            Some(sync::response::Kind::NotSubscribed(_)) => {
                return Err("NotSubscribed, in a room in which it is".to_owned());
            }
            _ => return Err("another response than Ranges".to_owned()),
        }
    }
    Err(format!("RetryAfter, {MAX_POSTPONED} times"))
}

/// Announces a batch that does not exist.
async fn offer(ctx: CaseContext, link: Link) -> Run {
    let features = link.peer.as_ref().map_or(0, |core| core.features);
    if features & OFFERS == 0 {
        return Ok(Observation {
            actual: "no bit 0 in its features: optional, absent".to_owned(),
            absent: true,
            link: Some(link),
            ..Observation::default()
        });
    }
    link.ready().await?;
    let invented: [u8; 32] = rand::random();
    let offer = sync::Announce {
        room: ctx.runner.link_config.room.as_str().to_owned(),
        ids: Bytes::copy_from_slice(&invented),
        sent_at_ms: vec![now_ms()],
    };
    let request = sync::Request {
        clock_ms: 0,
        kind: Some(sync::request::Kind::Announce(offer)),
    };
    let Some(body) = exchange(&link, SYNC, &request.encode_to_vec()).await? else {
        return Err("na, although it has bit 0 in its features".to_owned());
    };
    let response = sync::Response::decode(&body[..])
        .map_err(|e| format!("a response that does not parse: {e}"))?;
    match response.kind {
        Some(sync::response::Kind::Ack(heard)) if heard.held.is_empty() => {
            Ok(Observation::new("Ack").with(link))
        }
        Some(sync::response::Kind::Ack(_)) => {
            Err("Ack, with the id of a batch that there is not".to_owned())
        }
        _ => Err("another response than Ack".to_owned()),
    }
}
