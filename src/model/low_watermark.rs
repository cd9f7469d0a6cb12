//! Bounds of the retained and compared part of a room.
//!
//! Entry point: [`low_watermark_at`]. The rule it keeps: the log and anti-entropy use the same bounds.

use std::time::Duration;

/// Default retention age of a log: 30 days.
pub(crate) const DEFAULT_RETENTION_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Maximum number of items of one room that are compared. They take about 46 MiB of memory: 44 bytes for an item that
/// arrives in order and up to 70 for one that does not. The log may hold more.
pub const MAX_ITEMS: usize = 1 << 20;

/// Minimum age of a room's low watermark, in milliseconds: twice the allowed clock skew
/// ([`crate::gossip::MAX_AHEAD_MS`]), so that a batch sent now is accepted whatever other peers have sent.
pub const MIN_RETENTION_MS: u64 = 600_000;

/// Returns a room's low watermark at a time. A wrong clock may have set it too late, so it is capped at
/// [`MIN_RETENTION_MS`] before `now_ms`.
pub(crate) fn low_watermark_at(low_watermark_ms: u64, now_ms: u64) -> u64 {
    low_watermark_ms.min(now_ms.saturating_sub(MIN_RETENTION_MS))
}
