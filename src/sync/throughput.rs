//! Throughput estimate of a link over a sliding window of busy time.
//!
//! Entry type: [`ThroughputEstimator`]. The rule it keeps: only time with data in flight counts.

use std::time::Duration;

use crate::clock::Time;

/// Initial estimate, in bytes and time: a mebibyte per second. It has no weight left after the first measurements.
const INITIAL_ESTIMATE: (u64, Duration) = (64 << 10, Duration::from_micros(62_500));

/// Busy time that the estimate covers. Older measurements lose their weight.
const WINDOW: Duration = Duration::from_secs(2);

/// An estimate of a link's throughput.
#[derive(Debug)]
pub(super) struct ThroughputEstimator {
    carried: (u64, Duration),
    measured_at: Time,
    is_measured: bool,
}

impl ThroughputEstimator {
    pub(super) const fn new() -> ThroughputEstimator {
        ThroughputEstimator {
            carried: INITIAL_ESTIMATE,
            measured_at: Time::ZERO,
            is_measured: false,
        }
    }

    /// Begins to measure: data is in flight, after an idle time.
    pub(super) fn begin(&mut self, now: Time) {
        self.measured_at = now;
    }

    /// Records that this many bytes have arrived.
    pub(super) fn record(&mut self, now: Time, bytes: u64) {
        let time = now.since(self.measured_at);
        self.measured_at = now;
        self.is_measured = true;
        let (before, in_time) = self.carried;
        // Earlier measurements keep the part of the window that is left.
        let kept = in_time.min(WINDOW.saturating_sub(time));
        let share = u128::from(before) * kept.as_micros() / in_time.as_micros().max(1);
        let share = u64::try_from(share).unwrap_or(u64::MAX);
        self.carried = (share.saturating_add(bytes), kept + time);
    }

    /// Returns the estimate in bytes per second.
    pub(super) fn bytes_per_second(&self) -> u64 {
        let (bytes, time) = self.carried;
        let bytes = u128::from(bytes) * 1_000_000 / time.as_micros().max(1);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Returns whether anything was measured.
    pub(super) fn is_measured(&self) -> bool {
        self.is_measured
    }

    /// Returns the estimated time for this many bytes.
    pub(super) fn time_for(&self, bytes: u64) -> Duration {
        let micros = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_second().max(1));
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_covers_the_last_time_with_data_in_flight() {
        let mut throughput = ThroughputEstimator::new();
        let mut now = Time::ZERO;
        for _ in 0..1000 {
            now += Duration::from_millis(10);
            throughput.record(now, 100_000);
        }
        let about = |throughput: &ThroughputEstimator, bytes: u64| {
            throughput.bytes_per_second().abs_diff(bytes) < bytes / 20
        };
        assert!(about(&throughput, 10_000_000), "{throughput:?}");
        now += Duration::from_secs(60);
        throughput.begin(now);
        assert!(about(&throughput, 10_000_000), "silence does not count");
        now += Duration::from_secs(1);
        throughput.record(now, 2_000_000);
        assert!(about(&throughput, 6_000_000), "{throughput:?}");
        now += Duration::from_secs(4);
        throughput.record(now, 1_000_000);
        assert_eq!(throughput.bytes_per_second(), 250_000);
        assert_eq!(throughput.time_for(500_000), Duration::from_secs(2));
    }
}
