//! From the application to the mesh: events are numbered, batched, signed, handed to the loop and
//! stored.
//!
//! Entry type: [`run`], one task. The rule it keeps: events wait for nobody. With nothing queued a
//! batch holds one event and leaves at once; what queues up while a batch is on its way travels
//! together in the next, with one signature for all of it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::error::BroadcastError;
use super::keeper::{Note, Store};
use crate::clock::Clock;
use crate::gossip::{self, BatchId, MAX_BATCH_BYTES, MAX_EVENTS, RoomName, VerifiedBatch};
use crate::identity::Identity;

/// Events that may wait for the outbox; past that [`super::Node::broadcast`] waits.
pub(crate) const MAX_WAITING: usize = 4096;
/// Bytes of event data that may wait for the outbox: 8 MiB.
pub(crate) const MAX_WAITING_BYTES: usize = 8 << 20;

/// An event that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The batch it travels in.
    pub id: BatchId,
    /// Its number among this process's events in the room, from 1.
    pub seq: u64,
    /// How many links took it.
    pub links: usize,
}

/// An event on its way to the outbox.
pub(crate) struct Outgoing {
    pub(crate) room: RoomName,
    pub(crate) event: gossip::Event,
    pub(crate) reply: oneshot::Sender<Result<Sent, BroadcastError>>,
    /// Its share of [`MAX_WAITING_BYTES`], given back when it has left.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// A signed batch on its way to the loop, which answers with the number of links that took it.
pub(crate) struct Publish {
    pub(crate) batch: VerifiedBatch,
    pub(crate) reply: oneshot::Sender<Result<usize, BroadcastError>>,
}

/// Serves `events` until the node or the last handle is gone.
pub(crate) async fn run(
    identity: Identity,
    instance_id: [u8; 16],
    clock: Clock,
    mut events: mpsc::Receiver<Outgoing>,
    publishes: mpsc::Sender<Publish>,
    store: Store,
    notes: mpsc::UnboundedSender<Note>,
) {
    let mut outbox = Outbox {
        identity,
        instance_id,
        clock,
        next_seq: HashMap::new(),
        publishes,
        store,
        notes,
    };
    let mut taken = Vec::new();
    while events.recv_many(&mut taken, MAX_EVENTS).await > 0 {
        for (room, events) in by_room(taken.drain(..)) {
            for batch in split(events) {
                outbox.send(&room, batch).await;
            }
        }
    }
}

struct Outbox {
    identity: Identity,
    instance_id: [u8; 16],
    clock: Clock,
    next_seq: HashMap<RoomName, u64>,
    publishes: mpsc::Sender<Publish>,
    store: Store,
    notes: mpsc::UnboundedSender<Note>,
}

impl Outbox {
    /// Signs one batch and waits until the loop has handed it on. Events that nobody took give
    /// their numbers back, so that the numbers that left have no gap.
    async fn send(&mut self, room: &RoomName, batch: Vec<Outgoing>) {
        let first_seq = self.next_seq.get(room).copied().unwrap_or(1);
        let mut replies = Vec::with_capacity(batch.len());
        let mut events = Vec::with_capacity(batch.len());
        for outgoing in batch {
            replies.push((outgoing.reply, outgoing.permit));
            events.push(outgoing.event);
        }
        let now = self.clock.unix_millis();
        let sealed = gossip::seal(
            &self.identity,
            self.instance_id,
            room,
            first_seq,
            now,
            events,
        )
        .map_err(|error| BroadcastError::Unsendable(error.to_string()));
        let batch = sealed.map(|sealed| sealed.batch().clone());
        let published = match &batch {
            Ok(batch) => self.publish(batch.clone()).await,
            Err(error) => Err(error.clone()),
        };
        if published.is_ok() {
            self.next_seq
                .insert(room.clone(), first_seq + replies.len() as u64);
        }
        let kept = match (batch, published) {
            (Ok(batch), Ok(sent)) => self.keep(batch).await.map(|()| sent),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        match kept {
            Ok((id, links)) => {
                for (seq, (reply, _)) in (first_seq..).zip(replies) {
                    // Whoever no longer listens has given up waiting; the event is sent all the same.
                    let _ = reply.send(Ok(Sent { id, seq, links }));
                }
            }
            Err(error) => {
                for (reply, _) in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Stores a batch that has left. Only then its sender hears that it is sent.
    async fn keep(&self, batch: VerifiedBatch) -> Result<(), BroadcastError> {
        let writer = self.store.get().ok_or(BroadcastError::Stopped)?;
        let stored = writer.append_when_room(std::slice::from_ref(&batch)).await;
        stored.map_err(|error| BroadcastError::NotKept(error.to_string()))?;
        // A keeper that is gone compares no more.
        let _ = self.notes.send(Note::Own(batch));
        Ok(())
    }

    async fn publish(&self, batch: VerifiedBatch) -> Result<(BatchId, usize), BroadcastError> {
        let id = batch.id();
        let (reply, answer) = oneshot::channel();
        let publish = Publish { batch, reply };
        self.publishes
            .send(publish)
            .await
            .map_err(|_| BroadcastError::Stopped)?;
        answer
            .await
            .unwrap_or(Err(BroadcastError::Stopped))
            .map(|links| (id, links))
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

/// Cuts a room's events into batches of at most [`MAX_BATCH_BYTES`]; a larger event goes alone.
fn split(events: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut batches: Vec<Vec<Outgoing>> = Vec::new();
    let mut room_left = 0;
    for event in events {
        let size = event.event.len_in_batch();
        if size > room_left || batches.is_empty() {
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

/// A share of the outbox's bytes for one event.
pub(crate) async fn permit(
    bytes: &Arc<tokio::sync::Semaphore>,
    event: &gossip::Event,
) -> Result<OwnedSemaphorePermit, BroadcastError> {
    let share = u32::try_from(event.len_in_batch().min(MAX_WAITING_BYTES)).unwrap_or(u32::MAX);
    bytes
        .clone()
        .acquire_many_owned(share)
        .await
        .map_err(|_| BroadcastError::Stopped)
}
