//! Where the part of a room begins that is kept and compared.
//!
//! Entry point: [`low_watermark_at`]. The rule it keeps: the log and the comparison of rooms have the same bounds.

use std::time::Duration;

/// How long ago the oldest batch is that a log keeps unless it is told otherwise: 30 days.
pub(crate) const DEFAULT_RETENTION_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The most items of one room that are compared: some 46 MiB of memory, 44 bytes an item that came in order and up to 70 of
/// one that did not. The log may hold more.
pub const MAX_ITEMS: usize = 1 << 20;

/// A room's horizon is at least so long ago, in milliseconds: twice as long as a clock may be ahead
/// ([`crate::gossip::MAX_AHEAD_MS`]). Whatever is sent now is taken, whatever others have sent.
pub const MIN_RETENTION_MS: u64 = 600_000;

/// What a room's horizon is at a time: a clock that was wrong may have set it too late.
pub(crate) fn low_watermark_at(low_watermark_ms: u64, now_ms: u64) -> u64 {
    low_watermark_ms.min(now_ms.saturating_sub(MIN_RETENTION_MS))
}
