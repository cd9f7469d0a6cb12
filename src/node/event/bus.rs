//! The way of a node's events to their readers.
//!
//! Entry types: [`EventBus`], [`Events`]. The rules it keeps: every reader gets all events, in one order; other
//! readers and the node never wait for a slow one; what others can bring about at will passes the limits first.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures::Stream;

use super::Event;
use super::limits::{Cause, Kind, Limits};
use super::queue::Queue;
use crate::clock::{Clock, Time};

/// Where the node puts its events; every reader gets all of them.
#[derive(Clone, Debug)]
pub(crate) struct EventBus {
    clock: Clock,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    readers: Vec<Weak<Mutex<Reader>>>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Reader {
    queue: Queue,
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

    /// Adds a reader, who gets what is told from now on.
    pub(crate) fn subscribe(&self) -> Events {
        let mut shared = lock(&self.shared);
        let reader = Arc::new(Mutex::new(Reader {
            closed: shared.closed,
            ..Reader::default()
        }));
        shared.readers.push(Arc::downgrade(&reader));
        Events { reader }
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
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A reader of a node's events: a [`Stream`] that ends when the node does.
///
/// At most [`MAX_WAITING_EVENTS`](super::MAX_WAITING_EVENTS) events and
/// [`MAX_WAITING_BYTES`](super::MAX_WAITING_BYTES) bytes wait. Past that the authors who hold most of the queue lose
/// their newest messages, and the reader finds [`Event::Missed`] where they are missing.
#[derive(Debug)]
pub struct Events {
    reader: Arc<Mutex<Reader>>,
}

impl Events {
    /// The next event; `None` when the node is gone.
    pub async fn next(&mut self) -> Option<Event> {
        futures::StreamExt::next(self).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut reader = lock(&self.reader);
        match reader.queue.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if reader.closed => Poll::Ready(None),
            None => {
                reader.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A panic in one reader must not take the node's events from the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::super::MAX_WAITING_EVENTS;
    use super::*;

    fn error(n: usize) -> Event {
        Event::Error {
            reason: n.to_string(),
        }
    }

    fn bus() -> EventBus {
        EventBus::new(Clock::start())
    }

    fn tell(bus: &EventBus, n: usize) {
        bus.emit_as(None, error(n));
    }

    #[test]
    fn a_slow_reader_is_told_what_it_missed_and_a_quick_one_misses_nothing() {
        let bus = bus();
        let (mut slow, mut quick) = (bus.subscribe(), bus.subscribe());
        let mut read = 0;
        for n in 0..MAX_WAITING_EVENTS + 10 {
            tell(&bus, n);
            read += usize::from(quick.next().now_or_never().flatten().is_some());
        }
        assert_eq!(read, MAX_WAITING_EVENTS + 10);
        let mut next = || slow.next().now_or_never();
        for _ in 0..MAX_WAITING_EVENTS {
            assert!(matches!(next(), Some(Some(Event::Error { .. }))));
        }
        let missed = next();
        assert!(matches!(
            missed,
            Some(Some(Event::Missed {
                events: 10,
                author: None
            }))
        ));
        tell(&bus, 0);
        assert!(matches!(next(), Some(Some(Event::Error { .. }))));
    }

    #[test]
    fn a_reader_ends_after_the_last_event_of_a_closed_node() {
        let bus = bus();
        let mut reader = bus.subscribe();
        tell(&bus, 1);
        bus.close();
        assert!(matches!(
            reader.next().now_or_never(),
            Some(Some(Event::Error { .. }))
        ));
        assert!(matches!(reader.next().now_or_never(), Some(None)));
        let mut late = bus.subscribe();
        assert!(matches!(late.next().now_or_never(), Some(None)));
    }
}
