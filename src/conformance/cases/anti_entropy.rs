//! Anti-entropy (data checking): the cost of a neighbour's requests is bounded, and batches from the future do not
//! evict others.
//!
//! Entry: [`CASES`].

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use prost::Message;

use super::optional::{SYNC, absent, exchange};
use crate::conformance::case::{Case, CaseContext, Kind, Observation, Procedure, Run};
use crate::conformance::envelope::now_ms;
use crate::conformance::link::Link;
use crate::wire::proto::sync;

/// Number of ranges of minimal size in a frame of 57,001 bytes.
const RANGES: usize = 19_000;
/// Number of such frames: more than the quota grants at once.
const FRAMES: u32 = 6;
/// Number and size of batches dated in the future: more than the smallest log in the project's own tests retains.
const AHEAD_BATCHES: u8 = 100;
const AHEAD_BYTES: usize = 60_000;
const AHEAD_MS: i64 = 290_000;
/// The time that the peer may take to store them.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
const HOUR_MS: u64 = 3_600_000;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "many-ranges",
        kind: Kind::Good,
        spec: "10 Quota",
        expected: "each Compare with 19,000 ranges is answered within 5 s, with Ranges or RetryAfter; this link stays; or na",
        only: None,
        procedure: Procedure::OnLink(|ctx, link| many_ranges(ctx, link).boxed()),
    },
    Case {
        name: "dated-ahead",
        kind: Kind::Good,
        spec: "10 Retention by size",
        expected: "after 6 MB of batches that are dated 290 s ahead what the peer keeps does not begin in the future; this link stays; or na",
        only: None,
        procedure: Procedure::OnLink(|ctx, link| dated_ahead(ctx, link).boxed()),
    },
];

fn compare(ctx: &CaseContext, since_ms: u64, frame: Vec<u8>) -> Vec<u8> {
    let compare = sync::Compare {
        room: ctx.runner.link_config.room.as_str().to_owned(),
        since_ms,
        until_ms: 0,
        frame: Bytes::from(frame),
    };
    let request = sync::Request {
        clock_ms: 0,
        kind: Some(sync::request::Kind::Compare(compare)),
    };
    request.encode_to_vec()
}

async fn many_ranges(ctx: CaseContext, link: Link) -> Run {
    link.ready().await?;
    // Each range: a bound one millisecond after the last, no id, mode "skip".
    let frame = [&[0x61][..], &[2, 0, 0].repeat(RANGES)].concat();
    let request = compare(&ctx, now_ms() - HOUR_MS, frame);
    let (mut ranges, mut later) = (0, 0);
    for _ in 0..FRAMES {
        let Some(body) = exchange(&link, SYNC, &request).await? else {
            return Ok(absent(link));
        };
        let response = sync::Response::decode(&body[..])
            .map_err(|e| format!("a response that does not parse: {e}"))?;
        match response.kind {
            Some(sync::response::Kind::Ranges(_)) => ranges += 1,
            Some(sync::response::Kind::RetryAfter(_)) => later += 1,
            _ => return Err("another response than Ranges or RetryAfter".to_owned()),
        }
    }
    Ok(Observation::new(format!("Ranges {ranges} times, RetryAfter {later} times")).with(link))
}

async fn dated_ahead(ctx: CaseContext, mut link: Link) -> Run {
    link.ready().await?;
    for n in 0..AHEAD_BATCHES {
        let data = link.dated(AHEAD_MS, "ahead", vec![n; AHEAD_BYTES]);
        link.publish(&data);
    }
    let until = tokio::time::Instant::now() + STORE_TIMEOUT;
    loop {
        let now_ms = now_ms();
        let request = compare(&ctx, now_ms, vec![0x61]);
        let Some(body) = exchange(&link, SYNC, &request).await? else {
            return Ok(absent(link));
        };
        let response = sync::Response::decode(&body[..])
            .map_err(|e| format!("a response that does not parse: {e}"))?;
        match response.kind {
            Some(sync::response::Kind::Ranges(ranges)) if ranges.since_ms > now_ms => {
                let ahead_ms = ranges.since_ms - now_ms;
                return Err(format!("what it keeps begins {ahead_ms} ms in the future"));
            }
            Some(sync::response::Kind::Ranges(_)) => {}
            Some(sync::response::Kind::RetryAfter(_)) => {}
            _ => return Err("another response than Ranges or RetryAfter".to_owned()),
        }
        if tokio::time::Instant::now() >= until {
            return Ok(Observation::new("what it keeps begins in the past").with(link));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
