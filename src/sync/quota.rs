//! Answering a neighbour's requests, and no more of them than it has a right to.
//!
//! Entry type: [`PeerQuota`], one for each neighbour. The rule it keeps: what a neighbour can make
//! us do is bounded by a rate, whatever it asks; one that catches up is not slowed down.

use std::time::Duration;

use bytes::Bytes;

use super::held::Held;
use super::message::{MAX_RESPONSE_FRAME, Request, Response};
use super::reconcile::{self, BadFrame, Window};
use crate::clock::Time;
use crate::model::{Id, Item};
use crate::rate_limit::{Rate, TokenBucket};

/// Quota of exchanges other than fetches. At once a neighbour may make those of a link-up in all of 32 rooms, twice, and
/// after that 20 in 10 seconds. A fetch that was served allows one more as well, because it is progress.
const EXCHANGE_QUOTA: Rate = Rate {
    burst: 64.0,
    per_second: 2.0,
};

/// Time in which the quota of exchanges grows by one.
const EXCHANGE_INTERVAL: Duration = Duration::from_millis(500);

/// Quota of fetched bytes: at full speed a whole log of the default size, once, and then so much a second.
const FETCH_QUOTA: Rate = Rate {
    burst: (1_u64 << 30) as f64,
    per_second: (4_u64 << 20) as f64,
};

/// What a fetch counts at least: the log is asked, even when nothing is held.
const MIN_FETCH_COST: u64 = 4096;

/// What each id of a fetch counts at least: looking for it costs a page of the log that is not in memory, whether it is
/// found or not. At full speed that is all of the largest room that is compared, once.
const MIN_ID_COST: u64 = 1024;

/// Ranges in a frame that make it count as one exchange more. Frames of comparisons that end have at most some
/// 3,000, of 20 bytes; one of the least bytes a range has 20,000.
const RANGES_PER_EXCHANGE: u32 = 1024;

/// The fetches of one neighbour that may wait for the log.
const MAX_CONCURRENT_READS: usize = 4;

/// How often in a row a neighbour may ask although it was told to come later. Those whose requests
/// crossed our answer do so a few times.
const MAX_IGNORED: u32 = 64;

/// Who comes back so much too early has waited all the same: the word took a while to it.
const RETRY_SLACK: Duration = Duration::from_millis(50);

/// How a request is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// With this.
    Now(Response),
    /// With what the log holds of these ids.
    Read(Vec<Id>),
    /// With [`Response::Ack`], and with a comparison of ours.
    Compare,
    /// With [`Response::Ack`], and with fetches of these.
    Note(Vec<Item>),
}

/// Why a neighbour gets no answer but is dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Frame(BadFrame),
    Flood,
}

/// What a neighbour may still ask for.
#[derive(Debug)]
pub(super) struct PeerQuota {
    exchanges: TokenBucket,
    bytes: TokenBucket,
    reads: usize,
    ignored: u32,
    deferred_until: Time,
}

impl PeerQuota {
    pub(super) fn new(now: Time) -> PeerQuota {
        PeerQuota {
            exchanges: TokenBucket::new(EXCHANGE_QUOTA, now),
            bytes: TokenBucket::new(FETCH_QUOTA, now),
            reads: 0,
            ignored: 0,
            deferred_until: now,
        }
    }

    /// Puts a fetch of what was offered off by so much. That counts against a neighbour only when it has
    /// not waited as it was told before.
    pub(super) fn defer(&mut self, now: Time, after: Duration) -> Result<Answer, Refusal> {
        match now + RETRY_SLACK < self.deferred_until {
            true => self.ignored += 1,
            // What it asked for together with the first is counted at most.
            false => self.ignored = 0,
        }
        if self.ignored > MAX_IGNORED {
            return Err(Refusal::Flood);
        }
        self.deferred_until = now + after;
        Ok(Answer::Now(Response::RetryAfter(after)))
    }

    /// Answers a request about a room whose items are these, from `since_ms` on. What was offered may be
    /// fetched for nothing.
    pub(super) fn answer(
        &mut self,
        now: Time,
        held: Held<'_>,
        since_ms: u64,
        request: Request,
        is_announced: bool,
    ) -> Result<Answer, Refusal> {
        let cost = f64::from(cost_of(&request));
        let allowed = match &request {
            Request::Fetch { .. } => {
                (self.bytes.has_token(now) || is_announced) && self.reads < MAX_CONCURRENT_READS
            }
            Request::Compare { .. } | Request::Lagging { .. } => {
                self.exchanges.try_take_many(now, cost)
            }
            Request::Announce { .. } => true,
        };
        if !allowed {
            self.ignored += 1;
            if self.ignored > MAX_IGNORED {
                return Err(Refusal::Flood);
            }
            let missing = self.exchanges.missing(now, cost).ceil().max(1.0);
            let after = EXCHANGE_INTERVAL.saturating_mul(missing as u32);
            return Ok(Answer::Now(Response::RetryAfter(after)));
        }
        self.ignored = 0;
        match request {
            Request::Fetch { ids, .. } => {
                self.reads += 1;
                Ok(Answer::Read(ids))
            }
            Request::Lagging { .. } => Ok(Answer::Compare),
            Request::Announce { items, .. } => Ok(Answer::Note(items)),
            Request::Compare { window, frame, .. } => compare(held, since_ms, window, &frame)
                .map(Answer::Now)
                .map_err(Refusal::Frame),
        }
    }

    /// Counts a fetch for which the log has looked for so many ids, and found so many bytes.
    pub(super) fn charge_fetch(&mut self, now: Time, ids: usize, bytes: usize, is_announced: bool) {
        self.reads = self.reads.saturating_sub(1);
        if is_announced {
            return;
        }
        let cost = (bytes as u64)
            .max(ids as u64 * MIN_ID_COST)
            .max(MIN_FETCH_COST);
        self.bytes.drain(now, cost as f64);
        if bytes > 0 {
            self.exchanges.refund();
        }
    }
}

/// How many exchanges a request counts as; a fetch counts in bytes, when it is answered.
fn cost_of(request: &Request) -> u32 {
    match request {
        // What is no frame is not gone through.
        Request::Compare { frame, .. } => {
            1 + reconcile::count_ranges(frame).unwrap_or(0) / RANGES_PER_EXCHANGE
        }
        Request::Lagging { .. } => 1,
        Request::Fetch { .. } | Request::Announce { .. } => 0,
    }
}

fn compare(
    held: Held<'_>,
    since_ms: u64,
    window: Window,
    frame: &Bytes,
) -> Result<Response, BadFrame> {
    if window.since_ms < since_ms {
        return Ok(Response::From(since_ms));
    }
    let answer = reconcile::answer(held, window, frame, MAX_RESPONSE_FRAME)?;
    Ok(Response::Ranges(answer.into()))
}
