//! How many large answers are on their way to neighbours at once: on a quick line as many as are asked for,
//! on a slow one a batch after the other, each to somebody else.
//!
//! Entry type: [`UploadScheduler`]. Five neighbours that fetch the same batch over one slow line get it five times later
//! than one that then passes it on. The rules it keeps: a second's worth of what the line carries may be on
//! its way, and one answer in any case; a neighbour that does not take its answer holds the others up for a
//! bounded time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::event::RequestId;
use super::throughput::ThroughputEstimator;
use crate::clock::Time;
use crate::model::Id;

/// A line that carries less than this in a second is slow: two of the largest batches.
const SLOW_BYTES_PER_SECOND: u64 = 2 << 20;

/// On a slow line a batch is given to another neighbour only so long after the first one has it: that one
/// passes it on meanwhile.
const RELAY_DELAY: Duration = Duration::from_secs(2);

/// Batches that are remembered as given recent.
const MAX_RECENT: usize = 64;

/// An answer that is not taken in twice the time that is expected, and this, is not waited for.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(4);

/// The same before anything was measured: a mebibyte in that time is 0.8 Mbit/s.
const UNMEASURED_UPLOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// No answer is waited for longer.
const MAX_UPLOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a neighbour is put off, at least and at most.
const MIN_DEFERRAL: Duration = Duration::from_millis(100);

/// Longest deferral.
const MAX_DEFERRAL: Duration = Duration::from_secs(1);

/// The large answers to neighbours `P`.
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
    /// The offered batch, if it is one.
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

    /// For how long `peer`, which fetches so much, is to be put off, if it is: an offered batch of this id, or
    /// others.
    pub(super) fn deferral(
        &self,
        now: Time,
        peer: &P,
        id: Option<&Id>,
        bytes: usize,
    ) -> Option<Duration> {
        let mut of_peer = self.uploads.values().filter(|it| it.peer == *peer);
        if of_peer.any(|upload| upload.overdue_at <= now) {
            // It does not take what it has asked for before.
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
            // As long again as it has taken so far.
            false => longest,
        };
        is_full.then(|| takes.clamp(MIN_DEFERRAL, MAX_DEFERRAL))
    }

    /// An answer of so many bytes sets out, or is about to, with an offered batch or without; by when it should
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

    /// An answer was sent; to whom.
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

    /// What was about to set out does not, is small, or could not be sent; to whom it would have gone.
    pub(super) fn cancel(&mut self, request: RequestId) -> Option<P> {
        Some(self.uploads.remove(&request)?.peer)
    }

    /// A link is down.
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

    /// One whose line takes so long for a mebibyte.
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
    fn a_quick_line_puts_nobody_off() {
        let (mut scheduler, now) = measured(10);
        for n in 0..10 {
            assert_eq!(scheduler.deferral(now, &77, Some(&id(1)), MIB), None, "{n}");
            scheduler.begin(now, n, 100 + u64::from(n), Some(id(1)), MIB);
        }
    }

    #[test]
    fn a_slow_line_brings_one_batch_after_the_other_and_the_same_to_another_only_later() {
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
    fn who_does_not_take_its_answer_holds_the_others_up_for_a_while_only() {
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
    fn who_is_gone_holds_nobody_up() {
        let (mut scheduler, now) = measured(4_000);
        scheduler.begin(now, 1, 100, Some(id(1)), MIB);
        scheduler.forget(&1);
        assert_eq!(scheduler.deferral(now, &77, Some(&id(1)), MIB), None);
    }

    #[test]
    fn a_line_that_becomes_slow_is_found_slow_with_the_next_batch() {
        let (mut scheduler, mut now) = measured(10);
        scheduler.begin(now, 1, 100, None, MIB);
        now += Duration::from_secs(4);
        scheduler.finish(now, 100);
        scheduler.begin(now, 1, 101, None, MIB);
        assert!(scheduler.deferral(now, &77, Some(&id(2)), MIB).is_some());
    }
}
