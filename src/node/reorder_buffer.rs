//! In which order batches reach the application: an author's events as they were sent, without
//! waiting long for one that is missing.
//!
//! Entry type: [`Order`]. The rules it keeps: what arrives is delivered, each once; a batch waits
//! for the ones before it for at most [`GAP_WAIT`], and [`COMING_WAIT`] when they are on their way;
//! what comes after its successors is delivered all the same, and says so. That nothing arrives twice is the log's promise: only what it called
//! [`crate::model::Outcome::New`] is handed to an `Order`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::clock::Time;
use crate::model::AuthorStream;

#[cfg(test)]
mod tests;

/// How long a batch waits for those before it. Long enough for the other ways through the mesh,
/// which differ by some ten milliseconds, and for a fetch from a neighbour; short enough that a
/// reader hardly notices. A guess.
pub(crate) const GAP_WAIT: Duration = Duration::from_millis(300);

/// How long a batch waits for those before it that may be on their way: a large one takes a while over a
/// slow link, and what its author says about it just after that is small. A guess.
pub(crate) const COMING_WAIT: Duration = Duration::from_secs(60);

/// Streams that are remembered; past this the one that was quiet longest is forgotten, and the log
/// says again whether its next batch follows.
const STREAMS_MOST: usize = 4096;

/// Batches of one stream that may wait at once; one more, and the gap is given up.
const WAITING_MOST: usize = 256;

/// Bytes that may wait in all; past this every gap is given up.
const WAITING_BYTES_MOST: usize = 16 << 20;

/// A batch to be put in order.
#[derive(Clone, Debug)]
pub(crate) struct Arrival<T> {
    /// Whose it is.
    pub(crate) stream: AuthorStream,
    /// The number of its first event.
    pub(crate) first_seq: u64,
    /// How many events it holds.
    pub(crate) count: u64,
    /// Whether the log holds the batch before it, or there is none ([`crate::model::Outcome::New`]).
    pub(crate) follows: bool,
    /// The bytes it takes while it waits.
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

/// Puts the batches of all streams in order.
#[derive(Debug)]
pub(crate) struct Order<T> {
    streams: HashMap<AuthorStream, Progress<T>>,
    /// When the next batch's patience ends, and whose it is.
    deadlines: BTreeMap<(Time, u64), AuthorStream>,
    /// The streams by when they were last used.
    by_use: BTreeMap<u64, AuthorStream>,
    waiting_bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Progress<T> {
    /// The number of the event that is due next.
    next_seq: u64,
    /// Whether anything of it was delivered since it is known.
    delivered: bool,
    /// What waits, by its first number.
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

impl<T> Default for Order<T> {
    fn default() -> Order<T> {
        Order::new()
    }
}

impl<T> Order<T> {
    /// With no stream known.
    pub(crate) fn new() -> Order<T> {
        Order {
            streams: HashMap::new(),
            deadlines: BTreeMap::new(),
            by_use: BTreeMap::new(),
            waiting_bytes: 0,
            uses: 0,
        }
    }

    /// Takes a batch that the log stored as new, and delivers what is due now.
    pub(crate) fn arrived(&mut self, now: Time, arrival: Arrival<T>, out: &mut Vec<Delivery<T>>) {
        let Arrival {
            stream,
            first_seq,
            count,
            follows,
            size,
            item,
        } = arrival;
        let end_seq = first_seq.saturating_add(count);
        self.uses += 1;
        let used = self.uses;
        let progress = self
            .streams
            .entry(stream.clone())
            .or_insert_with(|| Progress {
                // A stream that is not known, with its last batch in the log, was delivered up to there.
                // Otherwise what is missing is given the same chance as any gap.
                next_seq: if follows { first_seq } else { 1 },
                delivered: false,
                waiting: BTreeMap::new(),
                used,
                deadline: None,
            });
        self.by_use.remove(&progress.used);
        progress.used = used;
        self.by_use.insert(used, stream.clone());

        if follows && !progress.delivered && !progress.waits_until(first_seq) {
            // What it follows was delivered before this stream was known here.
            self.waiting_bytes -= progress.give_up_before(first_seq, out);
            progress.next_seq = progress.next_seq.max(first_seq);
        }
        if first_seq < progress.next_seq {
            out.push(Delivery { item, late: true });
        } else if first_seq == progress.next_seq {
            progress.next_seq = end_seq;
            progress.delivered = true;
            out.push(Delivery { item, late: false });
            self.waiting_bytes -= progress.release(out);
        } else {
            self.waiting_bytes += size;
            progress.waiting.insert(
                first_seq,
                Waiting {
                    end_seq,
                    since: now,
                    size,
                    item,
                },
            );
            if progress.waiting.len() > WAITING_MOST {
                self.waiting_bytes -= progress.give_up_first_gap(out);
            }
        }
        self.set_deadline(&stream);
        if self.waiting_bytes > WAITING_BYTES_MOST {
            self.give_up_all(out);
        }
        if self.streams.len() > STREAMS_MOST {
            self.forget_one(out);
        }
    }

    /// Delivers what has waited long enough.
    pub(crate) fn expire(&mut self, now: Time, out: &mut Vec<Delivery<T>>) {
        self.expire_unless(now, |_| false, out);
    }

    /// The same, but what is before a batch of which this holds may be on its way.
    pub(crate) fn expire_unless(
        &mut self,
        now: Time,
        is_coming: impl Fn(&T) -> bool,
        out: &mut Vec<Delivery<T>>,
    ) {
        while let Some(entry) = self.deadlines.first_entry()
            && entry.key().0 <= now
        {
            let stream = entry.remove();
            if let Some(progress) = self.streams.get_mut(&stream) {
                if progress.waits_on(now, &is_coming) {
                    let key = (now + GAP_WAIT, progress.used);
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

    /// When [`Order::expire`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.deadlines.keys().next().map(|(time, _)| *time)
    }

    /// How many batches wait.
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
            let key = (since + GAP_WAIT, progress.used);
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
    /// Delivers what waited for the batch just delivered; returns the bytes that wait no more.
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

    /// Whether a waiting batch ends where the batch with this first number begins.
    fn waits_until(&self, first_seq: u64) -> bool {
        let before = self.waiting.range(..first_seq).next_back();
        before.is_some_and(|(_, waiting)| waiting.end_seq == first_seq)
    }

    /// Whether what is before the first waiting batch is still waited for, because it is on its way.
    fn waits_on(&self, now: Time, is_coming: impl Fn(&T) -> bool) -> bool {
        let since = self.waiting.values().map(|waiting| waiting.since).min();
        let first = self.waiting.values().next();
        since.is_some_and(|since| now < since + COMING_WAIT)
            && first.is_some_and(|first| is_coming(&first.item))
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
