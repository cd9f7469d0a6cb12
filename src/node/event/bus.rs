//! The way of a node's events to their readers.
//!
//! Entry types: [`EventBus`], [`Events`]. The rules it keeps: every reader gets all events, each author's in one order;
//! other readers and the node never wait for a slow one, which reads from the log what found no room; what others can
//! bring about at will passes the limits first.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures::Stream;

use super::Event;
use super::queue::Queue;
use super::rate_limit::{Cause, Kind, Limits};
use super::resume::{Past, Resume, Turn};
use crate::clock::{Clock, Time};

/// Where the node puts its events; every reader gets all of them.
#[derive(Clone)]
pub(crate) struct EventBus {
    clock: Clock,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    limits: Limits,
    /// The log that has the messages, once there is one.
    past: Option<Arc<dyn Past>>,
    readers: Vec<Weak<Mutex<Reader>>>,
    closed: bool,
}

#[derive(Default)]
struct Reader {
    queue: Queue,
    /// The log that has what the queue has no room for.
    past: Option<Arc<dyn Past>>,
    closed: bool,
    waker: Option<Waker>,
}

impl EventBus {
    /// Returns a bus without readers.
    pub(crate) fn new(clock: Clock) -> EventBus {
        EventBus {
            clock,
            shared: Arc::new(Mutex::new(Shared {
                limits: Limits::new(),
                past: None,
                readers: Vec::new(),
                closed: false,
            })),
        }
    }

    /// Tells of every link that comes up and goes, however many there are.
    pub(crate) fn with_all_links(self) -> EventBus {
        lock(&self.shared).limits.tell_all_links();
        self
    }

    /// From now on every message is in the log `past` when it is told: slow readers go on from there.
    pub(crate) fn set_past(&self, past: Arc<dyn Past>) {
        let mut shared = lock(&self.shared);
        for reader in shared.readers.iter().filter_map(Weak::upgrade) {
            lock(&reader).set_past(&past);
        }
        shared.past = Some(past);
    }

    /// Adds a reader, who gets what is told from now on.
    pub(crate) fn subscribe(&self) -> Events {
        let mut shared = lock(&self.shared);
        let mut reader = Reader {
            closed: shared.closed,
            ..Reader::default()
        };
        if let Some(past) = &shared.past {
            reader.set_past(past);
        }
        let reader = Arc::new(Mutex::new(reader));
        shared.readers.push(Arc::downgrade(&reader));
        Events {
            reader,
            resume: None,
            is_log_next: false,
        }
    }

    /// Puts `event` before every reader, if the limit of its kind allows it.
    pub(crate) fn emit(&self, event: Event) {
        let kind = Kind::of(&event);
        self.emit_as(kind, event);
    }

    /// Puts `event` before every reader, if the limit of `kind` allows it. Without a kind it has no limit.
    pub(crate) fn emit_as(&self, kind: Option<Kind>, event: Event) {
        let mut shared = lock(&self.shared);
        let told = match kind {
            None => vec![event],
            Some(kind) => shared.limits.pass(self.clock.now(), kind, event),
        };
        shared.put(told.into_iter());
    }

    /// Puts all `events` before every reader, each of whom is woken once. They have no limits.
    pub(crate) fn emit_all(&self, events: impl Iterator<Item = Event>) {
        // Held until all is said: what two tasks tell does not mix.
        lock(&self.shared).put(events);
    }

    /// Whether one of `kind`, which is told in the log alone, may be logged now. What may not is counted, and the
    /// log says how many there were.
    pub(crate) fn may_log(&self, kind: Kind, cause: Option<Cause>) -> bool {
        let now = self.clock.now();
        lock(&self.shared).limits.may_log(now, kind, cause)
    }

    /// When [`EventBus::tell_held_back`] has something to tell.
    pub(crate) fn deadline(&self) -> Option<Time> {
        lock(&self.shared).limits.deadline()
    }

    /// Tells what was put off and may be told by `now`, and how many were left out.
    pub(crate) fn tell_held_back(&self, now: Time) {
        let mut shared = lock(&self.shared);
        let told = shared.limits.due(now);
        shared.put(told.into_iter());
    }

    /// Tells what was put off; no more events will come.
    pub(crate) fn close(&self) {
        let mut shared = lock(&self.shared);
        let told = shared.limits.finish(self.clock.now());
        shared.put(told.into_iter());
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
    fn set_past(&mut self, past: &Arc<dyn Past>) {
        self.past = Some(Arc::clone(past));
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
/// A reader may be as slow as it likes: it gets every message once. At most
/// [`MAX_WAITING_EVENTS`](super::MAX_WAITING_EVENTS) events and [`MAX_WAITING_BYTES`](super::MAX_WAITING_BYTES) bytes wait
/// in memory. Past that the newest messages of the authors who hold most of the queue are not kept there but read from
/// the node's log once the reader has come so far: a page at a time, in turn with what waits in memory, the authors in
/// turn, and of each author's process in a room in the order in which they were told. What an author says meanwhile comes
/// after that.
///
/// [`Event::Missed`] is found where messages are missing that no log has: those that the log has removed before they were
/// read, those that were still to be read when the node stopped, and those of processes past
/// [`MAX_STRETCHES`](super::MAX_STRETCHES). What the node itself tells, such as [`Event::LinkUp`], is in no log, and missed
/// when it finds no room.
pub struct Events {
    reader: Arc<Mutex<Reader>>,
    /// What is read from the log at the moment. Not behind the lock, which the node needs: checking takes a while.
    resume: Option<Resume>,
    /// Whether the log's turn is next, when both it and the queue have something.
    is_log_next: bool,
}

impl Events {
    /// The next event; `None` when the node is gone.
    pub async fn next(&mut self) -> Option<Event> {
        futures::StreamExt::next(self).await
    }

    /// How many events this reader has not read yet: those that wait in memory, those that are to be read from the log, and
    /// those that it will find [`Event::Missed`].
    pub fn unread(&self) -> u64 {
        let resume = self.resume.as_ref().map_or(0, Resume::unread);
        lock(&self.reader).queue.unread() + resume
    }

    /// The next event that is read from the log; none when there is none, or none yet.
    fn next_of_log(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        loop {
            let resume = match &mut self.resume {
                Some(resume) => resume,
                idle => {
                    let mut reader = lock(&self.reader);
                    let stretch = reader.queue.begin_stretch()?;
                    idle.insert(Resume::begin(reader.past.as_deref()?, stretch))
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
        // Asked once more: from now on what comes wakes the reader.
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

/// A panic in one reader must not take the node's events from the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
