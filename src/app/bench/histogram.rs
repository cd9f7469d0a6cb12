//! Durations, counted in buckets.
//!
//! Entry type: [`Histogram`]. The rule it keeps: its memory does not grow with the number of values, and a percentile
//! is less than one percent off.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets for each power of two: a bucket's width is at most 1/128 of its value.
const STEPS: u64 = 128;
const BUCKETS: usize = (STEPS as usize) * 40;

/// Durations from a microsecond to weeks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: vec![0; BUCKETS],
            count: 0,
            max: 0,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(us)] += 1;
        self.count += 1;
        self.max = self.max.max(us);
    }

    pub(crate) fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// The microseconds that `share` of all stayed within; 0 when there were none.
    pub(crate) fn quantile_us(&self, share: f64) -> u64 {
        let rank = (self.count.saturating_sub(1) as f64 * share) as u64;
        let mut passed = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            passed += count;
            if passed > rank {
                return value(bucket).min(self.max);
            }
        }
        self.max
    }

    pub(crate) fn max_us(&self) -> u64 {
        self.max
    }
}

fn bucket(us: u64) -> usize {
    if us < STEPS {
        return us as usize;
    }
    let shift = u64::from(us.ilog2() - STEPS.ilog2());
    let bucket = (shift + 1) * STEPS + ((us >> shift) - STEPS);
    usize::try_from(bucket)
        .unwrap_or(usize::MAX)
        .min(BUCKETS - 1)
}

/// The middle of a bucket.
fn value(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let low = (STEPS + bucket % STEPS) << shift;
    low + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_again_within_a_percent() {
        for us in (0..5000).chain((13..30).map(|power| (1 << power) + 12345)) {
            let mut histogram = Histogram::default();
            histogram.record(Duration::from_micros(us));
            histogram.record(Duration::from_micros(u64::from(u32::MAX)));
            let found = histogram.quantile_us(0.0);
            assert!(found.abs_diff(us) * 100 <= us, "{us} was told as {found}");
        }
    }

    #[test]
    fn half_of_the_values_lie_within_the_median() {
        let mut histogram = Histogram::default();
        for us in 1..=101 {
            histogram.record(Duration::from_micros(us));
        }
        assert_eq!(histogram.quantile_us(0.5), 51);
        assert_eq!(histogram.quantile_us(0.99), 100);
        assert_eq!((histogram.quantile_us(1.0), histogram.max_us()), (101, 101));
    }
}
