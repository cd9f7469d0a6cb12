//! Unix time as a node goes by it: this machine's clock, as long as nothing speaks against it.
//!
//! Entry type: [`UnixClock`]. The rule it keeps: age is judged by a time that moves with the monotonic clock, so that
//! a system clock that jumps makes nothing old before somebody has confirmed the jump ([`UnixClock::trust`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::Clock;

/// How far the system clock and the trusted time may differ before one of them is in doubt, in milliseconds: as far as
/// a message may be dated ahead of its reader's clock. A clock that is set within this is followed without a word.
pub const MAX_CLOCK_STEP_MS: u64 = 300_000;

/// The two Unix times of one moment, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixMs {
    /// What is sent now is dated with this, and the dates of others are compared with it.
    pub now: u64,
    /// What counts as old is counted from this; a clock in doubt does not move it ahead.
    pub aging: u64,
}

/// A clock that nothing speaks against: both times are the same.
impl From<u64> for UnixMs {
    fn from(now: u64) -> UnixMs {
        UnixMs { now, aging: now }
    }
}

impl UnixMs {
    /// The times when the system clock says `system` and the time that is trusted is `trusted`; `is_backed` says that
    /// other clocks confirm the trusted one.
    pub fn of(system: u64, trusted: u64, is_backed: bool) -> UnixMs {
        let is_in_doubt = system.abs_diff(trusted) > MAX_CLOCK_STEP_MS;
        UnixMs {
            now: match is_in_doubt && is_backed {
                true => trusted,
                false => system,
            },
            aging: system.min(trusted.saturating_add(MAX_CLOCK_STEP_MS)),
        }
    }
}

/// The system clock, and the time that is trusted when it jumps. Clones share what is trusted.
#[derive(Clone, Debug)]
pub struct UnixClock {
    clock: Clock,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The trusted Unix time at which `clock` started, in milliseconds.
    start_ms: AtomicI64,
    is_backed: AtomicBool,
}

/// Trusts the system clock as it is now.
impl From<Clock> for UnixClock {
    fn from(clock: Clock) -> UnixClock {
        let unix = UnixClock {
            clock,
            shared: Arc::new(Shared {
                start_ms: AtomicI64::new(0),
                is_backed: AtomicBool::new(false),
            }),
        };
        unix.trust(clock.unix_millis(), false);
        unix
    }
}

impl UnixClock {
    /// What the system clock says, in milliseconds.
    pub fn system_ms(&self) -> u64 {
        self.clock.unix_millis()
    }

    /// The time that is trusted, in milliseconds: the last that was, and what has passed since by the monotonic clock.
    pub fn trusted_ms(&self) -> u64 {
        let start_ms = self.shared.start_ms.load(Ordering::Relaxed);
        start_ms
            .saturating_add_unsigned(self.since_start_ms())
            .max(0) as u64
    }

    /// Both times as they are now.
    pub fn read(&self) -> UnixMs {
        let is_backed = self.shared.is_backed.load(Ordering::Relaxed);
        UnixMs::of(self.system_ms(), self.trusted_ms(), is_backed)
    }

    /// The time that dates what is sent now, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.read().now
    }

    /// From now on it is `now_ms` that is trusted; whether other clocks confirm it.
    pub fn trust(&self, now_ms: u64, is_backed: bool) {
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let start_ms = now_ms.saturating_sub_unsigned(self.since_start_ms());
        self.shared.start_ms.store(start_ms, Ordering::Relaxed);
        self.shared.is_backed.store(is_backed, Ordering::Relaxed);
    }

    fn since_start_ms(&self) -> u64 {
        let passed = self.clock.now().since_start().as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_MS: u64 = 1_900_000_000_000;
    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn a_jump_ahead_makes_nothing_old_and_dates_nothing_when_others_confirm_the_time_before_it() {
        let jumped = NOW_MS + 40 * DAY_MS;
        let alone = UnixMs::of(jumped, NOW_MS, false);
        assert_eq!(
            (alone.now, alone.aging),
            (jumped, NOW_MS + MAX_CLOCK_STEP_MS)
        );
        assert_eq!(UnixMs::of(jumped, NOW_MS, true).now, NOW_MS);
        // Set back, less is old; and a small step is followed.
        let behind = UnixMs::of(NOW_MS - DAY_MS, NOW_MS, false);
        assert_eq!(
            (behind.now, behind.aging),
            (NOW_MS - DAY_MS, NOW_MS - DAY_MS)
        );
        assert_eq!(
            UnixMs::of(NOW_MS + 1000, NOW_MS, true),
            UnixMs::from(NOW_MS + 1000)
        );
    }

    #[test]
    fn what_is_trusted_moves_with_the_monotonic_clock() {
        let clock = UnixClock::from(Clock::start());
        assert!(clock.system_ms().abs_diff(clock.trusted_ms()) < 1000);
        let other = clock.clone();
        other.trust(NOW_MS, true);
        assert!((NOW_MS..NOW_MS + 1000).contains(&clock.trusted_ms()));
        other.trust(0, false);
        assert!(clock.trusted_ms() < 1000 && clock.read().aging < MAX_CLOCK_STEP_MS + 1000);
        other.trust(u64::MAX, false);
        assert_eq!(
            clock.read().aging,
            clock.system_ms().min(clock.read().aging)
        );
    }

    proptest! {
        #[test]
        fn age_is_never_counted_from_a_time_that_neither_the_system_nor_the_trusted_clock_has_reached(
            system: u64,
            trusted: u64,
            is_backed: bool,
        ) {
            let times = UnixMs::of(system, trusted, is_backed);
            prop_assert!(times.aging <= system);
            prop_assert!(times.aging <= trusted.saturating_add(MAX_CLOCK_STEP_MS));
            prop_assert!(times.now == system || times.now == trusted && is_backed);
        }
    }
}
