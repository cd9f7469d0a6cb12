//! How often is told what others can bring about as often as they like: they must not flood the application,
//! nor the log that people read.
//!
//! Entry type: [`Ration`]. The rule it keeps: a bounded number of lines, and the number of those
//! left out is logged.

use std::time::Duration;

use crate::clock::Time;

/// Lines that are told at once before the rate holds.
const BURST: f64 = 50.0;
/// Lines a second.
const PER_SECOND: f64 = 5.0;
/// How often the log says how many were left out.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Counts what is told of one kind.
#[derive(Debug)]
pub(crate) struct Ration {
    what: &'static str,
    tokens: f64,
    at: Time,
    left_out: u64,
    logged: Time,
}

impl Ration {
    /// Of `what`, in the plural.
    pub(crate) fn of(what: &'static str) -> Ration {
        Ration {
            what,
            tokens: BURST,
            at: Time::ZERO,
            left_out: 0,
            logged: Time::ZERO,
        }
    }

    /// Whether the application is told of one that happens now.
    pub(crate) fn may_tell(&mut self, now: Time) -> bool {
        let refilled = self.tokens + now.since(self.at).as_secs_f64() * PER_SECOND;
        self.tokens = refilled.min(BURST);
        self.at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return true;
        }
        self.left_out += 1;
        if now.since(self.logged) >= LOG_EVERY {
            tracing::warn!("{} {} were not told one by one", self.left_out, self.what);
            (self.logged, self.left_out) = (now, 0);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_at_a_bounded_rate() {
        let mut ration = Ration::of("refused connections");
        let told = (0..10_000)
            .filter(|i| ration.may_tell(Time::from_millis(*i)))
            .count();
        assert!((95..=105).contains(&told), "{told} in 10 s");
    }
}
