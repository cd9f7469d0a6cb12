//! Unix time of a node: the system clock, guarded against jumps.
//!
//! Entry type: [`UnixClock`]. The rule it keeps: ages are computed from a time that moves with the monotonic clock, so that
//! a jump of the system clock expires nothing before the jump is confirmed ([`UnixClock::trust`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::Clock;

/// Maximum difference, in milliseconds, between the system clock and the trusted time before one of them is in doubt: as
/// much as a message may be dated ahead of its reader's clock. A smaller step of the system clock is followed silently.
pub const MAX_CLOCK_STEP_MS: u64 = 300_000;

/// The current Unix time in milliseconds, for dates and for ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixMs {
    /// Date of messages that are sent now; the dates of other nodes are compared with it.
    pub now: u64,
    /// Time from which ages are computed. A clock in doubt does not move it ahead.
    pub aging: u64,
}

/// Both times of a clock that is not in doubt: they are equal.
impl From<u64> for UnixMs {
    fn from(now: u64) -> UnixMs {
        UnixMs { now, aging: now }
    }
}

impl UnixMs {
    /// Returns the times for the system clock's `system` and the trusted time `trusted`. `is_backed` means that the clocks
    /// of other nodes confirm the trusted time.
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

/// The system clock, and the trusted time that bridges its jumps. Clones share the trusted time.
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

/// Trusts the current time of the system clock.
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
    /// Returns the time of the system clock in milliseconds.
    pub fn system_ms(&self) -> u64 {
        self.clock.unix_millis()
    }

    /// Returns the trusted time in milliseconds: the last one that was set, plus the monotonic time since.
    pub fn trusted_ms(&self) -> u64 {
        let start_ms = self.shared.start_ms.load(Ordering::Relaxed);
        start_ms
            .saturating_add_unsigned(self.since_start_ms())
            .max(0) as u64
    }

    /// Returns the current times for dates and for ages.
    pub fn read(&self) -> UnixMs {
        let is_backed = self.shared.is_backed.load(Ordering::Relaxed);
        UnixMs::of(self.system_ms(), self.trusted_ms(), is_backed)
    }

    /// Returns the date of messages that are sent now, in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.read().now
    }

    /// Sets the trusted time to `now_ms`. `is_backed` means that the clocks of other nodes confirm it.
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
        // A clock that is set back makes less old, and a small step is followed.
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
    fn the_trusted_time_moves_with_the_monotonic_clock() {
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
