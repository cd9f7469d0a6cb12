//! The send window of one connection.
//!
//! Entry type: [`SendWindow`]. The rule it keeps: a window is full only while its link makes progress, so that a stalled
//! link delays nobody.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::sync::OwnPending;

/// Maximum number of bytes queued on a link before the publisher waits: a full batch, so that the link does not run dry
/// while the next one is signed. A larger window lets the links of a publisher drift apart, and neighbours then forward
/// batches to each other that are in flight already.
pub(super) const MAX_QUEUED: u64 = 256 * 1024;
/// Maximum number of announced bytes that a peer has not fetched before the publisher waits: while it fetches two
/// of the largest batches, others can fetch as many.
pub(super) const MAX_ANNOUNCED_BYTES: u64 = 6 << 20;
/// Minimum number of bytes that a message counts for, so that at most half of gossipsub's queue for a link is used:
/// that queue is bounded by the number of messages.
const MIN_COUNTED: u64 = MAX_QUEUED / 512;
/// A link without progress for this long is not waited for.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// The send window of one connection. Times are in milliseconds after `epoch`.
#[derive(Debug)]
pub(super) struct SendWindow {
    /// Bytes queued and not written yet; an estimate.
    queued: AtomicU64,
    /// Announced bytes that the peer has not fetched.
    announced: AtomicU64,
    /// Whether the peer still has to fetch a batch of our own, and the time until which that counts for [`OwnPending::WaitAtMost`].
    owed: Mutex<(OwnPending, u64)>,
    /// Number of streams with a blocked write.
    blocked: AtomicUsize,
    /// Time of the last progress on queued or announced data.
    progress_ms: AtomicU64,
    /// Time of the last read of a stream, or of the last write to one that had to wait; 0 before the first.
    activity_ms: AtomicU64,
    /// Time of the last large read of a stream; 0 before the first.
    large_read_ms: AtomicU64,
    epoch: Instant,
    /// Notified when the window was full and has room again.
    writable: Arc<Notify>,
}

impl SendWindow {
    /// Creates an empty window of a new connection.
    pub(super) fn new(writable: Arc<Notify>) -> SendWindow {
        SendWindow {
            queued: AtomicU64::new(0),
            announced: AtomicU64::new(0),
            owed: Mutex::new((OwnPending::Nothing, 0)),
            blocked: AtomicUsize::new(0),
            progress_ms: AtomicU64::new(0),
            activity_ms: AtomicU64::new(0),
            large_read_ms: AtomicU64::new(0),
            epoch: Instant::now(),
            writable,
        }
    }

    /// Counts the bytes of one message as queued.
    pub(super) fn add(&self, bytes: u64) {
        let bytes = bytes.max(MIN_COUNTED);
        if self.queued.fetch_add(bytes, Ordering::Relaxed) == 0 {
            self.note_progress();
        }
    }

    /// Subtracts bytes that were written; `u64::MAX` for all.
    pub(super) fn subtract(&self, bytes: u64) {
        let less = |queued: u64| Some(queued.saturating_sub(bytes));
        let before = self
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .unwrap_or(0);
        // The answer to a ping is no progress of a batch.
        let is_batch =
            (MIN_COUNTED..u64::MAX).contains(&bytes) && self.announced.load(Ordering::Relaxed) > 0;
        if before > 0 || is_batch {
            self.note_progress();
        }
        if before > MAX_QUEUED && before.saturating_sub(bytes) <= MAX_QUEUED {
            self.writable.notify_one();
        }
    }

    pub(super) fn set_announced(&self, bytes: u64, own: OwnPending) {
        let until_ms = match own {
            OwnPending::WaitAtMost(time) => millis(self.epoch.elapsed() + time),
            OwnPending::Announced | OwnPending::Nothing => 0,
        };
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let (owed_before, _) = std::mem::replace(&mut *owed, (own, until_ms));
        drop(owed);
        let before = self.announced.swap(bytes, Ordering::Relaxed);
        if bytes < before || before == 0 {
            self.note_progress();
        }
        let has_own = owed_before != OwnPending::Nothing && own == OwnPending::Nothing;
        if before > MAX_ANNOUNCED_BYTES && bytes <= MAX_ANNOUNCED_BYTES || has_own {
            self.writable.notify_one();
        }
    }

    pub(super) fn owes_own(&self) -> bool {
        let (owed, until_ms) = *self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        match owed {
            OwnPending::Nothing => false,
            OwnPending::Announced => !self.is_stalled(),
            OwnPending::WaitAtMost(_) => self.now_ms() < until_ms,
        }
    }

    /// Counts a stream as blocked or not any more.
    pub(super) fn set_blocked(&self, is_blocked: bool) {
        match is_blocked {
            true => self.blocked.fetch_add(1, Ordering::Relaxed),
            false => self.blocked.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Empties the queue, unless a stream is blocked: the handlers have written all they could.
    pub(super) fn on_muxer_poll(&self) {
        if self.blocked.load(Ordering::Relaxed) == 0 {
            self.subtract(u64::MAX);
        }
    }

    fn note_progress(&self) {
        self.progress_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    pub(super) fn note_large_read(&self) {
        self.large_read_ms
            .store(self.now_ms().max(1), Ordering::Relaxed);
    }

    pub(super) fn note_activity(&self) {
        self.activity_ms
            .store(self.now_ms().max(1), Ordering::Relaxed);
    }

    pub(super) fn is_in_use(&self, within: Duration) -> bool {
        self.is_since(&self.activity_ms, within)
    }

    pub(super) fn is_receiving(&self, within: Duration) -> bool {
        self.is_since(&self.large_read_ms, within)
    }

    fn is_since(&self, at_ms: &AtomicU64, within: Duration) -> bool {
        let at_ms = at_ms.load(Ordering::Relaxed);
        at_ms > 0 && self.now_ms().saturating_sub(at_ms) < millis(within)
    }

    pub(super) fn is_full(&self) -> bool {
        let has_enough = self.queued.load(Ordering::Relaxed) > MAX_QUEUED
            || self.announced.load(Ordering::Relaxed) > MAX_ANNOUNCED_BYTES;
        has_enough && !self.is_stalled()
    }

    fn is_stalled(&self) -> bool {
        let progress_ms = self.progress_ms.load(Ordering::Relaxed);
        u128::from(self.now_ms().saturating_sub(progress_ms)) >= STALL_TIMEOUT.as_millis()
    }

    fn now_ms(&self) -> u64 {
        millis(self.epoch.elapsed())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
