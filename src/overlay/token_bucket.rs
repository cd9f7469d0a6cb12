//! A token bucket: a burst at once, and a rate after that.
//!
//! Entry type: [`TokenBucket`]. The rule it keeps: in any minute it grants at most its burst and its rate together.

use std::time::Duration;

use crate::clock::Time;

/// A token bucket, full at first.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    size: f64,
    per_second: f64,
    level: f64,
    filled: Time,
}

impl TokenBucket {
    /// Returns a full bucket of `size`, refilled with `per_minute`.
    pub(crate) fn new(size: u32, per_minute: f64) -> TokenBucket {
        let size = f64::from(size);
        TokenBucket {
            size,
            per_second: per_minute / 60.0,
            level: size,
            filled: Time::ZERO,
        }
    }

    /// Returns the time of the next token, as seen at `now`.
    pub(crate) fn next_token_at(&self, now: Time) -> Time {
        let gained = now.since(self.filled).as_secs_f64() * self.per_second;
        let missing = 1.0 - (self.level + gained).min(self.size);
        if missing <= 0.0 {
            return now;
        }
        // A little later than due, so that rounding never makes it too early.
        now + Duration::from_secs_f64(missing / self.per_second) + Duration::from_millis(1)
    }

    /// Returns a token to the bucket.
    pub(crate) fn refund(&mut self) {
        self.level = (self.level + 1.0).min(self.size);
    }

    /// Takes a token. Returns whether there was one.
    pub(crate) fn try_take(&mut self, now: Time) -> bool {
        let gained = now.since(self.filled).as_secs_f64() * self.per_second;
        self.level = (self.level + gained).min(self.size);
        self.filled = self.filled.max(now);
        let granted = self.level >= 1.0;
        if granted {
            self.level -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_grants_its_size_at_once_and_then_its_rate() {
        let mut bucket = TokenBucket::new(8, 12.0);
        let granted = |bucket: &mut TokenBucket, second: u64| {
            (0..100)
                .filter(|_| bucket.try_take(Time::from_millis(second * 1000)))
                .count()
        };
        assert_eq!(granted(&mut bucket, 1), 8);
        assert_eq!(granted(&mut bucket, 3), 0);
        let next = bucket.next_token_at(Time::from_millis(3000));
        assert!(next > Time::from_millis(5000) && next < Time::from_millis(6100));
        assert_eq!(granted(&mut bucket, 6), 1);
        assert_eq!(granted(&mut bucket, 600), 8);
    }
}
