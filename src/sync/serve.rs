//! Answering a neighbour's requests, and no more of them than it has a right to.
//!
//! Entry type: [`Allowance`], one for each neighbour. The rule it keeps: what a neighbour can make
//! us do is bounded by a rate, whatever it asks; one that catches up is not slowed down.

use std::time::Duration;

use bytes::Bytes;

use super::held::Held;
use super::message::{MAX_RESPONSE_FRAME, Request, Response};
use super::reconcile::{self, BadFrame, Window};
use crate::clock::Time;
use crate::model::{Id, Item};

/// Exchanges other than fetches that a neighbour may make at once: those of a link-up in all of 32
/// rooms, twice.
const EXCHANGES: u32 = 64;

/// One more exchange is allowed after this: 20 in 10 seconds. A fetch that was served allows one
/// more as well, because it is progress.
const EXCHANGE_EVERY: Duration = Duration::from_millis(500);

/// What a neighbour may fetch at full speed: a whole log of the default size, once.
const FETCHED_BYTES: u64 = 1 << 30;

/// What it may fetch in each second after that.
const FETCHED_BYTES_A_SECOND: u64 = 4 << 20;

/// What a fetch counts at least: the log is asked, even when nothing is held.
const FETCH_LEAST: u64 = 4096;

/// What each id of a fetch counts at least: looking for it costs a page of the log that is not in memory, whether it is
/// found or not. At full speed that is all of the largest room that is compared, once.
const ID_LEAST: u64 = 1024;

/// Ranges in a frame that make it count as one exchange more. Frames of comparisons that end have at most some
/// 3,000, of 20 bytes; one of the least bytes a range has 20,000.
const RANGES_AN_EXCHANGE: u32 = 1024;

/// The fetches of one neighbour that may wait for the log.
const READS_AT_ONCE: usize = 4;

/// How often in a row a neighbour may ask although it was told to come later. Those whose requests
/// crossed our answer do so a few times.
const IGNORED_MOST: u32 = 64;

/// Who comes back so much too early has waited all the same: the word took a while to it.
const EARLY: Duration = Duration::from_millis(50);

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
pub(super) struct Allowance {
    exchanges: u32,
    exchanges_at: Time,
    bytes: u64,
    bytes_at: Time,
    reads: usize,
    ignored: u32,
    put_off_until: Time,
}

impl Allowance {
    pub(super) fn new(now: Time) -> Allowance {
        Allowance {
            exchanges: EXCHANGES,
            exchanges_at: now,
            bytes: FETCHED_BYTES,
            bytes_at: now,
            reads: 0,
            ignored: 0,
            put_off_until: now,
        }
    }

    /// Puts a fetch of what was offered off by so much. That counts against a neighbour only when it has
    /// not waited as it was told before.
    pub(super) fn put_off(&mut self, now: Time, after: Duration) -> Result<Answer, Refusal> {
        match now + EARLY < self.put_off_until {
            true => self.ignored += 1,
            // What it asked for together with the first is counted at most.
            false => self.ignored = 0,
        }
        if self.ignored > IGNORED_MOST {
            return Err(Refusal::Flood);
        }
        self.put_off_until = now + after;
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
        is_offered: bool,
    ) -> Result<Answer, Refusal> {
        self.refill(now);
        let cost = cost_of(&request);
        let allowed = match &request {
            Request::Fetch { .. } => (self.bytes > 0 || is_offered) && self.reads < READS_AT_ONCE,
            Request::Compare { .. } | Request::Lagging { .. } => self.exchanges >= cost,
            Request::Announce { .. } => true,
        };
        if !allowed {
            self.ignored += 1;
            if self.ignored > IGNORED_MOST {
                return Err(Refusal::Flood);
            }
            let lacking = cost.saturating_sub(self.exchanges).max(1);
            return Ok(Answer::Now(Response::RetryAfter(EXCHANGE_EVERY * lacking)));
        }
        self.ignored = 0;
        match request {
            Request::Fetch { ids, .. } => {
                self.reads += 1;
                Ok(Answer::Read(ids))
            }
            Request::Lagging { .. } => {
                self.exchanges -= cost;
                Ok(Answer::Compare)
            }
            Request::Announce { items, .. } => Ok(Answer::Note(items)),
            Request::Compare { window, frame, .. } => {
                self.exchanges -= cost;
                compare(held, since_ms, window, &frame)
                    .map(Answer::Now)
                    .map_err(Refusal::Frame)
            }
        }
    }

    /// Counts a fetch for which the log has looked for so many ids, and found so many bytes.
    pub(super) fn fetched(&mut self, ids: usize, bytes: usize, is_offered: bool) {
        self.reads = self.reads.saturating_sub(1);
        if is_offered {
            return;
        }
        let cost = (bytes as u64).max(ids as u64 * ID_LEAST).max(FETCH_LEAST);
        self.bytes = self.bytes.saturating_sub(cost);
        if bytes > 0 {
            self.exchanges = (self.exchanges + 1).min(EXCHANGES);
        }
    }

    fn refill(&mut self, now: Time) {
        let more = now.since(self.exchanges_at).as_millis() / EXCHANGE_EVERY.as_millis();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.exchanges = self.exchanges.saturating_add(more).min(EXCHANGES);
        self.exchanges_at += EXCHANGE_EVERY.saturating_mul(more);

        let ms = u64::try_from(now.since(self.bytes_at).as_millis()).unwrap_or(u64::MAX);
        let more = ms.saturating_mul(FETCHED_BYTES_A_SECOND / 1000);
        self.bytes = self.bytes.saturating_add(more).min(FETCHED_BYTES);
        self.bytes_at += Duration::from_millis(ms);
    }
}

/// How many exchanges a request counts as; a fetch counts in bytes, when it is answered.
fn cost_of(request: &Request) -> u32 {
    match request {
        // What is no frame is not gone through.
        Request::Compare { frame, .. } => {
            1 + reconcile::count_ranges(frame).unwrap_or(0) / RANGES_AN_EXCHANGE
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
