//! Upload scheduler: decides how many large responses are sent at once. A quick link sends all that are requested; a
//! slow one sends one batch after the other, each to a different neighbour. Five neighbours that fetch the same batch
//! over one slow link get it five times later than one that then relays it.
//!
//! Entry type: [`UploadScheduler`]. The rules it keeps: the responses in flight take a second of the link's throughput,
//! and one response is always allowed; a neighbour that does not take its response delays the others for a bounded
//! time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::event::RequestId;
use super::throughput::ThroughputEstimator;
use crate::clock::Time;
use crate::model::Id;

/// Throughput below which a link is slow: two of the largest batches per second.
const SLOW_BYTES_PER_SECOND: u64 = 2 << 20;

/// Time after an upload over a slow link during which the same batch is not sent to another neighbour: the first one
/// relays it meanwhile.
const RELAY_DELAY: Duration = Duration::from_secs(2);

/// Maximum number of recent uploads that are remembered.
const MAX_RECENT: usize = 64;

/// Added to twice the expected time of an upload, this gives its timeout. Later, the upload no longer delays others.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(4);

/// Timeout of an upload before any throughput was measured: a mebibyte at 0.8 Mbit/s.
const UNMEASURED_UPLOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum timeout of an upload.
const MAX_UPLOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Shortest deferral of a request.
const MIN_DEFERRAL: Duration = Duration::from_millis(100);

/// Longest deferral of a request.
const MAX_DEFERRAL: Duration = Duration::from_secs(1);

/// The uploads to neighbours `P`.
#[derive(Debug)]
pub(super) struct UploadScheduler<P> {
    uploads: BTreeMap<RequestId, Upload<P>>,
    throughput: ThroughputEstimator,
    recent: VecDeque<(Time, Id)>,
}

#[derive(Debug)]
struct Upload<P> {
    peer: P,
    bytes: u64,
    /// The id, if it is an announced batch.
    id: Option<Id>,
    since: Time,
    overdue_at: Time,
}

impl<P: PartialEq> UploadScheduler<P> {
    pub(super) fn new() -> UploadScheduler<P> {
        UploadScheduler {
            uploads: BTreeMap::new(),
            throughput: ThroughputEstimator::new(),
            recent: VecDeque::new(),
        }
    }

    /// Returns how long a fetch of `peer` is to be deferred, if at all; `id` is the batch if it is an announced one.
    pub(super) fn deferral(
        &self,
        now: Time,
        peer: &P,
        id: Option<&Id>,
        bytes: usize,
    ) -> Option<Duration> {
        let mut of_peer = self.uploads.values().filter(|it| it.peer == *peer);
        if of_peer.any(|upload| upload.overdue_at <= now) {
            // It has not taken an earlier response.
            return Some(MAX_DEFERRAL);
        }
        let mut awaited = self.awaited(now).peekable();
        if awaited.peek().is_none() {
            let mut recent = self.recent.iter().filter(|(at, _)| now < *at + RELAY_DELAY);
            let was_given = self.throughput.bytes_per_second() < SLOW_BYTES_PER_SECOND
                && recent.any(|(_, given)| Some(given) == id);
            return was_given.then_some(MAX_DEFERRAL / 2);
        }
        let (mut ahead, mut longest) = (0, Duration::ZERO);
        for upload in awaited {
            ahead += upload.bytes;
            longest = longest.max(now.since(upload.since));
        }
        let is_full = ahead + bytes as u64 > self.throughput.bytes_per_second();
        let takes = match self.throughput.is_measured() {
            true => self.throughput.time_for(ahead),
            // Assume that it takes as long again as so far.
            false => longest,
        };
        is_full.then(|| takes.clamp(MIN_DEFERRAL, MAX_DEFERRAL))
    }

    /// Begins an upload of this many bytes, with an announced batch or without. Returns the time by which it should
    /// have arrived.
    pub(super) fn begin(
        &mut self,
        now: Time,
        peer: P,
        request: RequestId,
        id: Option<Id>,
        bytes: usize,
    ) -> Time {
        if self.awaited(now).next().is_none() {
            self.throughput.begin(now);
        }
        let bytes = bytes as u64;
        let ahead: u64 = self.awaited(now).map(|upload| upload.bytes).sum();
        let overdue_at = match self.throughput.is_measured() {
            true => self.throughput.time_for(ahead + bytes).saturating_mul(2) + UPLOAD_TIMEOUT,
            false => UNMEASURED_UPLOAD_TIMEOUT,
        };
        let overdue_at = now + overdue_at.min(MAX_UPLOAD_TIMEOUT);
        let upload = Upload {
            peer,
            bytes,
            id,
            since: now,
            overdue_at,
        };
        self.uploads.insert(request, upload);
        overdue_at
    }

    /// Ends an upload whose response was sent. Returns its receiver.
    pub(super) fn finish(&mut self, now: Time, request: RequestId) -> Option<P> {
        let upload = self.uploads.remove(&request)?;
        self.throughput.record(now, upload.bytes);
        if let Some(id) = upload.id {
            self.recent.push_back((now, id));
            let surplus = self.recent.len().saturating_sub(MAX_RECENT);
            self.recent.drain(..surplus);
        }
        Some(upload.peer)
    }

    /// Cancels an upload that is not sent, is small, or failed. Returns its receiver.
    pub(super) fn cancel(&mut self, request: RequestId) -> Option<P> {
        Some(self.uploads.remove(&request)?.peer)
    }

    /// Drops the uploads to a neighbour whose link is down.
    pub(super) fn forget(&mut self, peer: &P) {
        self.uploads.retain(|_, upload| upload.peer != *peer);
    }

    fn awaited(&self, now: Time) -> impl Iterator<Item = &Upload<P>> {
        self.uploads
            .values()
            .filter(move |upload| now < upload.overdue_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn id(n: u8) -> Id {
        [n; 32]
    }

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    /// Returns a scheduler on a link that takes this many milliseconds per mebibyte.
    fn measured(ms: u64) -> (UploadScheduler<u8>, Time) {
        let mut scheduler = UploadScheduler::new();
        let mut now = at(0);
        for n in 0..8 {
            scheduler.begin(now, 9, n, None, MIB);
            now += Duration::from_millis(ms);
            scheduler.finish(now, n);
        }
        (scheduler, now)
    }

    #[test]
    fn before_anything_is_measured_one_batch_goes_at_a_time() {
        let mut scheduler = UploadScheduler::new();
        assert_eq!(scheduler.deferral(at(0), &77, Some(&id(1)), MIB), None);
        scheduler.begin(at(0), 1, 1, Some(id(1)), MIB);
        let deferral = |ms| scheduler.deferral(at(ms), &77, Some(&id(2)), MIB);
        assert_eq!(
            deferral(1),
            Some(MIN_DEFERRAL),
            "it may be over in a moment"
        );
        assert_eq!(deferral(500), Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_quick_link_defers_no_request() {
        let (mut scheduler, now) = measured(10);
        for n in 0..10 {
            assert_eq!(scheduler.deferral(now, &77, Some(&id(1)), MIB), None, "{n}");
            scheduler.begin(now, n, 100 + u64::from(n), Some(id(1)), MIB);
        }
    }

    #[test]
    fn a_slow_link_sends_one_batch_after_the_other_and_the_same_to_another_only_later() {
        let (mut scheduler, now) = measured(4_000);
        scheduler.begin(now, 1, 100, Some(id(1)), MIB);
        let deferral = scheduler
            .deferral(now, &77, Some(&id(2)), MIB)
            .expect("one at a time");
        assert_eq!(deferral, MAX_DEFERRAL);
        let now = now + Duration::from_secs(4);
        scheduler.finish(now, 100);
        assert!(
            scheduler.deferral(now, &77, Some(&id(1)), MIB).is_some(),
            "it is passed on"
        );
        assert_eq!(scheduler.deferral(now, &77, Some(&id(2)), MIB), None);
        assert_eq!(
            scheduler.deferral(now + RELAY_DELAY, &77, Some(&id(1)), MIB),
            None
        );
    }

    #[test]
    fn a_neighbour_that_takes_no_response_delays_others_for_a_while_only() {
        let (mut scheduler, now) = measured(4_000);
        scheduler.begin(now, 1, 100, Some(id(1)), MIB);
        let just_before = now + Duration::from_millis(11_900);
        assert!(
            scheduler
                .deferral(just_before, &77, Some(&id(2)), MIB)
                .is_some()
        );
        let after = now + Duration::from_millis(12_100);
        assert_eq!(scheduler.deferral(after, &77, Some(&id(2)), MIB), None);
    }

    #[test]
    fn a_neighbour_that_is_gone_delays_no_other() {
        let (mut scheduler, now) = measured(4_000);
        scheduler.begin(now, 1, 100, Some(id(1)), MIB);
        scheduler.forget(&1);
        assert_eq!(scheduler.deferral(now, &77, Some(&id(1)), MIB), None);
    }

    #[test]
    fn a_link_that_becomes_slow_is_measured_as_slow_with_the_next_batch() {
        let (mut scheduler, mut now) = measured(10);
        scheduler.begin(now, 1, 100, None, MIB);
        now += Duration::from_secs(4);
        scheduler.finish(now, 100);
        scheduler.begin(now, 1, 101, None, MIB);
        assert!(scheduler.deferral(now, &77, Some(&id(2)), MIB).is_some());
    }
}
