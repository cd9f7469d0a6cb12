//! What a node tells its application, and the bounded queue in which a reader finds it.
//!
//! Entry types: [`Event`], [`Events`]. The rule it keeps: a reader that is slow costs a bounded
//! amount of memory and is told how many events it missed; other readers and the node never wait.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::Stream;
use libp2p::{Multiaddr, PeerId};

use super::stage::StageError;
use crate::gossip::{BatchId, RoomName};

/// The most events that wait for one reader.
pub const MAX_WAITING_EVENTS: usize = 65_536;
/// The most bytes of message data that wait for one reader: 64 MiB.
pub const MAX_WAITING_BYTES: usize = 64 << 20;

/// Which side dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// We did.
    Dialer,
    /// The peer did.
    Listener,
}

impl Direction {
    /// The name in JSON lines.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Dialer => "dialer",
            Direction::Listener => "listener",
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The node listens on another address, `/p2p/` included.
    Listening {
        /// Where it can be dialled.
        address: Multiaddr,
    },
    /// A peer passed the handshake in both rounds.
    LinkUp {
        /// Who.
        peer_id: PeerId,
        /// Where.
        address: Multiaddr,
        /// Which side dialled.
        direction: Direction,
        /// Links now.
        links: usize,
    },
    /// A link is gone.
    LinkDown {
        /// Whose.
        peer_id: PeerId,
        /// Why.
        reason: String,
        /// Links now.
        links: usize,
    },
    /// A connection came to nothing.
    Refused {
        /// Whose, when noise had told.
        peer_id: Option<PeerId>,
        /// Where.
        address: Multiaddr,
        /// At which stage and why.
        error: StageError,
    },
    /// Somebody said something.
    Message(Message),
    /// This node told one of its links to connect to a newcomer.
    Redirected {
        /// Who was told.
        peer_id: PeerId,
        /// The newcomer.
        to: PeerId,
        /// Where the newcomer can be dialled, if it can.
        address: Option<Multiaddr>,
    },
    /// A redirect hint that a link gave this node has ended.
    Hint {
        /// Who gave it.
        from: PeerId,
        /// Whom it named.
        to: PeerId,
        /// Where.
        address: Option<Multiaddr>,
        /// How it ended: `linked`, or why not.
        outcome: &'static str,
    },
    /// A room was compared with a neighbour.
    Checked {
        /// The room.
        room: String,
        /// With whom.
        peer_id: PeerId,
        /// Neighbours in the room that take part in data checking.
        neighbours: usize,
        /// Those that held the same when last compared.
        agreed: usize,
        /// Batches that this comparison brought.
        repaired: u64,
        /// What it cost on the wire, both ways, in bytes.
        bytes: u64,
    },
    /// Something went wrong that concerns no link.
    Error {
        /// What, and what to do.
        reason: String,
    },
    /// This reader was too slow: so many events were dropped at this place.
    Missed {
        /// How many.
        events: u64,
    },
}

/// One event of a room, as its author signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The batch it travelled in.
    pub id: BatchId,
    /// In which room.
    pub room: RoomName,
    /// Who signed it.
    pub author: PeerId,
    /// The author's process.
    pub instance_id: [u8; 16],
    /// Its number among this author process's events in the room, from 1.
    pub seq: u64,
    /// What kind of event it is; the application's own word.
    pub name: String,
    /// The data.
    pub data: Bytes,
    /// When the author sent it, by the author's clock: Unix time in milliseconds.
    pub sent_at_ms: u64,
    /// Whether it came by data checking instead of live.
    pub backfill: bool,
}

impl Event {
    fn bytes(&self) -> usize {
        match self {
            Event::Message(message) => message.data.len() + message.name.len(),
            _ => 0,
        }
    }
}

/// Where the node puts its events; every reader gets all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventBus {
    readers: Arc<Mutex<Readers>>,
}

#[derive(Debug, Default)]
struct Readers {
    queues: Vec<Weak<Mutex<Queue>>>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Event>,
    bytes: usize,
    missed: u64,
    closed: bool,
    waker: Option<Waker>,
}

impl EventBus {
    /// A new reader, from now on.
    pub(crate) fn subscribe(&self) -> Events {
        let mut readers = lock(&self.readers);
        let queue = Arc::new(Mutex::new(Queue {
            closed: readers.closed,
            ..Queue::default()
        }));
        readers.queues.push(Arc::downgrade(&queue));
        Events { queue }
    }

    /// Puts `event` before every reader.
    pub(crate) fn emit(&self, event: Event) {
        self.emit_all(std::iter::once(event));
    }

    /// Puts all `events` before every reader, each of whom is woken once.
    pub(crate) fn emit_all(&self, events: impl Iterator<Item = Event>) {
        // Held until all is said: what two tasks tell does not mix.
        let mut readers = lock(&self.readers);
        let mut queues = Vec::with_capacity(readers.queues.len());
        readers.queues.retain(|reader| {
            let queue = reader.upgrade();
            let alive = queue.is_some();
            queues.extend(queue);
            alive
        });
        let mut queues: Vec<_> = queues.iter().map(|queue| lock(queue)).collect();
        if let Some((last, others)) = queues.split_last_mut() {
            for event in events {
                for queue in others.iter_mut() {
                    queue.push(event.clone());
                }
                last.push(event);
            }
        }
        for queue in &mut queues {
            queue.wake();
        }
    }

    /// No more events will come.
    pub(crate) fn close(&self) {
        let mut readers = lock(&self.readers);
        readers.closed = true;
        for queue in readers.queues.iter().filter_map(Weak::upgrade) {
            let mut queue = lock(&queue);
            queue.closed = true;
            queue.wake();
        }
    }
}

impl Queue {
    fn push(&mut self, event: Event) {
        let bytes = event.bytes();
        let full =
            self.waiting.len() >= MAX_WAITING_EVENTS || self.bytes + bytes > MAX_WAITING_BYTES;
        if full || self.missed > 0 {
            // Once some were missed, the rest waits until the reader has been told: the gap
            // stays in one place.
            self.missed += 1;
        } else {
            self.bytes += bytes;
            self.waiting.push_back(event);
        }
    }

    fn pop(&mut self) -> Option<Event> {
        if let Some(event) = self.waiting.pop_front() {
            self.bytes -= event.bytes();
            return Some(event);
        }
        match std::mem::take(&mut self.missed) {
            0 => None,
            events => Some(Event::Missed { events }),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A reader of a node's events: a [`Stream`] that ends when the node does.
///
/// At most [`MAX_WAITING_EVENTS`] events and [`MAX_WAITING_BYTES`] bytes wait; past that the
/// reader finds [`Event::Missed`] where the gap is.
#[derive(Debug)]
pub struct Events {
    queue: Arc<Mutex<Queue>>,
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
        let mut queue = lock(&self.queue);
        match queue.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
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

    use super::*;

    fn error(n: usize) -> Event {
        Event::Error {
            reason: n.to_string(),
        }
    }

    #[test]
    fn a_slow_reader_is_told_what_it_missed_and_a_quick_one_misses_nothing() {
        let bus = EventBus::default();
        let (mut slow, mut quick) = (bus.subscribe(), bus.subscribe());
        let mut read = 0;
        for n in 0..MAX_WAITING_EVENTS + 10 {
            bus.emit(error(n));
            read += usize::from(quick.next().now_or_never().flatten().is_some());
        }
        assert_eq!(read, MAX_WAITING_EVENTS + 10);
        for _ in 0..MAX_WAITING_EVENTS {
            assert!(matches!(
                slow.next().now_or_never(),
                Some(Some(Event::Error { .. }))
            ));
        }
        assert!(matches!(
            slow.next().now_or_never(),
            Some(Some(Event::Missed { events: 10 }))
        ));
        bus.emit(error(0));
        assert!(matches!(
            slow.next().now_or_never(),
            Some(Some(Event::Error { .. }))
        ));
    }

    #[test]
    fn a_reader_ends_after_the_last_event_of_a_closed_node() {
        let bus = EventBus::default();
        let mut reader = bus.subscribe();
        bus.emit(error(1));
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
