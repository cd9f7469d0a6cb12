//! Rate limiter for lines and events that a remote peer can trigger at will.
//!
//! Entry type: [`RateLimiter`]. The rule it keeps: what passes is bounded for each source and in all, what is
//! held back is counted, and the count is reported at most once in [`SUMMARY_INTERVAL`], or in one of the limiter's own.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::clock::Time;

/// Time between two summaries of what one limiter has held back: long enough that the summaries of a flood
/// are no flood, short enough that whoever reads them is still there.
pub(crate) const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of sources that one limiter remembers. Sources past it are bounded by the limit in all alone.
const MAX_SOURCES: usize = 256;

/// How many may pass at once, and how many a second after that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) burst: f64,
    pub(crate) per_second: f64,
}

/// The two rates of a limiter: of one source, and of all together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) per_source: Rate,
    pub(crate) in_all: Rate,
}

/// What a limiter has held back since its last summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldBack {
    /// How many.
    pub(crate) count: u64,
    /// Over what time: from the first of them until now.
    pub(crate) over: Duration,
}

/// Token buckets of one kind: one for each source, and one for all.
#[derive(Debug)]
pub(crate) struct RateLimiter<S> {
    limit: Limit,
    summary_interval: Duration,
    all: Bucket,
    sources: HashMap<S, Bucket>,
    held_back: u64,
    /// When the first of those was held back.
    since: Time,
}

impl<S: Eq + Hash> RateLimiter<S> {
    /// Returns a limiter that has let nothing pass yet.
    pub(crate) fn new(limit: Limit) -> RateLimiter<S> {
        RateLimiter {
            limit,
            summary_interval: SUMMARY_INTERVAL,
            all: Bucket::full(limit.in_all, Time::ZERO),
            sources: HashMap::new(),
            held_back: 0,
            since: Time::ZERO,
        }
    }

    /// Reports what is held back at most once in `interval` instead of [`SUMMARY_INTERVAL`].
    pub(crate) fn with_summary_interval(self, interval: Duration) -> RateLimiter<S> {
        RateLimiter {
            summary_interval: interval,
            ..self
        }
    }

    /// Lets one of `source` pass, or counts it as held back; whether it passes. Without a source only the
    /// limit in all applies.
    pub(crate) fn pass(&mut self, now: Time, source: Option<S>) -> bool {
        let passes = self.try_pass(now, source);
        if !passes {
            self.hold_back(now, 1);
        }
        passes
    }

    /// Lets one of `source` pass if the limits allow it, and counts nothing otherwise.
    pub(crate) fn try_pass(&mut self, now: Time, source: Option<S>) -> bool {
        let (per_source, in_all) = (self.limit.per_source, self.limit.in_all);
        let bucket =
            source.and_then(|source| bucket_of(&mut self.sources, per_source, now, source));
        let Some(bucket) = bucket else {
            return self.all.take(in_all, now);
        };
        bucket.has_token(per_source, now)
            && self.all.take(in_all, now)
            && bucket.take(per_source, now)
    }

    /// Counts `count` as held back.
    pub(crate) fn hold_back(&mut self, now: Time, count: u64) {
        if self.held_back == 0 {
            self.since = now;
        }
        self.held_back = self.held_back.saturating_add(count);
    }

    /// When the next summary is due; none while nothing is held back.
    pub(crate) fn summary_deadline(&self) -> Option<Time> {
        (self.held_back > 0).then(|| self.since + self.summary_interval)
    }

    /// Takes the summary of what was held back, if it is due by `now`.
    pub(crate) fn take_summary_due(&mut self, now: Time) -> Option<HeldBack> {
        let due = self.summary_deadline().is_some_and(|at| at <= now);
        due.then(|| self.take_summary(now)).flatten()
    }

    /// Takes the summary of what was held back, due or not.
    pub(crate) fn take_summary(&mut self, now: Time) -> Option<HeldBack> {
        let count = std::mem::take(&mut self.held_back);
        let over = now.since(self.since);
        (count > 0).then_some(HeldBack { count, over })
    }

    /// When one of `source` could pass at the earliest.
    pub(crate) fn passes_at(&self, source: &S) -> Time {
        let all = self.all.has_token_at(self.limit.in_all);
        let bucket = self.sources.get(source);
        bucket.map_or(all, |bucket| {
            bucket.has_token_at(self.limit.per_source).max(all)
        })
    }
}

/// The bucket of `source`; none when there are too many already.
fn bucket_of<S: Eq + Hash>(
    sources: &mut HashMap<S, Bucket>,
    rate: Rate,
    now: Time,
    source: S,
) -> Option<&mut Bucket> {
    if sources.len() >= MAX_SOURCES && !sources.contains_key(&source) {
        sources.retain(|_, bucket| !bucket.is_full(rate, now));
        if sources.len() >= MAX_SOURCES {
            return None;
        }
    }
    let bucket = sources.entry(source);
    Some(bucket.or_insert_with(|| Bucket::full(rate, now)))
}

/// A token bucket; its rate is its owner's.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Time,
}

impl Bucket {
    fn full(rate: Rate, now: Time) -> Bucket {
        Bucket {
            tokens: rate.burst,
            at: now,
        }
    }

    fn tokens_at(&self, rate: Rate, now: Time) -> f64 {
        let gained = now.since(self.at).as_secs_f64() * rate.per_second;
        (self.tokens + gained).min(rate.burst)
    }

    fn is_full(&self, rate: Rate, now: Time) -> bool {
        self.tokens_at(rate, now) >= rate.burst
    }

    fn has_token(&self, rate: Rate, now: Time) -> bool {
        // What a float loses in adding up must not put a token off for ever.
        self.tokens_at(rate, now) >= 1.0 - 1e-6
    }

    fn take(&mut self, rate: Rate, now: Time) -> bool {
        let has_token = self.has_token(rate, now);
        self.tokens = self.tokens_at(rate, now);
        self.at = self.at.max(now);
        if has_token {
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
        has_token
    }

    fn has_token_at(&self, rate: Rate) -> Time {
        let lacking = (1.0 - self.tokens).max(0.0);
        self.at + Duration::from_secs_f64(lacking / rate.per_second)
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
    fn one_passes_at_the_time_that_is_told_and_not_before() {
        let mut limiter = RateLimiter::new(LIMIT);
        while limiter.pass(Time::ZERO, Some(1)) {}
        let at = limiter.passes_at(&1);
        assert_eq!(at, Time::from_millis(2000));
        assert!(!limiter.try_pass(Time::from_millis(1999), Some(1)));
        assert!(limiter.try_pass(at, Some(1)));
    }
}
