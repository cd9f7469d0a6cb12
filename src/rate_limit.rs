//! Token buckets and rate limiters for everything that a remote peer can trigger at will.
//!
//! Entry types: [`TokenBucket`], the one of the crate; [`SourceBuckets`], a bucket for each source with bounded memory;
//! [`RateLimiter`], both together for log lines and events. The rules they keep: any interval grants at most the burst
//! and the rate together, and a limiter counts what it holds back and reports the count at most once in
//! [`SUMMARY_INTERVAL`] or an interval of its own.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::clock::Time;

/// Minimum time between two summaries of one limiter: long enough that the summaries of a flood are no flood, short
/// enough to be read while it lasts.
pub(crate) const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of sources that one [`RateLimiter`] remembers. Only the limit in all applies to sources beyond it.
const MAX_SOURCES: usize = 256;
/// A token counts as whole when this much of it is missing, so that rounding never puts it off for ever.
const ROUNDING: f64 = 1e-6;

/// The rate of a token bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Number of tokens that can be taken at once.
    pub(crate) burst: f64,
    /// Number of tokens that are added in a second.
    pub(crate) per_second: f64,
}

/// A token bucket. It is full at first.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    rate: Rate,
    tokens: f64,
    /// Time at which the bucket held `tokens`.
    at: Time,
}

impl TokenBucket {
    /// Returns a full bucket.
    pub(crate) fn new(rate: Rate, now: Time) -> TokenBucket {
        TokenBucket {
            rate,
            tokens: rate.burst,
            at: now,
        }
    }

    /// Takes a token. Returns whether there was one.
    pub(crate) fn try_take(&mut self, now: Time) -> bool {
        self.try_take_many(now, 1.0)
    }

    /// Takes `count` tokens if there are as many. Returns whether there were.
    pub(crate) fn try_take_many(&mut self, now: Time, count: f64) -> bool {
        let is_enough = self.missing(now, count) == 0.0;
        if is_enough {
            self.drain(now, count);
        }
        is_enough
    }

    /// Takes `count` tokens, or all of them if there are fewer.
    pub(crate) fn drain(&mut self, now: Time, count: f64) {
        self.tokens = (self.tokens_at(now) - count).max(0.0);
        self.at = self.at.max(now);
    }

    /// Returns a token to the bucket.
    pub(crate) fn refund(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.rate.burst);
    }

    /// Returns whether a token can be taken at `now`.
    pub(crate) fn has_token(&self, now: Time) -> bool {
        self.missing(now, 1.0) == 0.0
    }

    /// Returns how many of `count` tokens are missing at `now`.
    pub(crate) fn missing(&self, now: Time, count: f64) -> f64 {
        let missing = count - self.tokens_at(now);
        if missing > ROUNDING { missing } else { 0.0 }
    }

    /// Returns the earliest time at which a token can be taken; it may have passed.
    pub(crate) fn next_token_at(&self) -> Time {
        let missing = (1.0 - self.tokens).max(0.0);
        self.at + Duration::from_secs_f64(missing / self.rate.per_second)
    }

    fn is_full(&self, now: Time) -> bool {
        self.tokens_at(now) >= self.rate.burst
    }

    fn tokens_at(&self, now: Time) -> f64 {
        let gained = now.since(self.at).as_secs_f64() * self.rate.per_second;
        (self.tokens + gained).min(self.rate.burst)
    }
}

/// A token bucket for each of a bounded number of sources.
#[derive(Debug)]
pub(crate) struct SourceBuckets<S> {
    rate: Rate,
    max_sources: usize,
    buckets: HashMap<S, TokenBucket>,
}

impl<S: Eq + Hash> SourceBuckets<S> {
    /// Returns buckets of this rate for at most `max_sources` sources.
    pub(crate) fn new(rate: Rate, max_sources: usize) -> SourceBuckets<S> {
        SourceBuckets {
            rate,
            max_sources,
            buckets: HashMap::new(),
        }
    }

    /// Returns the bucket of `source`, a full one for a new source. Forgets full buckets to make room for it, and returns
    /// none if there is no room.
    pub(crate) fn bucket_of(&mut self, now: Time, source: S) -> Option<&mut TokenBucket> {
        if self.buckets.len() >= self.max_sources && !self.buckets.contains_key(&source) {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            if self.buckets.len() >= self.max_sources {
                return None;
            }
        }
        let bucket = self.buckets.entry(source);
        Some(bucket.or_insert_with(|| TokenBucket::new(self.rate, now)))
    }

    fn get(&self, source: &S) -> Option<&TokenBucket> {
        self.buckets.get(source)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.buckets.len()
    }
}

/// The two rates of a [`RateLimiter`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// Rate of one source.
    pub(crate) per_source: Rate,
    /// Rate of all sources together.
    pub(crate) in_all: Rate,
}

/// Summary of what a limiter has held back since the last summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldBack {
    /// Number of items held back.
    pub(crate) count: u64,
    /// Time from the first of them to the summary.
    pub(crate) over: Duration,
}

/// Rate limiter for log lines and events, with a bucket for each source and one for all.
#[derive(Debug)]
pub(crate) struct RateLimiter<S> {
    summary_interval: Duration,
    all: TokenBucket,
    sources: SourceBuckets<S>,
    held_back: u64,
    /// Time at which the first of `held_back` was held back.
    since: Time,
}

impl<S: Eq + Hash> RateLimiter<S> {
    /// Returns a limiter with full buckets.
    pub(crate) fn new(limit: Limit) -> RateLimiter<S> {
        RateLimiter {
            summary_interval: SUMMARY_INTERVAL,
            all: TokenBucket::new(limit.in_all, Time::ZERO),
            sources: SourceBuckets::new(limit.per_source, MAX_SOURCES),
            held_back: 0,
            since: Time::ZERO,
        }
    }

    /// Sets the minimum time between two summaries instead of [`SUMMARY_INTERVAL`].
    pub(crate) fn with_summary_interval(self, interval: Duration) -> RateLimiter<S> {
        RateLimiter {
            summary_interval: interval,
            ..self
        }
    }

    /// Lets an item of `source` pass and returns true, or counts it as held back and returns false. Without a source only
    /// the limit in all applies.
    pub(crate) fn pass(&mut self, now: Time, source: Option<S>) -> bool {
        let passes = self.try_pass(now, source);
        if !passes {
            self.hold_back(now, 1);
        }
        passes
    }

    /// Lets an item of `source` pass and returns true, or returns false and counts nothing.
    pub(crate) fn try_pass(&mut self, now: Time, source: Option<S>) -> bool {
        let bucket = source.and_then(|source| self.sources.bucket_of(now, source));
        let Some(bucket) = bucket else {
            return self.all.try_take(now);
        };
        bucket.has_token(now) && self.all.try_take(now) && bucket.try_take(now)
    }

    /// Counts `count` items as held back.
    pub(crate) fn hold_back(&mut self, now: Time, count: u64) {
        if self.held_back == 0 {
            self.since = now;
        }
        self.held_back = self.held_back.saturating_add(count);
    }

    /// Returns the time at which the next summary is due; none while nothing is held back.
    pub(crate) fn summary_deadline(&self) -> Option<Time> {
        (self.held_back > 0).then(|| self.since + self.summary_interval)
    }

    /// Takes the summary if it is due by `now`.
    pub(crate) fn take_summary_due(&mut self, now: Time) -> Option<HeldBack> {
        let due = self.summary_deadline().is_some_and(|at| at <= now);
        due.then(|| self.take_summary(now)).flatten()
    }

    /// Takes the summary, due or not; none if nothing was held back.
    pub(crate) fn take_summary(&mut self, now: Time) -> Option<HeldBack> {
        let count = std::mem::take(&mut self.held_back);
        let over = now.since(self.since);
        (count > 0).then_some(HeldBack { count, over })
    }

    /// Returns the earliest time at which an item of `source` can pass.
    pub(crate) fn passes_at(&self, source: &S) -> Time {
        let all = self.all.next_token_at();
        let bucket = self.sources.get(source);
        bucket.map_or(all, |bucket| bucket.next_token_at().max(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        per_source: Rate {
            burst: 10.0,
            per_second: 0.5,
        },
        in_all: Rate {
            burst: 50.0,
            per_second: 5.0,
        },
    };

    fn passed(limiter: &mut RateLimiter<u64>, at: impl Fn(u64) -> (u64, u64)) -> usize {
        let pass = |i| {
            let (ms, source) = at(i);
            limiter.pass(Time::from_millis(ms), Some(source))
        };
        (0..10_000).map(pass).filter(|passed| *passed).count()
    }

    #[test]
    fn a_bucket_grants_its_size_at_once_and_then_its_rate() {
        let rate = Rate {
            burst: 8.0,
            per_second: 0.2,
        };
        let mut bucket = TokenBucket::new(rate, Time::ZERO);
        let granted = |bucket: &mut TokenBucket, second: u64| {
            (0..100)
                .filter(|_| bucket.try_take(Time::from_millis(second * 1000)))
                .count()
        };
        assert_eq!(granted(&mut bucket, 1), 8);
        assert_eq!(granted(&mut bucket, 3), 0);
        let next = bucket.next_token_at();
        assert!(next > Time::from_millis(5000) && next < Time::from_millis(6100));
        assert_eq!(granted(&mut bucket, 6), 1);
        assert_eq!(granted(&mut bucket, 600), 8);
    }

    #[test]
    fn one_source_gets_its_burst_then_its_rate_and_leaves_room_for_others() {
        let mut limiter = RateLimiter::new(LIMIT);
        assert_eq!(passed(&mut limiter, |i| (i, 1)), 14);
        assert!(limiter.pass(Time::from_millis(10_000), Some(2)));
    }

    #[test]
    fn many_sources_share_the_limit_in_all() {
        let mut limiter = RateLimiter::new(LIMIT);
        let passed = passed(&mut limiter, |i| (i, i));
        assert!((99..=100).contains(&passed), "{passed} in 10 s");
        assert!(limiter.sources.len() <= MAX_SOURCES);
    }

    #[test]
    fn what_is_held_back_is_counted_and_reported_once() {
        let mut limiter = RateLimiter::new(LIMIT);
        let passed = passed(&mut limiter, |i| (i / 10, 1));
        let early = Time::from_millis(9_000);
        assert_eq!(limiter.take_summary_due(early), None);
        let due = limiter.summary_deadline().expect("a summary is due");
        assert_eq!(due, Time::from_millis(1) + SUMMARY_INTERVAL);
        let held_back = limiter.take_summary_due(due).expect("it is due");
        assert_eq!(held_back.count as usize, 10_000 - passed);
        assert_eq!(held_back.over, SUMMARY_INTERVAL);
        assert_eq!(limiter.take_summary(due), None);
        assert_eq!(limiter.summary_deadline(), None);
    }

    #[test]
    fn an_item_passes_at_the_time_that_was_predicted_and_not_before() {
        let mut limiter = RateLimiter::new(LIMIT);
        while limiter.pass(Time::ZERO, Some(1)) {}
        let at = limiter.passes_at(&1);
        assert_eq!(at, Time::from_millis(2000));
        assert!(!limiter.try_pass(Time::from_millis(1999), Some(1)));
        assert!(limiter.try_pass(at, Some(1)));
    }
}
