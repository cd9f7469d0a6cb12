//! Distribution of a node's events to their readers.
//!
//! Entry types: [`EventBus`], [`Events`]. The rules it keeps: every reader gets all events, each author's in one order; a
//! slow reader delays neither the node nor other readers, and reads from the log the messages that found no room; events
//! that a remote peer can trigger at will pass the rate limiter first.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures::Stream;

use super::Event;
use super::queue::Queue;
use super::rate_limit::{Cause, EventRateLimiter, Kind};
use super::resume::{MessageLog, Resume, Turn};
use crate::clock::{Clock, Time};

/// The sender of a node's events. Each reader gets all of them.
#[derive(Clone)]
pub(crate) struct EventBus {
    clock: Clock,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    limits: EventRateLimiter,
    /// The log with the messages, once there is one.
    log: Option<Arc<dyn MessageLog>>,
    readers: Vec<Weak<Mutex<Reader>>>,
    closed: bool,
}

#[derive(Default)]
struct Reader {
    queue: Queue,
    /// The log with the messages for which the queue has no room.
    log: Option<Arc<dyn MessageLog>>,
    closed: bool,
    waker: Option<Waker>,
}

impl EventBus {
    /// Returns a bus without readers.
    pub(crate) fn new(clock: Clock) -> EventBus {
        EventBus {
            clock,
            shared: Arc::new(Mutex::new(Shared {
                limits: EventRateLimiter::new(),
                log: None,
                readers: Vec::new(),
                closed: false,
            })),
        }
    }

    /// Removes the rate limit on links that go up and down.
    pub(crate) fn with_all_links(self) -> EventBus {
        lock(&self.shared).limits.disable_link_limit();
        self
    }

    /// Sets the log that has every message before it is emitted: slow readers continue from it.
    pub(crate) fn set_log(&self, log: Arc<dyn MessageLog>) {
        let mut shared = lock(&self.shared);
        for reader in shared.readers.iter().filter_map(Weak::upgrade) {
            lock(&reader).set_log(&log);
        }
        shared.log = Some(log);
    }

    /// Adds a reader of the events from now on.
    pub(crate) fn subscribe(&self) -> Events {
        let mut shared = lock(&self.shared);
        let mut reader = Reader {
            closed: shared.closed,
            ..Reader::default()
        };
        if let Some(log) = &shared.log {
            reader.set_log(log);
        }
        let reader = Arc::new(Mutex::new(reader));
        shared.readers.push(Arc::downgrade(&reader));
        Events {
            reader,
            resume: None,
            is_log_next: false,
        }
    }

    /// Sends `event` to every reader, within the rate limit of its kind.
    pub(crate) fn emit(&self, event: Event) {
        let kind = Kind::of(&event);
        self.emit_as(kind, event);
    }

    /// Sends `event` to every reader, within the rate limit of `kind`. Without a kind it has no limit.
    pub(crate) fn emit_as(&self, kind: Option<Kind>, event: Event) {
        let mut shared = lock(&self.shared);
        let passed = match kind {
            None => vec![event],
            Some(kind) => shared.limits.pass(self.clock.now(), kind, event),
        };
        shared.put(passed.into_iter());
    }

    /// Sends all `events` to every reader, without limits, and wakes each reader once.
    pub(crate) fn emit_all(&self, events: impl Iterator<Item = Event>) {
        // Locked for all of them, so that events of two tasks do not mix.
        lock(&self.shared).put(events);
    }

    /// Returns whether a line of `kind` may be logged now, by its rate limit. Lines that may not are counted, and a summary
    /// is logged later.
    pub(crate) fn may_log(&self, kind: Kind, cause: Option<Cause>) -> bool {
        let now = self.clock.now();
        lock(&self.shared).limits.may_log(now, kind, cause)
    }

    /// Returns when [`EventBus::emit_held_back`] is next due.
    pub(crate) fn deadline(&self) -> Option<Time> {
        lock(&self.shared).limits.deadline()
    }

    /// Sends the held-back events that may pass by `now`, and the summaries that are due.
    pub(crate) fn emit_held_back(&self, now: Time) {
        let mut shared = lock(&self.shared);
        let passed = shared.limits.take_due(now);
        shared.put(passed.into_iter());
    }

    /// Sends all held-back events and ends the streams of all readers.
    pub(crate) fn close(&self) {
        let mut shared = lock(&self.shared);
        let passed = shared.limits.take_all(self.clock.now());
        shared.put(passed.into_iter());
        shared.closed = true;
        for reader in shared.readers.iter().filter_map(Weak::upgrade) {
            let mut reader = lock(&reader);
            reader.closed = true;
            reader.wake();
        }
    }
}

impl Shared {
    fn put(&mut self, events: impl Iterator<Item = Event>) {
        let mut events = events.peekable();
        if events.peek().is_none() {
            return;
        }
        let mut readers = Vec::with_capacity(self.readers.len());
        self.readers.retain(|reader| {
            let reader = reader.upgrade();
            let alive = reader.is_some();
            readers.extend(reader);
            alive
        });
        let mut readers: Vec<_> = readers.iter().map(|reader| lock(reader)).collect();
        if let Some((last, others)) = readers.split_last_mut() {
            for event in events {
                for reader in others.iter_mut() {
                    reader.queue.push(event.clone());
                }
                last.queue.push(event);
            }
        }
        for reader in &mut readers {
            reader.wake();
        }
    }
}

impl Reader {
    fn set_log(&mut self, log: &Arc<dyn MessageLog>) {
        self.log = Some(Arc::clone(log));
        self.queue.set_logged();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A reader of a node's events: a [`Stream`] that ends when the node does.
///
/// A slow reader still gets every message once. At most [`MAX_WAITING_EVENTS`](super::MAX_WAITING_EVENTS) events and
/// [`MAX_WAITING_BYTES`](super::MAX_WAITING_BYTES) bytes wait in memory. Past that, the newest messages of the authors with
/// most of the queue are dropped from memory, and read from the node's log later: a page at a time, in turn with the events
/// in memory, the authors in turn, and the messages of each author's process in a room in their order. Newer messages of
/// such an author are read after them.
///
/// [`Event::Missed`] marks a position where messages are missing that are in no log: those that the log has removed before
/// they were read, those that were not read when the node stopped, and those of processes past
/// [`MAX_STRETCHES`](super::MAX_STRETCHES). Events of the node itself, such as [`Event::LinkUp`], are in no log, and missed
/// when the queue has no room.
pub struct Events {
    reader: Arc<Mutex<Reader>>,
    /// The reading of the log. Outside the lock, which the node needs: verifying takes a while.
    resume: Option<Resume>,
    /// Whether the log is next, when both it and the queue have events.
    is_log_next: bool,
}

impl Events {
    /// Returns the next event; `None` after the node has stopped.
    pub async fn next(&mut self) -> Option<Event> {
        futures::StreamExt::next(self).await
    }

    /// Returns the number of events that this reader has not read: in memory, in the log, and those that
    /// [`Event::Missed`] will count.
    pub fn unread(&self) -> u64 {
        let resume = self.resume.as_ref().map_or(0, Resume::unread);
        lock(&self.reader).queue.unread() + resume
    }

    /// Returns the next event from the log; none when there is none yet.
    fn next_of_log(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        loop {
            let resume = match &mut self.resume {
                Some(resume) => resume,
                idle => {
                    let mut reader = lock(&self.reader);
                    let stretch = reader.queue.begin_stretch()?;
                    idle.insert(Resume::begin(reader.log.as_deref()?, stretch))
                }
            };
            match resume.poll_turn(cx) {
                Poll::Pending => return None,
                Poll::Ready(Turn::Event(event)) => return Some(event),
                Poll::Ready(Turn::Read(rest)) => lock(&self.reader).queue.end_stretch(rest),
                Poll::Ready(Turn::Closed(rest)) => lock(&self.reader).queue.give_up_log(rest),
            }
            self.resume = None;
        }
    }
}

impl fmt::Debug for EventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBus").finish_non_exhaustive()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.is_log_next = !self.is_log_next;
        if self.is_log_next
            && let Some(event) = self.next_of_log(cx)
        {
            return Poll::Ready(Some(event));
        }
        let mut reader = lock(&self.reader);
        if let Some(event) = reader.queue.pop() {
            return Poll::Ready(Some(event));
        }
        reader.waker = Some(cx.waker().clone());
        drop(reader);
        // Polled once more: from now on the waker is set, and no event is missed.
        if let Some(event) = self.next_of_log(cx) {
            return Poll::Ready(Some(event));
        }
        let mut reader = lock(&self.reader);
        match reader.queue.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if reader.closed && reader.queue.is_empty() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// Locks even after a panic: a reader that panicked must not stop the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
