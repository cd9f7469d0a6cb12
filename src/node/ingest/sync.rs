//! The anti-entropy driver ("data checking"): inputs go to the state machine, and its outputs to the log and the loop.
//!
//! Entry type: [`SyncDriver`]. The rule it keeps: every output is carried out in order, and fetched batches are verified
//! like gossip.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

use super::commands::{LocalAuthor, NetworkRequest, SyncChannels, SyncCommand};
use super::confirmations::Confirmations;
use super::log_queue::{Loaded, LogQueue};
use super::recent::Recent;
use super::verify::Fetch;
use crate::clock::{Clock, Time, UnixClock};
use crate::gossip::{MessageIds, VerifiedBatch};
use crate::identity::NetworkId;
use crate::model::{Id, Item};
use crate::net::backpressure::SendWindows;
use crate::node::event::{Event, EventBus};
use crate::node::outbox::Unconfirmed;
use crate::node::store::RoomStatus;
use crate::sync::message::Request;
use crate::sync::{AntiEntropy, Checked, Config, Input, Output, OwnPending, RequestId, Room};

/// A neighbour counts as sending while large data has been read from its link within this time. A websocket message is
/// read as a whole, and one of 160 KiB takes a while on a slow line.
const ARRIVING_TIMEOUT: Duration = Duration::from_secs(8);

/// Anti-entropy with the neighbours.
pub(super) struct SyncDriver {
    clock: Clock,
    unix: UnixClock,
    network: NetworkId,
    bus: EventBus,
    anti_entropy: AntiEntropy<PeerId>,
    /// The rooms of each linked neighbour.
    rooms_of: BTreeMap<PeerId, Vec<String>>,
    /// Number of rooms that are being read from the log. Until it is zero, `status_replies` wait: such a room would be
    /// reported as empty.
    loading: usize,
    status_replies: Vec<oneshot::Sender<Vec<RoomStatus>>>,
    /// Answered when neighbours have fetched everything that was announced to them.
    all_confirmed_reply: Option<oneshot::Sender<()>>,
    recent: Recent,
    pub(super) confirmations: Confirmations<Unconfirmed>,
    network_requests: mpsc::Sender<NetworkRequest>,
    send_windows: SendWindows,
    ids: Arc<MessageIds>,
}

impl SyncDriver {
    /// Returns a driver without rooms and neighbours.
    pub(super) fn new(
        local: &LocalAuthor,
        clock: Clock,
        bus: EventBus,
        keep: crate::store::RetentionPolicy,
        channels: SyncChannels,
    ) -> SyncDriver {
        let config = Config {
            keep: keep.age,
            ..Config::default()
        };
        SyncDriver {
            clock,
            unix: local.unix.clone(),
            network: local.network,
            bus,
            anti_entropy: AntiEntropy::new(config),
            rooms_of: BTreeMap::new(),
            loading: 0,
            status_replies: Vec::new(),
            all_confirmed_reply: None,
            recent: Recent::default(),
            confirmations: Confirmations::new(channels.confirmed_by),
            network_requests: channels.network_requests,
            send_windows: channels.send_windows,
            ids: channels.ids,
        }
    }

    /// Resolves when the loop has ended.
    pub(super) async fn loop_ended(&self) {
        self.network_requests.closed().await;
    }

    /// Returns when [`SyncDriver::on_deadlines`] and [`SyncDriver::on_tick`] are next due.
    pub(super) fn deadline(&self) -> Option<Time> {
        let deadlines = [
            self.anti_entropy.deadline(),
            self.recent.deadline(),
            self.confirmations.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Drops expired batches of the upload cache, and answers or repeats confirmations that are due.
    pub(super) async fn on_deadlines(&mut self, now: Time, log: &mut LogQueue) {
        self.recent.expire(now);
        self.on_confirmations_due(now, log).await;
    }

    /// Runs anti-entropy's own timers.
    pub(super) async fn on_tick(&mut self, log: &mut LogQueue) {
        let linked = self.rooms_of.keys();
        let arriving = linked.filter(|id| self.send_windows.is_receiving(id, ARRIVING_TIMEOUT));
        let arriving = arriving.copied().collect();
        self.handle(Input::Arriving(arriving), log).await;
        self.handle(Input::Tick, log).await;
    }

    /// Handles a command of the loop or the outbox.
    pub(super) async fn on_command(&mut self, command: SyncCommand, log: &mut LogQueue) {
        let input = match command {
            SyncCommand::Join(room) => Input::Join(room.as_str().to_owned()),
            SyncCommand::Leave(room) => Input::Leave(room.as_str().to_owned()),
            SyncCommand::LinkUp(peer_id) => Input::LinkUp(peer_id),
            SyncCommand::SupportsAnnouncements(peer_id) => Input::SupportsAnnouncements(peer_id),
            SyncCommand::LinkDown(peer_id) => {
                self.rooms_of.remove(&peer_id);
                self.confirmations.on_link_down(&peer_id);
                self.send_windows
                    .set_announced(peer_id, 0, OwnPending::Nothing);
                Input::LinkDown(peer_id)
            }
            SyncCommand::RoomsOf(peer_id, rooms) => {
                self.rooms_of.insert(peer_id, rooms.clone());
                Input::RoomsOf(peer_id, rooms)
            }
            SyncCommand::Request(peer_id, request, bytes) => {
                Input::Request(peer_id, request, bytes)
            }
            SyncCommand::Sent(request, is_sent) => Input::Sent(request, is_sent),
            SyncCommand::Response(token, bytes) => Input::Response(token, bytes),
            SyncCommand::Failed(token) => Input::Failed(token),
            SyncCommand::OwnStored(batch, to_announce, unconfirmed) => {
                let is_announced = to_announce.is_some();
                return self.on_own(batch, is_announced, unconfirmed, log).await;
            }
            SyncCommand::Clock(peer_id, theirs_ms) => {
                let now = self.clock.now();
                return self.confirmations.set_clock(now, peer_id, theirs_ms);
            }
            SyncCommand::Status(reply) => {
                self.status_replies.push(reply);
                return self.answer_status();
            }
            SyncCommand::AllConfirmed(reply) => {
                self.all_confirmed_reply = Some(reply);
                return self.answer_all_confirmed();
            }
        };
        self.handle(input, log).await;
    }

    /// Gives `input` to anti-entropy and carries out all that follows from it.
    pub(super) async fn handle(&mut self, input: Input<PeerId>, log: &mut LogQueue) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            let (now, unix) = (self.clock.now(), self.unix.read());
            self.anti_entropy.handle(now, unix, input, &mut out);
            for output in out {
                inputs.extend(self.carry_out(output, log).await);
            }
        }
        self.answer_all_confirmed();
    }

    /// Ends the wait for confirmations of a batch. It has no outputs.
    pub(super) fn unwatch(&mut self, id: Id) {
        let (now, unix) = (self.clock.now(), self.unix.read());
        let unwatch = Input::Unwatch(id);
        self.anti_entropy
            .handle(now, unix, unwatch, &mut Vec::new());
    }

    /// Returns the present time.
    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    /// A room has been read from the log; none when that failed.
    pub(super) async fn on_loaded(
        &mut self,
        room: String,
        loaded: Option<Loaded>,
        log: &mut LogQueue,
    ) {
        self.loading -= 1;
        if let Some((low_watermark_ms, items, removed)) = loaded {
            let loaded = Input::Loaded(room.clone(), low_watermark_ms, items);
            self.handle(loaded, log).await;
            let pruned = Input::Pruned {
                room,
                low_watermark_ms,
                removed,
            };
            self.handle(pruned, log).await;
        }
        self.answer_status();
    }

    /// Reads all rooms from the log again, and compares them with the neighbours at once: the log was rebuilt.
    pub(super) async fn reload_rooms(&mut self, log: &mut LogQueue) {
        let rooms: Vec<String> = self.anti_entropy.rooms().map(str::to_owned).collect();
        for room in rooms {
            self.handle(Input::Leave(room.clone()), log).await;
            self.handle(Input::Join(room), log).await;
        }
    }

    /// A batch that arrived by gossip, or was missing here, is stored.
    pub(super) async fn on_stored(&mut self, batch: &VerifiedBatch, log: &mut LogQueue) {
        let stored = Input::Stored {
            room: batch.room().as_str().to_owned(),
            item: item_of(batch),
        };
        self.handle(stored, log).await;
    }

    /// A batch that neighbour `from` had announced is stored: announces it to the others, and has it gossiped to those
    /// that understand no announcements.
    pub(super) async fn relay(&mut self, batch: &VerifiedBatch, from: PeerId, log: &mut LogQueue) {
        self.announce(batch, Some(from), log).await;
        self.send(NetworkRequest::Gossip(batch.clone())).await;
    }

    /// Announces a stored batch to the neighbours, except `from`, and keeps it ready for their fetches.
    pub(super) async fn announce(
        &mut self,
        batch: &VerifiedBatch,
        from: Option<PeerId>,
        log: &mut LogQueue,
    ) {
        let (id, envelope) = (batch.id().0, batch.bytes().clone());
        self.recent.insert(self.clock.now(), id, envelope);
        let large = Input::Large {
            room: batch.room().as_str().to_owned(),
            item: item_of(batch),
            bytes: batch.bytes().len(),
            from,
        };
        self.handle(large, log).await;
    }

    /// Returns whether an earlier batch of the same author may still be fetched.
    pub(super) fn is_fetch_pending(&self, batch: &VerifiedBatch) -> bool {
        let room = batch.room().as_str();
        self.anti_entropy.is_fetch_pending(room, batch.sent_at_ms())
    }

    /// Carries out one output. Returns the next input, when the result is known at once.
    async fn carry_out(
        &mut self,
        output: Output<PeerId>,
        log: &mut LogQueue,
    ) -> Option<Input<PeerId>> {
        match output {
            Output::Load(room, most) => {
                self.loading += 1;
                log.load(room, most);
            }
            Output::Read {
                peer,
                request,
                room,
                ids,
                most,
            } => match self.recent.find(&ids) {
                Some(found) => return Some(Input::Found(peer, request, found)),
                None => log.find(peer, request, room, ids, most),
            },
            Output::Request(peer_id, token, request) => self.ask(peer_id, token, request).await,
            Output::Respond(_, request, response) => self.reply(request, response).await,
            Output::Fetched {
                peer: peer_id,
                ticket,
                room,
                envelopes,
                announced,
            } => {
                if announced.is_some() {
                    self.ids.count();
                }
                log.verify_and_append(Fetch {
                    peer_id,
                    ticket,
                    room,
                    envelopes,
                    announced,
                    network: self.network,
                    now_ms: self.unix.now_ms(),
                    bus: self.bus.clone(),
                });
            }
            Output::Outstanding { peer, bytes, own } => {
                self.send_windows.set_announced(peer, bytes, own)
            }
            Output::Holds(peer_id, id) => return self.on_holds(peer_id, id),
            Output::Checked(checked) => self.on_checked(checked),
            Output::Drop(peer_id, fault) => {
                let reason = format!("data checking: {fault}");
                self.send(NetworkRequest::Drop { peer_id, reason }).await;
            }
        }
        None
    }

    async fn ask(&self, peer_id: PeerId, token: u64, mut request: Vec<u8>) {
        Request::add_clock(&mut request, self.unix.now_ms());
        let ask = NetworkRequest::Ask {
            peer_id,
            token,
            request,
        };
        self.send(ask).await;
    }

    async fn reply(&self, request: RequestId, response: Vec<u8>) {
        self.send(NetworkRequest::Reply { request, response }).await;
    }

    /// Sends a request to the loop. Waits while [`super::MAX_NETWORK_REQUESTS`] are queued.
    async fn send(&self, request: NetworkRequest) {
        // A loop that has ended needs no requests.
        let _ = self.network_requests.send(request).await;
    }

    fn on_checked(&self, checked: Checked<PeerId>) {
        let status = self.status_of(&checked.room);
        self.bus.emit(Event::Checked {
            room: checked.room,
            peer_id: checked.peer,
            neighbours: status.neighbours,
            agreed: status.agreed,
            repaired: checked.repaired,
            bytes: checked.bytes,
        });
    }

    /// Answers the loop, which is about to stop, once the neighbours have fetched all that was announced to them.
    fn answer_all_confirmed(&mut self) {
        if self.all_confirmed_reply.is_some()
            && self.anti_entropy.is_all_confirmed(self.clock.now())
            && let Some(reply) = self.all_confirmed_reply.take()
        {
            let _ = reply.send(());
        }
    }

    fn answer_status(&mut self) {
        if self.loading == 0 {
            for reply in std::mem::take(&mut self.status_replies) {
                let _ = reply.send(self.status());
            }
        }
    }

    /// Returns the state of each room.
    pub(super) fn status(&self) -> Vec<RoomStatus> {
        let rooms = self.anti_entropy.rooms();
        rooms.map(|room| self.status_of(room)).collect()
    }

    fn status_of(&self, name: &str) -> RoomStatus {
        let is_in_room = |rooms: &&Vec<String>| rooms.iter().any(|room| room == name);
        let now = self.clock.now();
        let room = self.anti_entropy.room(name);
        RoomStatus {
            room: name.to_owned(),
            batches: room.map_or(0, Room::held),
            neighbours: self.rooms_of.values().filter(is_in_room).count(),
            agreed: room.map_or(0, |room| room.agreed().len()),
            agreed_for: room
                .and_then(|room| room.agreed().values().map(|a| now.since(a.since)).max()),
            repaired: room.map_or(0, Room::repaired),
        }
    }
}

pub(super) fn item_of(batch: &VerifiedBatch) -> Item {
    Item {
        sent_at_ms: batch.sent_at_ms(),
        id: batch.id().0,
    }
}
