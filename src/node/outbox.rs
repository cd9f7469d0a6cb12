//! From the application to the mesh: events are numbered, batched, signed, handed to the loop and
//! stored.
//!
//! Entry type: [`run`], one task. The rule it keeps: events wait for nobody. With nothing queued a
//! batch holds one event and leaves at once; what queues up while a batch is on its way travels
//! together in the next, with one signature for all of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::error::BroadcastError;
use super::heads::{EarlierBatch, Heads};
use super::ingest::Note;
use super::store::Store;
use crate::clock::UnixClock;
use crate::gossip::{self, Author, MAX_AHEAD_MS, MAX_BATCH_BYTES, MAX_EVENTS, VerifiedBatch};
use crate::model::{BatchId, Outcome, RoomName};
use crate::net::backpressure::OfferGuard;
use crate::store::Appended;

/// Events that may wait for the outbox; past that [`super::Node::broadcast`] waits.
pub(crate) const MAX_WAITING: usize = 4096;
/// Bytes of events, counted as [`gossip::Event::cost`], that may wait for the outbox: 8 MiB.
pub(crate) const MAX_WAITING_BYTES: usize = 8 << 20;

/// Batches that are handed to the loop together: under load it is not asked for each of them.
const MAX_TOGETHER: usize = 8;

/// An event that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Sent {
    /// The batch it travels in.
    pub id: BatchId,
    /// Its number among this process's events in the room, from 1.
    pub seq: u64,
    /// How many links took it. None when the last one was lost, or all were full, at that very
    /// moment: the event is in the log, and neighbours fetch it from there.
    pub links: usize,
    /// How many neighbours have said that they stored it; 0 unless that was asked for
    /// ([`super::NodeBuilder::confirmed_by`]).
    pub confirmed: usize,
}

/// An event on its way to the outbox.
pub(crate) struct Outgoing {
    pub(crate) room: RoomName,
    pub(crate) event: gossip::Event,
    pub(crate) reply: oneshot::Sender<Result<Sent, BroadcastError>>,
    /// Its share of [`MAX_WAITING_BYTES`], given back when it has left.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Signed batches of one room on their way to the loop.
pub(crate) struct Publish {
    pub(crate) room: RoomName,
    /// Those that were not handed on yet.
    pub(crate) batches: VecDeque<VerifiedBatch>,
    /// What became of those that were.
    pub(crate) taken: Vec<Taken>,
    pub(crate) reply: oneshot::Sender<Published>,
}

/// A batch that is handed on.
#[derive(Debug)]
pub(crate) struct Taken {
    /// How many links took it.
    pub(crate) links: usize,
    /// There when they are to be offered it, once it is stored. If not, gossip has it.
    pub(crate) to_offer: Option<OfferGuard>,
}

/// What became of batches: the first ones left, the others did not.
pub(crate) struct Published {
    /// What became of the first ones.
    pub(crate) taken: Vec<Taken>,
    /// Why there are others.
    pub(crate) refused: Option<BroadcastError>,
}

/// Who waits for an event, and its share of [`MAX_WAITING_BYTES`].
type Waiting = (
    oneshot::Sender<Result<Sent, BroadcastError>>,
    OwnedSemaphorePermit,
);

/// Those who wait until neighbours have stored a batch. When it is dropped without an answer they hear that the node has
/// stopped.
#[derive(Debug)]
pub(crate) struct Unconfirmed {
    id: BatchId,
    first_seq: u64,
    links: usize,
    waiting: Vec<Waiting>,
}

impl Unconfirmed {
    /// So many neighbours have stored it.
    pub(crate) fn confirm(self, confirmed: usize) {
        let Unconfirmed { id, links, .. } = self;
        for (seq, (reply, _)) in (self.first_seq..).zip(self.waiting) {
            // Whoever no longer listens has given up waiting; the event is sent all the same.
            let _ = reply.send(Ok(Sent {
                id,
                seq,
                links,
                confirmed,
            }));
        }
    }

    /// Too few have.
    pub(crate) fn refuse(self, error: &BroadcastError) {
        refuse(self.waiting, error);
    }
}

/// A batch and who waits for its events.
type Signed = (VerifiedBatch, Vec<Waiting>);

/// Where batches go.
pub(crate) struct Ends {
    /// To the loop, which hands them on.
    pub(crate) publishes: mpsc::Sender<Publish>,
    pub(crate) store: Store,
    /// To the keeper, which hears of those that are stored.
    pub(crate) notes: mpsc::UnboundedSender<Note>,
    /// Whether the keeper answers for what is sent, when neighbours have stored it.
    pub(crate) is_confirmed: bool,
}

/// Serves `events` until the node or the last handle is gone.
pub(crate) async fn run(
    author: Author,
    heads: Arc<Heads>,
    clock: UnixClock,
    mut events: mpsc::Receiver<Outgoing>,
    ends: Ends,
) {
    let mut outbox = Outbox {
        author,
        heads,
        clock,
        dated_ms: 0,
        next_seq: HashMap::new(),
        ends,
    };
    let mut taken = Vec::new();
    while events.recv_many(&mut taken, MAX_EVENTS).await > 0 {
        for (room, events) in by_room(taken.drain(..)) {
            let mut batches = VecDeque::from(split(events));
            while !batches.is_empty() {
                outbox.send(&room, together(&mut batches)).await;
            }
        }
    }
}

struct Outbox {
    author: Author,
    heads: Arc<Heads>,
    clock: UnixClock,
    /// The date of the last batch.
    dated_ms: u64,
    next_seq: HashMap<RoomName, u64>,
    ends: Ends,
}

impl Outbox {
    /// Signs batches, waits until the loop has handed them on, and has them stored. Events that
    /// nobody took give their numbers back, so that the numbers that left have no gap.
    async fn send(&mut self, room: &RoomName, batches: Vec<Vec<Outgoing>>) {
        if self.heads.needs_earlier(room) {
            self.read_heads(room).await;
        }
        let first_seq = self.next_seq.get(room).copied().unwrap_or(1);
        let mut signed = self.sign(room, first_seq, batches);
        let published = self.publish(room, &signed).await;
        let refused = signed.split_off(published.taken.len().min(signed.len()));
        for (batch, _) in &signed {
            self.next_seq.insert(room.clone(), batch.last_seq() + 1);
            self.heads.record_sent(room, batch.prev(), batch.id());
        }
        let error = published.refused.unwrap_or(BroadcastError::Stopped);
        for (_, waiting) in refused {
            refuse(waiting, &error);
        }
        for ((batch, waiting), taken) in signed.into_iter().zip(published.taken) {
            self.keep(batch, waiting, taken).await;
        }
    }

    /// Looks in the log for what earlier runs of the node have said in the room.
    async fn read_heads(&self, room: &RoomName) {
        let Some(log) = self.ends.store.get() else {
            return;
        };
        let name = room.as_str().to_owned();
        let author = self.author.identity().public_key_protobuf();
        let said = log
            .ask(move |reader| reader.newest_by_author(&name, &author))
            .await;
        let said = said.unwrap_or_else(|error| {
            // Batches that name none of them are as good.
            tracing::warn!(%room, %error, "what this identity said before was not found");
            Vec::new()
        });
        let left = said.into_iter().map(|said| EarlierBatch {
            id: BatchId(said.id),
            sent_at_ms: said.sent_at_ms,
            is_last: said.is_last,
            prev: gossip::prev_of(&said.bytes),
        });
        self.heads.add_earlier(room, left.collect());
    }

    fn sign(
        &mut self,
        room: &RoomName,
        first_seq: u64,
        batches: Vec<Vec<Outgoing>>,
    ) -> Vec<Signed> {
        let mut next_seq = first_seq;
        let mut prev = self.heads.next(room);
        let mut signed = Vec::new();
        for batch in batches {
            let (mut events, mut waiting) = (Vec::new(), Vec::new());
            for outgoing in batch {
                events.push(outgoing.event);
                waiting.push((outgoing.reply, outgoing.permit));
            }
            let date_ms = next_date_ms(self.dated_ms, self.clock.now_ms());
            match self.author.seal(room, next_seq, date_ms, &prev, events) {
                Ok(sealed) => {
                    self.dated_ms = date_ms;
                    prev = vec![sealed.id()];
                    next_seq += waiting.len() as u64;
                    signed.push((sealed.into(), waiting));
                }
                Err(error) => refuse(waiting, &BroadcastError::Unsendable(error.to_string())),
            }
        }
        signed
    }

    async fn publish(&self, room: &RoomName, signed: &[Signed]) -> Published {
        let stopped = || Published {
            taken: Vec::new(),
            refused: Some(BroadcastError::Stopped),
        };
        let (reply, answer) = oneshot::channel();
        let publish = Publish {
            room: room.clone(),
            batches: signed.iter().map(|(batch, _)| batch.clone()).collect(),
            taken: Vec::new(),
            reply,
        };
        if self.ends.publishes.send(publish).await.is_err() {
            return stopped();
        }
        let published = answer.await.unwrap_or_else(|_| stopped());
        // The links send it meanwhile: our own log is in no hurry.
        tokio::task::yield_now().await;
        published
    }

    /// Queues a batch that has left for the log. Only when it is stored its senders hear that it is
    /// sent; the next batches do not wait for that, but for room in the log's queue.
    async fn keep(&self, batch: VerifiedBatch, waiting: Vec<Waiting>, taken: Taken) {
        let Some(log) = self.ends.store.get() else {
            return refuse(waiting, &BroadcastError::Stopped);
        };
        let (notes, kept, is_confirmed) = (
            self.ends.notes.clone(),
            batch.clone(),
            self.ends.is_confirmed,
        );
        log.append_in_turn(std::slice::from_ref(&batch), move |stored| {
            if let Some(reason) = why_not_kept(&stored) {
                return refuse(waiting, &BroadcastError::NotKept(reason));
            }
            let stored = Unconfirmed {
                id: kept.id(),
                first_seq: kept.first_seq(),
                links: taken.links,
                waiting,
            };
            let (now, later) = match is_confirmed {
                true => (None, Some(stored)),
                false => (Some(stored), None),
            };
            // A keeper that is gone compares no more.
            let _ = notes.send(Note::Own(kept, taken.to_offer, later));
            if let Some(stored) = now {
                stored.confirm(0);
            }
        })
        .await;
    }
}

/// The date of a batch that is signed at `now_ms`, after one that is dated `last_ms`. Dates do not go back with a clock
/// that is set back, as far as readers take dates that are ahead of their clocks; half of that is for clocks that differ.
fn next_date_ms(last_ms: u64, now_ms: u64) -> u64 {
    match last_ms.saturating_sub(now_ms) > MAX_AHEAD_MS / 2 {
        true => now_ms,
        false => last_ms.max(now_ms),
    }
}

/// Why the log does not have a batch of its own node; none when it has it.
fn why_not_kept(appended: &Appended) -> Option<String> {
    match appended {
        Err(error) => Some(error.to_string()),
        Ok(outcomes) if outcomes.iter().all(Outcome::is_held) => None,
        Ok(_) => Some(
            "this node's clock is behind what its log keeps: set the clock, and send it again"
                .to_owned(),
        ),
    }
}

fn refuse(waiting: Vec<Waiting>, error: &BroadcastError) {
    for (reply, _) in waiting {
        let _ = reply.send(Err(error.clone()));
    }
}

/// Groups events by room, rooms and events in the order in which they came.
fn by_room(events: impl Iterator<Item = Outgoing>) -> indexmap::IndexMap<RoomName, Vec<Outgoing>> {
    let mut rooms: indexmap::IndexMap<RoomName, Vec<Outgoing>> = indexmap::IndexMap::new();
    for event in events {
        rooms.entry(event.room.clone()).or_default().push(event);
    }
    rooms
}

/// Cuts a room's events into batches of at most [`MAX_BATCH_BYTES`] and [`MAX_EVENTS`]; a larger event goes
/// alone.
fn split(events: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut batches: Vec<Vec<Outgoing>> = Vec::new();
    let mut room_left = 0;
    for event in events {
        let size = event.event.cost();
        let is_full = batches.last().is_none_or(|last| last.len() >= MAX_EVENTS);
        if size > room_left || is_full {
            batches.push(Vec::new());
            room_left = MAX_BATCH_BYTES;
        }
        room_left = room_left.saturating_sub(size);
        if let Some(batch) = batches.last_mut() {
            batch.push(event);
        }
    }
    batches
}

/// The next batches to hand on, at least one. A large one is the last: it may be offered, when it is
/// stored, and what comes after it waits for that.
fn together(batches: &mut VecDeque<Vec<Outgoing>>) -> Vec<Vec<Outgoing>> {
    let mut next = Vec::new();
    while next.len() < MAX_TOGETHER
        && let Some(batch) = batches.pop_front()
    {
        let sizes = batch.iter().map(|outgoing| outgoing.event.len_in_batch());
        let is_large = sizes.sum::<usize>() > MAX_BATCH_BYTES;
        next.push(batch);
        if is_large {
            break;
        }
    }
    next
}

/// A share of the outbox's bytes for one event.
pub(crate) async fn permit(
    bytes: &Arc<tokio::sync::Semaphore>,
    event: &gossip::Event,
) -> Result<OwnedSemaphorePermit, BroadcastError> {
    let share = u32::try_from(event.cost().min(MAX_WAITING_BYTES)).unwrap_or(u32::MAX);
    bytes
        .clone()
        .acquire_many_owned(share)
        .await
        .map_err(|_| BroadcastError::Stopped)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn batch(bytes: usize) -> Vec<Outgoing> {
        let semaphore = Arc::new(tokio::sync::Semaphore::new(1));
        vec![Outgoing {
            room: "lobby".parse().unwrap(),
            event: gossip::Event {
                name: String::new(),
                data: Bytes::from(vec![0; bytes]),
            },
            reply: oneshot::channel().0,
            permit: semaphore.try_acquire_owned().unwrap(),
        }]
    }

    fn groups(sizes: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut batches: VecDeque<_> = sizes.into_iter().map(batch).collect();
        std::iter::from_fn(|| Some(together(&mut batches).len()).filter(|n| *n > 0)).collect()
    }

    #[test]
    fn a_large_event_is_the_last_of_those_that_leave_together_and_of_small_ones_there_are_eight() {
        assert_eq!(groups([gossip::MAX_EVENT_DATA; 3]), [1, 1, 1]);
        assert_eq!(groups([100, 100, 1 << 20, 100]), [3, 1]);
        assert_eq!(groups([100; 20]), [8, 8, 4]);
        assert_eq!(groups([]), [0; 0]);
    }

    #[test]
    fn dates_do_not_go_back_with_the_clock_but_do_not_stay_ahead_for_long_either() {
        let now = 1_900_000_000_000;
        assert_eq!(next_date_ms(0, now), now);
        assert_eq!(next_date_ms(now - 1, now), now);
        assert_eq!(next_date_ms(now + 60_000, now), now + 60_000);
        // That clock was wrong, and readers would refuse what follows it.
        assert_eq!(next_date_ms(now + 3_600_000, now), now);
    }

    #[test]
    fn an_event_counts_as_sent_only_when_the_log_has_it() {
        let new = Outcome::New { follows: true };
        let conflict = Outcome::Conflict { with: [0; 32] };
        for outcome in [new, Outcome::Held, conflict] {
            assert_eq!(why_not_kept(&Ok(vec![outcome])), None);
        }
        for outcome in [Outcome::TooOld, Outcome::OutOfRange] {
            let reason = why_not_kept(&Ok(vec![outcome])).expect("it is not stored");
            assert!(reason.contains("clock"), "{reason}");
        }
        let closed = Err(Arc::new(crate::store::LogError::Closed));
        assert!(why_not_kept(&closed).is_some());
    }
}
