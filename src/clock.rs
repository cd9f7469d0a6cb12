//! Clocks for the state machines: a monotonic [`Time`], and Unix time in milliseconds for messages.
//!
//! Entry types: [`Clock`], [`UnixClock`]. The rule it keeps: no other module reads the system's clocks, so that every state
//! machine also runs in virtual time.

mod unix;

use std::ops::{Add, AddAssign, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use unix::{MAX_CLOCK_STEP_MS, UnixClock, UnixMs};

/// A point in monotonic time, counted from the start of its [`Clock`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use diatribe::clock::Time;
///
/// let later = Time::ZERO + Duration::from_millis(1500);
/// assert_eq!(later, Time::from_millis(1500));
/// assert_eq!(Time::ZERO.since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// The start of the clock.
    pub const ZERO: Time = Time(Duration::ZERO);

    /// Returns the time `millis` milliseconds after the start of the clock.
    pub const fn from_millis(millis: u64) -> Time {
        Time(Duration::from_millis(millis))
    }

    /// Returns the time since the start of the clock.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// Returns the time from `earlier` to this; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, rhs: Duration) -> Time {
        Time(self.0.saturating_add(rhs))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Time> for Time {
    type Output = Duration;
    fn sub(self, rhs: Time) -> Duration {
        self.since(rhs)
    }
}

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts a clock at [`Time::ZERO`].
    pub fn start() -> Clock {
        Clock {
            start: Instant::now(),
        }
    }

    /// Returns the monotonic time since the clock was started.
    pub fn now(&self) -> Time {
        Time(self.start.elapsed())
    }

    /// Returns `time` as an [`Instant`] for the timers of the runtime.
    pub fn instant(&self, time: Time) -> Instant {
        self.start + time.0
    }

    /// Returns the system's Unix time in milliseconds; zero for a time before 1970.
    pub fn unix_millis(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as u64)
    }
}

/// Returns a duration in its two largest units: `12 s`, `1 min 5 s`, `2 h 0 min`, `3 d 4 h`, `56 y 332 d`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let days = seconds / 86_400;
    match (days, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) if days < 365 => format!("{days} d {hours} h"),
        (days, ..) => format!("{} y {} d", days / 365, days % 365),
    }
}

/// Returns a number of milliseconds in its two largest units, as [`span`] does.
pub(crate) fn span_ms(millis: u64) -> String {
    span(Duration::from_millis(millis))
}
