//! Ingest: verified batches go into the log, from there in order to the application, and into anti-entropy ("data
//! checking") with the neighbours.
//!
//! Entry type: [`IngestTask`], one task beside the node's loop. The rule it keeps: the application gets a batch only after
//! the log has stored it, once, and each author's events in the order sent; never a batch of this run of the node.

mod commands;
mod confirm;
mod confirmations;
mod dates;
mod dedup;
mod delivery;
mod log_queue;
mod recent;
mod sync;
#[cfg(test)]
mod tests;
mod verify;

use std::time::Duration;

use tokio::sync::mpsc;

pub(crate) use self::commands::{
    LocalAuthor, NetworkRequest, SyncChannels, SyncCommand, TaskChannels,
};
use self::confirmations::CONFIRM_TIMEOUT;
use self::delivery::AppDelivery;
pub(crate) use self::delivery::messages;
pub(crate) use self::log_queue::Brought;
use self::log_queue::{LogQueue, Origin, StoreEvent};
use self::sync::SyncDriver;
use super::event::{Event, EventBus};
use super::inbox::Inbox;
use super::store::Store;
use crate::clock::{Clock, Time};
use crate::gossip::VerifiedBatch;
use crate::model::Outcome;
use crate::store::{Appended, LogError, Notice};
use crate::sync::Input;

/// Maximum number of requests that wait for the loop; past it this task waits.
pub(crate) const MAX_NETWORK_REQUESTS: usize = 64;
/// How long a node that stops waits for appends in flight. After that the log is closed, which stores the rest without
/// reporting it.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(700);
/// Interval at which the log is asked to apply its retention policy to old batches.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);
/// Minimum time between two reports that the log cannot be written.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Returns a callback for the log's own notices, and the channel to which it sends them. The log starts before the task.
pub(crate) fn notice_channel() -> (
    impl FnMut(Notice) + Send + 'static,
    mpsc::UnboundedReceiver<Notice>,
) {
    // Bounded by the number of rooms: at most one notice for each room and transaction.
    let (sender, receiver) = mpsc::unbounded_channel();
    (move |notice| drop(sender.send(notice)), receiver)
}

/// The task that stores, delivers and compares batches.
pub(crate) struct IngestTask {
    local: LocalAuthor,
    clock: Clock,
    bus: EventBus,
    store: Store,
    inbox: Inbox,
    log: LogQueue,
    sync: SyncDriver,
    delivery: AppDelivery,
    commands: mpsc::UnboundedReceiver<SyncCommand>,
    store_events: mpsc::UnboundedReceiver<StoreEvent>,
    notices: mpsc::UnboundedReceiver<Notice>,
    prune_at: Time,
    /// When an error of the log was last reported.
    last_warning: Option<Time>,
}

impl IngestTask {
    /// Returns the task for `store`; none when the store is closed already.
    pub(crate) fn new(
        local: LocalAuthor,
        clock: Clock,
        bus: EventBus,
        store: Store,
        keep: crate::store::RetentionPolicy,
        channels: TaskChannels,
    ) -> Option<IngestTask> {
        let (store_events_out, store_events) = mpsc::unbounded_channel();
        let log = LogQueue::new(store.get()?, store_events_out);
        let delivery = AppDelivery::new(&local, bus.clone());
        let sync = SyncDriver::new(&local, clock, bus.clone(), keep, channels.sync);
        Some(IngestTask {
            local,
            clock,
            bus,
            store,
            inbox: channels.inbox,
            log,
            sync,
            delivery,
            commands: channels.commands,
            store_events,
            notices: channels.notices,
            prune_at: Time::ZERO,
            last_warning: None,
        })
    }

    /// Runs until the loop has ended, then closes the log.
    pub(crate) async fn run(mut self) {
        while self.step().await {}
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.finish()).await;
        drop(self.store.take());
        // The last owner of the log waits for its threads.
        let _ = tokio::task::spawn_blocking(move || drop(self.log)).await;
    }

    /// Stores and delivers everything that has arrived: a restart would not deliver it.
    async fn finish(&mut self) {
        while self.inbox.take() {
            let (batches, _) = self.inbox.check().await;
            self.log.append(batches).await;
        }
        while !self.log.is_idle()
            && let Some(event) = self.store_events.recv().await
        {
            self.on_store_event(event).await;
        }
        let now = self.clock.now();
        self.delivery.flush(now);
        self.sync.give_up_confirmations(now + CONFIRM_TIMEOUT);
    }

    /// Waits for one input and handles it. Returns false when the loop has ended.
    async fn step(&mut self) -> bool {
        let deadline = self.clock.instant(self.deadline());
        tokio::select! {
            () = self.sync.loop_ended() => return false,
            Some(command) = self.commands.recv() => self.sync.on_command(command, &mut self.log).await,
            Some(event) = self.store_events.recv() => self.on_store_event(event).await,
            Some(notice) = self.notices.recv() => self.on_notice(notice).await,
            true = self.inbox.wait(), if self.log.has_room() => self.on_messages().await,
            () = tokio::time::sleep_until(deadline.into()) => self.on_time().await,
        }
        true
    }

    fn deadline(&self) -> Time {
        [self.sync.deadline(), self.delivery.deadline()]
            .into_iter()
            .flatten()
            .fold(self.prune_at, Time::min)
    }

    async fn on_time(&mut self) {
        let now = self.clock.now();
        if self.prune_at <= now {
            self.prune_at = now + PRUNE_INTERVAL;
            self.log.prune();
        }
        self.sync.on_deadlines(now, &mut self.log).await;
        let sync = &self.sync;
        self.delivery
            .expire(now, |batch| sync.is_fetch_pending(batch));
        self.sync.on_tick(&mut self.log).await;
    }

    /// Verifies the messages that gossip brought, and has them stored.
    async fn on_messages(&mut self) {
        let (batches, verdict) = self.inbox.check().await;
        self.log.append(batches).await;
        // Mostly they are stored by now.
        while let Ok(event) = self.store_events.try_recv() {
            self.on_store_event(event).await;
        }
        if let Some(verdict) = verdict {
            // The application reads the message meanwhile.
            tokio::task::yield_now().await;
            self.inbox.send_verdict(verdict).await;
        }
    }

    async fn on_store_event(&mut self, event: StoreEvent) {
        match event {
            StoreEvent::Stored {
                batches,
                appended,
                origin,
            } => self.on_stored(batches, appended, origin).await,
            StoreEvent::Loaded(room, loaded) => {
                let loaded = self.or_warn(loaded);
                self.sync.on_loaded(room, loaded, &mut self.log).await;
            }
            StoreEvent::Found(peer_id, request, found) => {
                // After an error the answer is empty, and the neighbour retries later.
                let found = self.or_warn(found).unwrap_or_default();
                let found = Input::Found(peer_id, request, found);
                self.sync.handle(found, &mut self.log).await;
            }
        }
    }

    async fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Pruned(pruned) => {
                if let Some(crowding) = &pruned.crowding
                    && let Some(crowding) = self.store.crowders.record(crowding)
                {
                    self.bus.emit(Event::Crowding(crowding));
                }
                let pruned = Input::Pruned {
                    room: pruned.room.as_str().to_owned(),
                    low_watermark_ms: pruned.low_watermark_ms,
                    removed: pruned.removed,
                };
                self.sync.handle(pruned, &mut self.log).await;
            }
            Notice::Recreated(recreated) => {
                let reason = recreated.to_string();
                tracing::error!("{reason}");
                self.bus.emit(Event::Error { reason });
                self.sync.reload_rooms(&mut self.log).await;
            }
            Notice::NotCommitted(error) => self.warn(&error),
        }
    }

    async fn on_stored(&mut self, batches: Vec<VerifiedBatch>, appended: Appended, origin: Origin) {
        self.log.on_appended();
        let outcomes = match appended {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.warn(&error);
                Vec::new()
            }
        };
        let now = self.clock.now();
        let mut due = Vec::new();
        let mut stored = 0;
        let is_live = origin.is_live();
        for (batch, outcome) in batches.into_iter().zip(outcomes) {
            match outcome {
                Outcome::New { follows } => {
                    stored += 1;
                    self.local.heads.add_stored(&batch);
                    self.spread(&batch, origin).await;
                    self.delivery.on_new(now, batch, follows, is_live, &mut due);
                }
                Outcome::Conflict { with } => {
                    stored += 1;
                    self.spread(&batch, origin).await;
                    self.delivery.on_conflict(&batch, with);
                }
                Outcome::TooOld if is_live => self.delivery.on_too_old(&batch),
                Outcome::Held | Outcome::TooOld | Outcome::OutOfRange => {}
            }
        }
        self.delivery.deliver(due);
        if let Origin::Fetched { ticket, forged, .. } = origin {
            let settled = Input::Settled {
                ticket,
                stored,
                forged,
            };
            self.sync.handle(settled, &mut self.log).await;
        }
    }

    /// Passes a stored batch to anti-entropy. One that a neighbour had announced is also announced to the others, and
    /// gossiped to those that understand no announcements.
    async fn spread(&mut self, batch: &VerifiedBatch, origin: Origin) {
        match origin.announced_by() {
            None => self.sync.on_stored(batch, &mut self.log).await,
            Some(peer_id) => self.sync.relay(batch, peer_id, &mut self.log).await,
        }
    }

    fn or_warn<T>(&mut self, result: Result<T, LogError>) -> Option<T> {
        result.inspect_err(|error| self.warn(error)).ok()
    }

    /// Reports an error of the log, at most once in [`WARNING_INTERVAL`].
    fn warn(&mut self, error: &LogError) {
        let now = self.clock.now();
        let is_due = |at| now.since(at) >= WARNING_INTERVAL;
        if self.last_warning.is_none_or(is_due) {
            self.last_warning = Some(now);
            tracing::error!(%error, "the log");
            self.bus.emit(Event::Error {
                reason: error.to_string(),
            });
        }
    }
}
