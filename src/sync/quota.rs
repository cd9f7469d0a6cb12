//! Quota of a neighbour's requests: a rate limit on exchanges and on fetched bytes.
//!
//! Entry type: [`PeerQuota`], one for each neighbour. The rule it keeps: whatever a neighbour requests, the work for it
//! is bounded by a rate; a neighbour that catches up is not slowed down.

use std::time::Duration;

use bytes::Bytes;

use super::held::Held;
use super::message::{MAX_RESPONSE_FRAME, Request, Response};
use super::reconcile::{self, BadFrame, Window};
use crate::clock::Time;
use crate::model::{Id, Item};
use crate::rate_limit::{Rate, TokenBucket};

/// Rate limit of exchanges other than fetches: a burst of those of a link-up in 32 rooms, twice, and then 20 in 10
/// seconds. A fetch that was served adds one as well, because it is progress.
const EXCHANGE_QUOTA: Rate = Rate {
    burst: 64.0,
    per_second: 2.0,
};

/// Interval at which the quota of exchanges grows by one.
const EXCHANGE_INTERVAL: Duration = Duration::from_millis(500);

/// Rate limit of fetched bytes: a burst of a whole log of the default size, and then 4 MiB a second.
const FETCH_QUOTA: Rate = Rate {
    burst: (1_u64 << 30) as f64,
    per_second: (4_u64 << 20) as f64,
};

/// Minimum cost of a fetch, in bytes: it queries the log even when nothing is found.
const MIN_FETCH_COST: u64 = 4096;

/// Minimum cost of each id of a fetch, in bytes: to look for it reads a page of the log from disk, whether it is found
/// or not. The full quota covers all ids of the largest room that is compared, once.
const MIN_ID_COST: u64 = 1024;

/// Number of ranges in a frame that cost one more exchange. Frames of rounds that end have at most about 3,000 ranges
/// of 20 bytes; a frame of the shortest ranges has 20,000.
const RANGES_PER_EXCHANGE: u32 = 1024;

/// Maximum number of fetches of one neighbour that wait for the log.
const MAX_CONCURRENT_READS: usize = 4;

/// Maximum number of consecutive requests that ignore a deferral. Requests that crossed our response are a few of them.
const MAX_IGNORED: u32 = 64;

/// Clock slack: a retry up to 50 ms early still counts as having waited, because the RetryAfter response took time to
/// arrive.
const RETRY_SLACK: Duration = Duration::from_millis(50);

/// Decision on a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Send this response.
    Now(Response),
    /// Send these batches from the log.
    Read(Vec<Id>),
    /// Send [`Response::Ack`], and begin a round of our own.
    Compare,
    /// Send [`Response::Ack`], and fetch these batches.
    Note(Vec<Item>),
}

/// Reason for which a neighbour gets no response, and its link is closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Frame(BadFrame),
    Flood,
}

/// Quota of one neighbour, which refills with time.
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

    /// Defers a fetch by `after`. It counts against the neighbour only if an earlier deferral was ignored.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::Flood`] if the neighbour has ignored too many deferrals.
    pub(super) fn defer(&mut self, now: Time, after: Duration) -> Result<Answer, Refusal> {
        match now + RETRY_SLACK < self.deferred_until {
            true => self.ignored += 1,
            // At most the requests that were pipelined with the first one are counted.
            false => self.ignored = 0,
        }
        if self.ignored > MAX_IGNORED {
            return Err(Refusal::Flood);
        }
        self.deferred_until = now + after;
        Ok(Answer::Now(Response::RetryAfter(after)))
    }

    /// Decides on a request about a room that holds `held`, from `since_ms` on. Fetches of announced batches cost
    /// nothing.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] if the frame is malformed, or the neighbour has ignored too many deferrals.
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

    /// Charges a fetch for which the log looked up `ids` ids and found `bytes` bytes.
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

/// Returns the cost of a request in exchanges. A fetch costs bytes instead, which are charged when it is served.
fn cost_of(request: &Request) -> u32 {
    match request {
        // Malformed frames are not processed.
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
