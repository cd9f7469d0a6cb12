//! The reorder buffer: batches reach the application in the order in which their author sent them, without a long wait for a
//! missing one.
//!
//! Entry type: [`ReorderBuffer`], pure. The rules it keeps: every batch is delivered once. A batch waits for earlier ones for at
//! most [`GAP_TIMEOUT`], or [`IN_FLIGHT_TIMEOUT`] when they are in flight. A batch that arrives after its successors is
//! delivered as a late one. The log excludes duplicates: only a batch with [`crate::model::Outcome::New`] may be inserted.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::clock::Time;
use crate::model::AuthorStream;

#[cfg(test)]
mod tests;

/// Maximum time that a batch waits for earlier ones. Long enough for the other paths through the mesh, which differ by some
/// ten milliseconds, and for a fetch from a neighbour; short enough that a reader hardly notices. A guess.
pub(crate) const GAP_TIMEOUT: Duration = Duration::from_millis(300);

/// Maximum time that a batch waits for earlier ones that may be in flight: a large batch takes a while over a slow link, and
/// its author's next message is often small. A guess.
pub(crate) const IN_FLIGHT_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum number of remembered streams. Past it the least recently used one is forgotten, and the log says whether its next
/// batch follows.
const MAX_STREAMS: usize = 4096;

/// Maximum number of waiting batches of one stream. Past it the first gap is given up.
const MAX_WAITING: usize = 256;

/// Maximum number of waiting bytes in all. Past it every gap is given up.
const MAX_WAITING_BYTES: usize = 16 << 20;

/// A batch for the buffer.
#[derive(Clone, Debug)]
pub(crate) struct Arrival<T> {
    /// The stream to which it belongs.
    pub(crate) stream: AuthorStream,
    /// The number of its first event.
    pub(crate) first_seq: u64,
    /// The number of its events.
    pub(crate) count: u64,
    /// Whether the log holds the batch before it, or there is none ([`crate::model::Outcome::New`]).
    pub(crate) follows: bool,
    /// Its size in memory, in bytes.
    pub(crate) size: usize,
    /// The batch itself.
    pub(crate) item: T,
}

/// A batch for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery<T> {
    /// The batch.
    pub(crate) item: T,
    /// Whether events sent after it were delivered before it.
    pub(crate) late: bool,
}

/// The reorder buffer of all streams.
#[derive(Debug)]
pub(crate) struct ReorderBuffer<T> {
    streams: HashMap<AuthorStream, Progress<T>>,
    /// The streams with waiting batches, by the time at which their first gap is given up.
    deadlines: BTreeMap<(Time, u64), AuthorStream>,
    /// The streams, the least recently used first.
    by_use: BTreeMap<u64, AuthorStream>,
    waiting_bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Progress<T> {
    /// The number of the event that is due next.
    next_seq: u64,
    /// Whether a batch of it was delivered since it is known.
    delivered: bool,
    /// Waiting batches, by their first number.
    waiting: BTreeMap<u64, Waiting<T>>,
    used: u64,
    deadline: Option<(Time, u64)>,
}

#[derive(Debug)]
struct Waiting<T> {
    end_seq: u64,
    since: Time,
    size: usize,
    item: T,
}

impl<T> Default for ReorderBuffer<T> {
    fn default() -> ReorderBuffer<T> {
        ReorderBuffer::new()
    }
}

impl<T> ReorderBuffer<T> {
    /// Returns an empty buffer.
    pub(crate) fn new() -> ReorderBuffer<T> {
        ReorderBuffer {
            streams: HashMap::new(),
            deadlines: BTreeMap::new(),
            by_use: BTreeMap::new(),
            waiting_bytes: 0,
            uses: 0,
        }
    }

    /// Inserts a batch that the log stored as new, and delivers the batches that are in order now.
    pub(crate) fn insert(&mut self, now: Time, arrival: Arrival<T>, out: &mut Vec<Delivery<T>>) {
        let Arrival {
            stream,
            first_seq,
            count,
            follows,
            size,
            item,
        } = arrival;
        let end_seq = first_seq.saturating_add(count);
        // The log has delivered an unknown stream up to its last batch there. Otherwise the missing batches are a gap as any.
        let next_seq = if follows { first_seq } else { 1 };
        let (mut added, mut freed) = (0, 0);
        let progress = self.touch(&stream, next_seq);
        if follows && !progress.delivered && !progress.waits_until(first_seq) {
            // The batch before it was delivered before this stream was known here.
            freed += progress.give_up_before(first_seq, out);
            progress.next_seq = progress.next_seq.max(first_seq);
        }
        if first_seq < progress.next_seq {
            out.push(Delivery { item, late: true });
        } else if first_seq == progress.next_seq {
            progress.next_seq = end_seq;
            progress.delivered = true;
            out.push(Delivery { item, late: false });
            freed += progress.release(out);
        } else {
            added = size;
            progress.waiting.insert(
                first_seq,
                Waiting {
                    end_seq,
                    since: now,
                    size,
                    item,
                },
            );
            if progress.waiting.len() > MAX_WAITING {
                freed += progress.give_up_first_gap(out);
            }
        }
        self.waiting_bytes = self.waiting_bytes + added - freed;
        self.set_deadline(&stream);
        if self.waiting_bytes > MAX_WAITING_BYTES {
            self.give_up_all(out);
        }
        if self.streams.len() > MAX_STREAMS {
            self.forget_one(out);
        }
    }

    /// Returns the progress of a stream, which is now the most recently used one. `next_seq` is that of a new stream.
    fn touch(&mut self, stream: &AuthorStream, next_seq: u64) -> &mut Progress<T> {
        self.uses += 1;
        let used = self.uses;
        self.by_use.insert(used, stream.clone());
        let progress = self
            .streams
            .entry(stream.clone())
            .or_insert_with(|| Progress {
                next_seq,
                delivered: false,
                waiting: BTreeMap::new(),
                used,
                deadline: None,
            });
        if progress.used != used {
            self.by_use.remove(&progress.used);
            progress.used = used;
        }
        progress
    }

    /// Delivers the batches that have waited long enough.
    pub(crate) fn expire(&mut self, now: Time, out: &mut Vec<Delivery<T>>) {
        self.expire_unless(now, |_| false, out);
    }

    /// Delivers the batches that have waited long enough. Where `is_fetch_pending` holds for the first waiting batch of a stream, the
    /// earlier ones may be in flight, and it waits longer.
    pub(crate) fn expire_unless(
        &mut self,
        now: Time,
        is_fetch_pending: impl Fn(&T) -> bool,
        out: &mut Vec<Delivery<T>>,
    ) {
        while let Some(entry) = self.deadlines.first_entry()
            && entry.key().0 <= now
        {
            let stream = entry.remove();
            if let Some(progress) = self.streams.get_mut(&stream) {
                if progress.waits_on(now, &is_fetch_pending) {
                    let key = (now + GAP_TIMEOUT, progress.used);
                    progress.deadline = Some(key);
                    self.deadlines.insert(key, stream);
                    continue;
                }
                progress.deadline = None;
                self.waiting_bytes -= progress.give_up_first_gap(out);
            }
            self.set_deadline(&stream);
        }
    }

    /// Returns when [`ReorderBuffer::expire`] is next due.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.deadlines.keys().next().map(|(time, _)| *time)
    }

    /// Returns the number of waiting batches.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.streams
            .values()
            .map(|progress| progress.waiting.len())
            .sum()
    }

    fn set_deadline(&mut self, stream: &AuthorStream) {
        let Some(progress) = self.streams.get_mut(stream) else {
            return;
        };
        if let Some(old) = progress.deadline.take() {
            self.deadlines.remove(&old);
        }
        if let Some(since) = progress.waiting.values().map(|waiting| waiting.since).min() {
            let key = (since + GAP_TIMEOUT, progress.used);
            progress.deadline = Some(key);
            self.deadlines.insert(key, stream.clone());
        }
    }

    fn give_up_all(&mut self, out: &mut Vec<Delivery<T>>) {
        self.deadlines.clear();
        for progress in self.streams.values_mut() {
            progress.deadline = None;
            progress.give_up(out);
        }
        self.waiting_bytes = 0;
    }

    fn forget_one(&mut self, out: &mut Vec<Delivery<T>>) {
        let Some((_, stream)) = self.by_use.pop_first() else {
            return;
        };
        if let Some(mut progress) = self.streams.remove(&stream) {
            if let Some(deadline) = progress.deadline {
                self.deadlines.remove(&deadline);
            }
            self.waiting_bytes -= progress.give_up(out);
        }
    }
}

impl<T> Progress<T> {
    /// Delivers the batches that follow the one just delivered. Returns their bytes.
    fn release(&mut self, out: &mut Vec<Delivery<T>>) -> usize {
        let mut freed = 0;
        while let Some(entry) = self.waiting.first_entry()
            && *entry.key() == self.next_seq
        {
            let waiting = entry.remove();
            self.next_seq = waiting.end_seq;
            self.delivered = true;
            freed += waiting.size;
            out.push(Delivery {
                item: waiting.item,
                late: false,
            });
        }
        freed
    }

    /// Returns whether a waiting batch ends where the batch with this first number begins.
    fn waits_until(&self, first_seq: u64) -> bool {
        let before = self.waiting.range(..first_seq).next_back();
        before.is_some_and(|(_, waiting)| waiting.end_seq == first_seq)
    }

    /// Returns whether the first waiting batch waits longer, because earlier ones are in flight.
    fn waits_on(&self, now: Time, is_fetch_pending: impl Fn(&T) -> bool) -> bool {
        let since = self.waiting.values().map(|waiting| waiting.since).min();
        let first = self.waiting.values().next();
        since.is_some_and(|since| now < since + IN_FLIGHT_TIMEOUT)
            && first.is_some_and(|first| is_fetch_pending(&first.item))
    }

    fn give_up_before(&mut self, seq: u64, out: &mut Vec<Delivery<T>>) -> usize {
        let mut freed = 0;
        while self.waiting.keys().next().is_some_and(|first| *first < seq) {
            freed += self.give_up_first_gap(out);
        }
        freed
    }

    fn give_up_first_gap(&mut self, out: &mut Vec<Delivery<T>>) -> usize {
        if let Some(first) = self.waiting.keys().next() {
            self.next_seq = *first;
        }
        self.release(out)
    }

    fn give_up(&mut self, out: &mut Vec<Delivery<T>>) -> usize {
        let mut freed = 0;
        while !self.waiting.is_empty() {
            freed += self.give_up_first_gap(out);
        }
        freed
    }
}
