//! Times as they are written: RFC 3339 in UTC, with milliseconds.
//!
//! Entry type: [`TimestampFormatter`]. The rule it keeps: a stamp is made at most once a millisecond, however
//! many lines want it.

use std::fmt::Write;

use jiff::Timestamp;

/// Formats times for JSON lines, and caches the last one.
#[derive(Debug, Default)]
pub(crate) struct TimestampFormatter {
    millis: i64,
    text: String,
}

impl TimestampFormatter {
    /// Returns the current time.
    pub(crate) fn now(&mut self) -> &str {
        self.at(Timestamp::now().as_millisecond())
    }

    /// Returns a time given in Unix milliseconds.
    pub(crate) fn at(&mut self, millis: i64) -> &str {
        if self.text.is_empty() || self.millis != millis {
            self.millis = millis;
            self.text.clear();
            // A time that no calendar has is written as the last one.
            let time = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
            let _ = write!(self.text, "{time:.3}");
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_milliseconds_and_no_zone_but_utc() {
        let mut stamp = TimestampFormatter::default();
        assert_eq!(stamp.at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(stamp.at(1_700_000_000_120), "2023-11-14T22:13:20.120Z");
        assert!(stamp.at(i64::MAX).ends_with('Z'));
    }
}
