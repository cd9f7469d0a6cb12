//! What a node keeps: batches that were checked into the log, out of it in order to the application, and
//! compared with the neighbours (`checking`).
//!
//! Entry type: [`Keeper`], one task beside the loop. The rule it keeps: the application hears of a
//! batch only when the log has it, once, and an author's events in the order sent; never of its own.

mod commands;
mod confirm;
mod confirmations;
mod dates;
mod dedup;
mod recent;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::commands::{Note, Wish};
use self::confirmations::{CONFIRM_TIMEOUT, Confirmations};
use self::dates::{Dated, Dates};
use self::dedup::Handed;
use self::recent::Recent;
use super::event::{Event, EventBus, Message};
use super::heads::Heads;
use super::inbox::Inbox;
use super::outbox::Unconfirmed;
use super::reorder_buffer::{Arrival, Delivery, GAP_WAIT, Order};
use super::store::{RoomStatus, Store};
use crate::clock::{Clock, Time, UnixClock};
use crate::gossip::{MessageIds, VerifiedBatch};
use crate::identity::NetworkId;
use crate::model::{AuthorStream, BatchId, Found, Item, Outcome, Record, Seal, Verified};
use crate::net::backpressure::SendWindows;
use crate::store::{self, Appended, LogError, Notice, Writer};
use crate::sync::{Checks, Config, Input, Owed, RequestId};

/// A neighbour of which something large was read within this time is bringing what it was asked for: what comes
/// over a websocket is read message by message, and one with 160 KiB takes a while on a slow line.
const ARRIVING: Duration = Duration::from_secs(8);

/// What the keeper wants of the loop and has not got; past that it waits.
pub(crate) const MAX_WISHES: usize = 64;
/// Appends that are on their way to the log; past that no more are taken.
const MAX_APPENDS: usize = 128;
/// How long a node that stops waits for what is on its way to the log; then it is closed, which waits
/// for the rest, and tells it nobody.
const LAST_APPENDS: Duration = Duration::from_millis(700);
/// How often what is too old is looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// How often the application is told that the log cannot be written.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// A batch, and the neighbour that it came from.
#[derive(Clone, Debug)]
pub(crate) struct Brought {
    pub(crate) batch: VerifiedBatch,
    pub(crate) by: PeerId,
}

impl Seal for Brought {}

impl Verified for Brought {
    fn record(&self) -> Record {
        Record {
            brought_by: self.by.to_bytes().into(),
            ..self.batch.record()
        }
    }
}

/// What comes back from the log and from verifying.
enum Back {
    Stored {
        batches: Vec<VerifiedBatch>,
        appended: Appended,
        origin: Origin,
    },
    /// A room's horizon, its items, and how many of those made room.
    Loaded(String, Result<(u64, Vec<Item>, u64), LogError>),
    Found(PeerId, RequestId, Result<Found, LogError>),
}

/// How batches came.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    Gossip,
    /// From a neighbour that was asked.
    Asked {
        ticket: u64,
        /// How many did not verify.
        forged: u64,
        /// Who had offered it, when it has just been sent.
        offered: Option<PeerId>,
    },
}

/// Who speaks from this node: the key, and this run of it, in a network.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) peer_id: PeerId,
    pub(crate) instance_id: [u8; 16],
    pub(crate) network: NetworkId,
    /// What its next batches follow.
    pub(crate) heads: Arc<Heads>,
    /// The time that it goes by.
    pub(crate) unix: UnixClock,
}

/// Where the log tells what it does by itself, before there is a keeper.
pub(crate) fn notice_channel() -> (
    impl FnMut(Notice) + Send + 'static,
    mpsc::UnboundedReceiver<Notice>,
) {
    // Bounded by the rooms, each told of at most once for each of the log's transactions.
    let (sender, receiver) = mpsc::unbounded_channel();
    (move |notice| drop(sender.send(notice)), receiver)
}

/// The task.
pub(crate) struct Keeper {
    own: Own,
    clock: Clock,
    unix: UnixClock,
    bus: EventBus,
    store: Store,
    writer: Arc<Writer>,
    checks: Checks<PeerId>,
    order: Order<(VerifiedBatch, bool)>,
    rooms_of: BTreeMap<PeerId, Vec<String>>,
    /// Rooms that are being read from the log, and who asks how the rooms stand meanwhile.
    loading: usize,
    asking: Vec<oneshot::Sender<Vec<RoomStatus>>>,
    /// Who waits until all that was offered is fetched.
    parting: Option<oneshot::Sender<()>>,
    inbox: Inbox,
    notes: mpsc::UnboundedReceiver<Note>,
    wishes: mpsc::Sender<Wish>,
    back: mpsc::UnboundedSender<Back>,
    back_in: mpsc::UnboundedReceiver<Back>,
    notices: mpsc::UnboundedReceiver<Notice>,
    recent: Recent,
    /// Told what neighbours were offered and have not fetched.
    send_windows: SendWindows,
    /// Counts batches that neighbours brought of what they had offered.
    ids: Arc<MessageIds>,
    appends: usize,
    prune_at: Time,
    complained: Option<Time>,
    dates: Dates,
    handed: Handed,
    confirmations: Confirmations<Unconfirmed>,
}

/// The ends of the keeper's channels.
pub(crate) struct Ends {
    pub(crate) inbox: Inbox,
    pub(crate) notes: mpsc::UnboundedReceiver<Note>,
    pub(crate) wishes: mpsc::Sender<Wish>,
    pub(crate) notices: mpsc::UnboundedReceiver<Notice>,
    pub(crate) send_windows: SendWindows,
    pub(crate) ids: Arc<MessageIds>,
    /// How many neighbours must hold a batch of our own for whoever waits for that.
    pub(crate) confirmed_by: usize,
}

impl Keeper {
    /// A keeper of `store`; none when the store is closed already.
    pub(crate) fn new(
        own: Own,
        clock: Clock,
        bus: EventBus,
        store: Store,
        keep: store::RetentionPolicy,
        ends: Ends,
    ) -> Option<Keeper> {
        let writer = store.get()?;
        let (back, back_in) = mpsc::unbounded_channel();
        let config = Config {
            keep: keep.age,
            ..Config::default()
        };
        Some(Keeper {
            unix: own.unix.clone(),
            own,
            clock,
            bus,
            store,
            writer,
            checks: Checks::new(config),
            order: Order::new(),
            rooms_of: BTreeMap::new(),
            loading: 0,
            asking: Vec::new(),
            parting: None,
            inbox: ends.inbox,
            notes: ends.notes,
            wishes: ends.wishes,
            back,
            back_in,
            notices: ends.notices,
            recent: Recent::default(),
            send_windows: ends.send_windows,
            ids: ends.ids,
            appends: 0,
            prune_at: Time::ZERO,
            complained: None,
            dates: Dates::default(),
            handed: Handed::default(),
            confirmations: Confirmations::new(ends.confirmed_by),
        })
    }

    /// Runs until the loop is gone, then closes the log.
    pub(crate) async fn run(mut self) {
        while self.step().await {}
        let _ = tokio::time::timeout(LAST_APPENDS, self.finish()).await;
        drop(self.store.take());
        // The last one to hold the log waits for its threads.
        let _ = tokio::task::spawn_blocking(move || drop(self.writer)).await;
    }

    /// What has come is still stored, and what is stored is told: no restart tells it.
    async fn finish(&mut self) {
        while self.inbox.take() {
            let (batches, _) = self.inbox.check().await;
            self.append(batches).await;
        }
        while self.appends > 0
            && let Some(back) = self.back_in.recv().await
        {
            self.on_back(back).await;
        }
        let mut out = Vec::new();
        self.order.expire(self.clock.now() + GAP_WAIT, &mut out);
        self.deliver(out);
        self.give_up_confirmations(self.clock.now() + CONFIRM_TIMEOUT);
    }

    /// Waits for one thing and deals with it; false when the loop is gone.
    async fn step(&mut self) -> bool {
        let deadline = self.clock.instant(self.deadline());
        tokio::select! {
            () = self.wishes.closed() => return false,
            Some(note) = self.notes.recv() => self.on_note(note).await,
            Some(back) = self.back_in.recv() => self.on_back(back).await,
            Some(notice) = self.notices.recv() => self.on_notice(notice).await,
            true = self.inbox.wait(), if self.appends < MAX_APPENDS => self.take_in().await,
            () = tokio::time::sleep_until(deadline.into()) => self.on_time().await,
        }
        true
    }

    fn deadline(&self) -> Time {
        [
            self.checks.deadline(),
            self.order.deadline(),
            self.recent.deadline(),
            self.confirmations.deadline(),
        ]
        .into_iter()
        .flatten()
        .fold(self.prune_at, Time::min)
    }

    async fn on_time(&mut self) {
        let now = self.clock.now();
        if self.prune_at <= now {
            self.prune_at = now + PRUNE_EVERY;
            self.writer.prune();
        }
        self.recent.expire(now);
        self.on_confirmations_due(now).await;
        let mut out = Vec::new();
        let checks = &self.checks;
        let is_coming = |(batch, _): &(VerifiedBatch, bool)| {
            checks.is_coming(batch.room().as_str(), batch.sent_at_ms())
        };
        self.order.expire_unless(now, is_coming, &mut out);
        self.deliver(out);
        let linked = self.rooms_of.keys();
        let arriving = linked.filter(|peer_id| self.send_windows.is_receiving(peer_id, ARRIVING));
        let arriving = arriving.copied().collect();
        self.check(Input::Arriving(arriving)).await;
        self.check(Input::Tick).await;
    }

    async fn on_note(&mut self, note: Note) {
        match note {
            Note::Join(room) => self.check(Input::Join(room.as_str().to_owned())).await,
            Note::Leave(room) => self.check(Input::Leave(room.as_str().to_owned())).await,
            Note::LinkUp(peer_id) => self.check(Input::LinkUp(peer_id)).await,
            Note::TakesOffers(peer_id) => self.check(Input::TakesOffers(peer_id)).await,
            Note::LinkDown(peer_id) => {
                self.rooms_of.remove(&peer_id);
                self.confirmations.lost(&peer_id);
                self.send_windows.set_offered(peer_id, 0, Owed::Nothing);
                self.check(Input::LinkDown(peer_id)).await;
            }
            Note::RoomsOf(peer_id, rooms) => {
                self.rooms_of.insert(peer_id, rooms.clone());
                self.check(Input::RoomsOf(peer_id, rooms)).await;
            }
            Note::Request(peer_id, request, bytes) => {
                self.on_clock_in(peer_id, &bytes).await;
                self.check(Input::Request(peer_id, request, bytes)).await;
            }
            Note::Sent(request, is_sent) => self.check(Input::Sent(request, is_sent)).await,
            Note::Response(token, bytes) => self.check(Input::Response(token, bytes)).await,
            Note::Failed(token) => self.check(Input::Failed(token)).await,
            Note::Own(batch, to_offer, unconfirmed) => {
                self.on_own(batch, to_offer.is_some(), unconfirmed).await;
            }
            Note::Clock(peer_id, theirs_ms) => {
                let now = self.clock.now();
                self.confirmations.set_clock(now, peer_id, theirs_ms);
            }
            // A room that is still being read from the log would stand there as empty.
            Note::Status(reply) if self.loading > 0 => self.asking.push(reply),
            Note::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Note::AllTaken(reply) => {
                self.parting = Some(reply);
                self.see_off();
            }
        }
    }

    async fn on_back(&mut self, back: Back) {
        match back {
            Back::Stored {
                batches,
                appended,
                origin,
            } => self.on_stored(batches, appended, origin).await,
            Back::Loaded(room, loaded) => {
                self.loading -= 1;
                match loaded {
                    Ok((low_watermark_ms, items, removed)) => {
                        let loaded = Input::Loaded(room.clone(), low_watermark_ms, items);
                        self.check(loaded).await;
                        self.check(Input::Pruned {
                            room,
                            low_watermark_ms,
                            removed,
                        })
                        .await;
                    }
                    Err(error) => self.complain(&error),
                }
                if self.loading == 0 {
                    for reply in std::mem::take(&mut self.asking) {
                        let _ = reply.send(self.status());
                    }
                }
            }
            Back::Found(peer_id, request, Ok(found)) => {
                self.check(Input::Found(peer_id, request, found)).await;
            }
            Back::Found(peer_id, request, Err(error)) => {
                self.complain(&error);
                // The neighbour is told to come later.
                self.check(Input::Found(peer_id, request, Found::default()))
                    .await;
            }
        }
    }

    async fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Pruned(pruned) => {
                if let Some(crowding) = &pruned.crowding {
                    let noted = self.store.crowders.record(crowding);
                    if let Some(crowding) = noted {
                        self.bus.emit(Event::Crowding(crowding));
                    }
                }
                self.check(Input::Pruned {
                    room: pruned.room,
                    low_watermark_ms: pruned.low_watermark_ms,
                    removed: pruned.removed,
                })
                .await;
            }
            Notice::Recreated(remade) => {
                let reason = remade.to_string();
                tracing::error!("{reason}");
                self.bus.emit(Event::Error { reason });
                // What is held is read again, and compared with the neighbours at once.
                let rooms: Vec<String> = self.checks.rooms().map(str::to_owned).collect();
                for room in rooms {
                    self.check(Input::Leave(room.clone())).await;
                    self.check(Input::Join(room)).await;
                }
            }
            Notice::NotCommitted(error) => self.complain(&error),
        }
    }

    /// Checks what has come, and has it stored.
    async fn take_in(&mut self) {
        let (batches, verdict) = self.inbox.check().await;
        self.append(batches).await;
        // Mostly it is stored by now.
        while let Ok(back) = self.back_in.try_recv() {
            self.on_back(back).await;
        }
        if let Some(verdict) = verdict {
            // The application takes it meanwhile.
            tokio::task::yield_now().await;
            self.inbox.tell(verdict).await;
        }
    }

    /// Hands batches to the log, waiting for room if need be. Its answer comes back as
    /// [`Back::Stored`], in the order in which they were handed over.
    async fn append(&mut self, batches: Vec<Brought>) {
        if batches.is_empty() {
            return;
        }
        self.appends += 1;
        let returned = batches
            .iter()
            .map(|brought| brought.batch.clone())
            .collect();
        let done = self.back.clone();
        let told = move |appended| {
            let _ = done.send(Back::Stored {
                batches: returned,
                appended,
                origin: Origin::Gossip,
            });
        };
        self.writer.append_in_turn(&batches, told).await;
    }

    async fn on_stored(&mut self, batches: Vec<VerifiedBatch>, appended: Appended, origin: Origin) {
        self.appends -= 1;
        let outcomes = match appended {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.complain(&error);
                Vec::new()
            }
        };
        let now = self.clock.now();
        let mut due = Vec::new();
        let mut new = 0;
        let (is_live, brought_by) = match origin {
            Origin::Gossip => (true, None),
            Origin::Asked { offered, .. } => (offered.is_some(), offered),
        };
        for (batch, outcome) in batches.into_iter().zip(outcomes) {
            if matches!(outcome, Outcome::New { .. }) {
                self.own.heads.add_stored(&batch);
            }
            match outcome {
                Outcome::New { follows } => {
                    new += 1;
                    self.spread(&batch, brought_by).await;
                    if !self.is_own(&batch) && !self.handed.contains(&batch.id()) {
                        self.check_date(&batch, is_live);
                        let arrival = arrival(batch, follows, !is_live);
                        self.order.arrived(now, arrival, &mut due);
                    }
                }
                Outcome::Conflict { with } => {
                    new += 1;
                    self.spread(&batch, brought_by).await;
                    self.bus.emit(Event::Equivocation {
                        author: batch.author(),
                        room: batch.room().clone(),
                        seq: batch.first_seq(),
                        first: BatchId(with),
                        second: batch.id(),
                    });
                }
                Outcome::TooOld if is_live && !self.is_own(&batch) => {
                    self.check_date(&batch, is_live);
                    self.hand_over(&batch);
                }
                Outcome::Held | Outcome::TooOld | Outcome::OutOfRange => {}
            }
        }
        self.deliver(due);
        if let Origin::Asked { ticket, forged, .. } = origin {
            self.check(Input::Settled {
                ticket,
                stored: new,
                forged,
            })
            .await;
        }
    }

    /// Hands over, once, what comes live and is older than all that the log keeps: its author is heard, though its
    /// clock is wrong, or ours.
    fn hand_over(&mut self, batch: &VerifiedBatch) {
        if self.handed.add(batch.id()) {
            let messages = messages(batch, false);
            self.bus.emit_all(messages.map(Event::Message));
        }
    }

    /// Tells of a batch that is dated earlier than it can have been sent.
    fn check_date(&mut self, batch: &VerifiedBatch, is_live: bool) {
        let now_ms = self.unix.now_ms();
        let stream = (batch.author(), batch.instance_id(), batch.room().clone());
        let dated = Dated {
            first_seq: batch.first_seq(),
            sent_at_ms: batch.sent_at_ms(),
        };
        if let Some((by, than)) = self.dates.check(stream, dated, is_live, now_ms) {
            self.bus.emit(Event::BackDated {
                author: batch.author(),
                room: batch.room().clone(),
                seq: batch.first_seq(),
                id: batch.id(),
                by,
                than,
            });
        }
    }

    /// Whether this run of the node has said it. A neighbour on a quick link may have it, and hand it
    /// back when asked what it holds, before our own log does, which is written when the links have
    /// taken it: whoever said it is not told of it.
    fn is_own(&self, batch: &VerifiedBatch) -> bool {
        batch.author() == self.own.peer_id && batch.instance_id() == self.own.instance_id
    }

    /// Hands batches to the application, event by event.
    fn deliver(&self, due: Vec<Delivery<(VerifiedBatch, bool)>>) {
        for Delivery { item, late } in due {
            let (batch, fetched) = item;
            let messages = messages(&batch, fetched || late);
            self.bus.emit_all(messages.map(Event::Message));
        }
    }

    fn complain(&mut self, error: &LogError) {
        let now = self.clock.now();
        if self
            .complained
            .is_none_or(|at| now.since(at) >= COMPLAIN_EVERY)
        {
            self.complained = Some(now);
            tracing::error!(%error, "the log");
            self.bus.emit(Event::Error {
                reason: error.to_string(),
            });
        }
    }
}

fn arrival(batch: VerifiedBatch, follows: bool, fetched: bool) -> Arrival<(VerifiedBatch, bool)> {
    Arrival {
        stream: AuthorStream {
            room: batch.room().as_str().to_owned(),
            author: Bytes::copy_from_slice(&batch.author_key().to_protobuf()),
            instance: batch.instance_id(),
        },
        first_seq: batch.first_seq(),
        count: batch.events().len() as u64,
        follows,
        size: batch.bytes().len(),
        item: (batch, fetched),
    }
}

/// A batch's events as the application sees them, in order.
pub(crate) fn messages(
    batch: &VerifiedBatch,
    backfill: bool,
) -> impl Iterator<Item = Message> + '_ {
    batch.numbered_events().map(move |(seq, event)| Message {
        id: batch.id(),
        room: batch.room().clone(),
        author: batch.author(),
        instance_id: batch.instance_id(),
        seq,
        name: event.name.clone(),
        data: event.data.clone(),
        sent_at_ms: batch.sent_at_ms(),
        backfill,
    })
}
