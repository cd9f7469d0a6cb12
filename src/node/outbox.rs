//! The outbox: events of the application are numbered, batched, signed, passed to the loop and stored.
//!
//! Entry type: [`run`], one task. The rule it keeps: batching adds no delay. With an empty queue a batch holds one event and
//! leaves at once; events that are queued while a batch is in progress travel together in the next one, under one signature.

mod batching;
mod publish;
mod queue;
mod receipt;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use self::batching::{by_room, next_publish_group, split};
pub(crate) use self::publish::{Publish, PublishOutcome, PublishResult};
pub(crate) use self::queue::{MAX_WAITING, MAX_WAITING_BYTES, Outgoing, permit};
pub use self::receipt::BroadcastReceipt;
pub(crate) use self::receipt::Unconfirmed;
use self::receipt::{Waiting, refuse};
use super::error::BroadcastError;
use super::heads::{EarlierBatch, Heads};
use super::ingest::SyncCommand;
use super::store::Store;
use crate::clock::UnixClock;
use crate::gossip::{self, Author, MAX_AHEAD_MS, MAX_EVENTS, VerifiedBatch};
use crate::model::{BatchId, Outcome, RoomName};
use crate::store::Appended;

/// A batch and the senders of its events.
type Signed = (VerifiedBatch, Vec<Waiting>);

/// The outbox's ends of its channels.
pub(crate) struct TaskChannels {
    /// To the loop, which publishes batches.
    pub(crate) publishes: mpsc::Sender<Publish>,
    pub(crate) store: Store,
    /// To the ingest task, which announces and compares stored batches.
    pub(crate) sync_commands: mpsc::UnboundedSender<SyncCommand>,
    /// Whether senders wait until neighbours have confirmed that they store an event.
    pub(crate) is_confirmed: bool,
}

/// Sends `events` until the node has stopped or its last handle is dropped.
pub(crate) async fn run(
    author: Author,
    heads: Arc<Heads>,
    clock: UnixClock,
    mut events: mpsc::Receiver<Outgoing>,
    channels: TaskChannels,
) {
    let mut outbox = Outbox {
        author,
        heads,
        clock,
        last_date_ms: 0,
        next_seq: HashMap::new(),
        channels,
    };
    let mut queued = Vec::new();
    while events.recv_many(&mut queued, MAX_EVENTS).await > 0 {
        for (room, events) in by_room(queued.drain(..)) {
            let mut batches = VecDeque::from(split(events));
            while !batches.is_empty() {
                let group = next_publish_group(&mut batches);
                outbox.send(&room, group).await;
            }
        }
    }
}

struct Outbox {
    author: Author,
    heads: Arc<Heads>,
    clock: UnixClock,
    /// The date of the last batch, in Unix milliseconds.
    last_date_ms: u64,
    next_seq: HashMap<RoomName, u64>,
    channels: TaskChannels,
}

impl Outbox {
    /// Signs batches, waits until the loop has published them, and has them stored. Batches that were not published give
    /// their numbers back, so that the published numbers have no gap.
    async fn send(&mut self, room: &RoomName, batches: Vec<Vec<Outgoing>>) {
        if self.heads.needs_earlier(room) {
            self.read_heads(room).await;
        }
        let first_seq = self.next_seq.get(room).copied().unwrap_or(1);
        let mut signed = self.sign(room, first_seq, batches);
        let result = self.publish(&signed).await;
        let refused = signed.split_off(result.published.len().min(signed.len()));
        for (batch, _) in &signed {
            self.next_seq.insert(room.clone(), batch.last_seq() + 1);
            self.heads.record_sent(room, batch.prev(), batch.id());
        }
        let error = result.refused.unwrap_or(BroadcastError::Stopped);
        for (_, waiting) in refused {
            refuse(waiting, &error);
        }
        for ((batch, waiting), outcome) in signed.into_iter().zip(result.published) {
            self.store(batch, waiting, outcome).await;
        }
    }

    /// Reads from the log the last batches that earlier runs of the node have sent to the room.
    async fn read_heads(&self, room: &RoomName) {
        let Some(log) = self.channels.store.get() else {
            return;
        };
        let name = room.as_str().to_owned();
        let author = self.author.identity().public_key_protobuf();
        let newest = log
            .ask(move |reader| reader.newest_by_author(&name, &author))
            .await;
        let newest = newest.unwrap_or_else(|error| {
            // Batches without predecessors are valid too.
            tracing::warn!(%room, %error, "the last batches of this identity's earlier runs could not be read");
            Vec::new()
        });
        let left = newest.into_iter().map(|batch| EarlierBatch {
            id: BatchId(batch.id),
            sent_at_ms: batch.sent_at_ms,
            is_last: batch.is_last,
            prev: gossip::prev_of(&batch.bytes),
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
            let date_ms = next_date_ms(self.last_date_ms, self.clock.now_ms());
            match self.author.seal(room, next_seq, date_ms, &prev, events) {
                Ok(sealed) => {
                    self.last_date_ms = date_ms;
                    prev = vec![sealed.id()];
                    next_seq += waiting.len() as u64;
                    signed.push((sealed.into(), waiting));
                }
                Err(error) => refuse(waiting, &BroadcastError::Unsendable(error.to_string())),
            }
        }
        signed
    }

    async fn publish(&self, signed: &[Signed]) -> PublishResult {
        let stopped = || PublishResult {
            published: Vec::new(),
            refused: Some(BroadcastError::Stopped),
        };
        let (reply, answer) = oneshot::channel();
        let publish = Publish {
            batches: signed.iter().map(|(batch, _)| batch.clone()).collect(),
            published: Vec::new(),
            reply,
        };
        if self.channels.publishes.send(publish).await.is_err() {
            return stopped();
        }
        let result = answer.await.unwrap_or_else(|_| stopped());
        // The links send meanwhile: this node's own log is in no hurry.
        tokio::task::yield_now().await;
        result
    }

    /// Queues a published batch for the log. Its senders get their receipts only after it is stored; later batches wait for
    /// a place in the log's queue, not for that.
    async fn store(&self, batch: VerifiedBatch, waiting: Vec<Waiting>, outcome: PublishOutcome) {
        let Some(log) = self.channels.store.get() else {
            return refuse(waiting, &BroadcastError::Stopped);
        };
        let sync_commands = self.channels.sync_commands.clone();
        let (stored_batch, is_confirmed) = (batch.clone(), self.channels.is_confirmed);
        log.append_in_turn(std::slice::from_ref(&batch), move |appended| {
            if let Some(reason) = not_stored_reason(&appended) {
                return refuse(waiting, &BroadcastError::NotKept(reason));
            }
            let stored = Unconfirmed {
                id: stored_batch.id(),
                first_seq: stored_batch.first_seq(),
                links: outcome.links,
                waiting,
            };
            let (now, later) = match is_confirmed {
                true => (None, Some(stored)),
                false => (Some(stored), None),
            };
            // An ingest task that has ended compares no more.
            let command = SyncCommand::OwnStored(stored_batch, outcome.to_announce, later);
            let _ = sync_commands.send(command);
            if let Some(stored) = now {
                stored.confirm(0);
            }
        })
        .await;
    }
}

/// Returns the date of a batch that is signed at `now_ms`, after one dated `last_ms`. A date does not follow a clock that was
/// set back, up to half of the time by which readers accept dates ahead of their clocks: the other half is for clocks that
/// differ.
fn next_date_ms(last_ms: u64, now_ms: u64) -> u64 {
    match last_ms.saturating_sub(now_ms) > MAX_AHEAD_MS / 2 {
        true => now_ms,
        false => last_ms.max(now_ms),
    }
}

/// Returns the reason why the log has not stored a batch of its own node; none when it has.
fn not_stored_reason(appended: &Appended) -> Option<String> {
    match appended {
        Err(error) => Some(error.to_string()),
        Ok(outcomes) if outcomes.iter().all(Outcome::is_held) => None,
        Ok(_) => Some(
            "this node's clock is behind what its log keeps: set the clock, and send it again"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_do_not_go_back_with_the_clock_but_do_not_stay_ahead_for_long_either() {
        let now = 1_900_000_000_000;
        assert_eq!(next_date_ms(0, now), now);
        assert_eq!(next_date_ms(now - 1, now), now);
        assert_eq!(next_date_ms(now + 60_000, now), now + 60_000);
        // That clock was wrong, and readers would refuse later batches.
        assert_eq!(next_date_ms(now + 3_600_000, now), now);
    }

    #[test]
    fn an_event_counts_as_sent_only_when_the_log_has_it() {
        let new = Outcome::New { follows: true };
        let conflict = Outcome::Conflict { with: [0; 32] };
        for outcome in [new, Outcome::Held, conflict] {
            assert_eq!(not_stored_reason(&Ok(vec![outcome])), None);
        }
        for outcome in [Outcome::TooOld, Outcome::OutOfRange] {
            let reason = not_stored_reason(&Ok(vec![outcome])).expect("it is not stored");
            assert!(reason.contains("clock"), "{reason}");
        }
        let closed = Err(Arc::new(crate::store::LogError::Closed));
        assert!(not_stored_reason(&closed).is_some());
    }
}
