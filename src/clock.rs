//! Time as the state machines see it: a [`Time`] that only grows, and a Unix
//! time in milliseconds for what is written on the wire.
//!
//! Entry types: [`Clock`], [`UnixClock`]. The rule it keeps: nothing above reads the system's
//! clocks by itself, so that every state machine also runs in virtual time.

mod unix;

use std::ops::{Add, AddAssign, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use unix::{MAX_CLOCK_STEP_MS, UnixClock, UnixMs};

/// A moment on a clock that never goes back, counted from when its [`Clock`] started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// When the clock started.
    pub const ZERO: Time = Time(Duration::ZERO);

    /// The moment `millis` milliseconds after the clock started.
    pub const fn from_millis(millis: u64) -> Time {
        Time(Duration::from_millis(millis))
    }

    /// How long after the clock's start this is.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this; zero when `earlier` is later.
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

/// The system's clocks, read in one place.
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

    /// Now.
    pub fn now(&self) -> Time {
        Time(self.start.elapsed())
    }

    /// `time` as the instant that timers of the runtime take.
    pub fn instant(&self, time: Time) -> Instant {
        self.start + time.0
    }

    /// Unix time in milliseconds; zero when the system's clock stands before 1970.
    pub fn unix_millis(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as u64)
    }
}

/// A time in its two largest units: `12 s`, `1 min 5 s`, `2 h 0 min`, `3 d 4 h`, `56 y 332 d`.
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

/// [`span`] of a number of milliseconds.
pub(crate) fn span_ms(millis: u64) -> String {
    span(Duration::from_millis(millis))
}
