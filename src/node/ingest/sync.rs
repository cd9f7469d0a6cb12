//! Data checking's part of the keeper: what it wants is carried out, and how the rooms stand is told.
//!
//! Entry: [`Keeper::check`]. The rule it keeps: what a neighbour sent when asked is verified as if it
//! had come by gossip, and what comes live does not wait for it.

use bytes::Bytes;
use libp2p::PeerId;

use super::{Back, Brought, Keeper, Origin, Wish};
use crate::gossip::{self, BatchError, VerifiedBatch};
use crate::model::{Id, Item, RoomName};
use crate::node::clocks::ClockReport;
use crate::node::event::Event;
use crate::node::store::RoomStatus;
use crate::sync::{self, Input, Output, message::Request};

impl Keeper {
    /// Tells data checking what happened, and carries out what follows.
    pub(super) async fn check(&mut self, input: Input<PeerId>) {
        let mut out = Vec::new();
        let (now, unix) = (self.clock.now(), self.unix.read());
        self.checks.handle(now, unix, input, &mut out);
        for output in out {
            self.carry_out(output).await;
        }
        self.see_off();
    }

    /// Tells the loop, which is about to stop, when the neighbours have all that they were offered.
    pub(super) fn see_off(&mut self) {
        if self.parting.is_some()
            && self.checks.is_all_taken(self.clock.now())
            && let Some(reply) = self.parting.take()
        {
            let _ = reply.send(());
        }
    }

    /// Data checking hears of a batch that is stored, and the neighbours of one that a neighbour had
    /// offered.
    pub(super) async fn spread(&mut self, batch: &VerifiedBatch, brought_by: Option<PeerId>) {
        let Some(from) = brought_by else {
            return self.check(stored(batch)).await;
        };
        self.offer(batch, Some(from)).await;
        self.wish(Wish::Gossip(batch.clone())).await;
    }

    pub(super) async fn offer(&mut self, batch: &VerifiedBatch, from: Option<PeerId>) {
        let (id, envelope) = (batch.id().0, batch.bytes().clone());
        self.recent.add(self.clock.now(), id, envelope);
        self.check(large(batch, from)).await;
    }

    async fn carry_out(&mut self, output: Output<PeerId>) {
        match output {
            Output::Load(room, most) => {
                self.loading += 1;
                let back = self.back.clone();
                self.writer.read(move |reader| {
                    let loaded = reader
                        .items(&room, most)
                        .and_then(|(low_watermark_ms, items)| {
                            Ok((low_watermark_ms, items, reader.removed_in(&room)?))
                        });
                    let _ = back.send(Back::Loaded(room, loaded));
                });
            }
            Output::Read {
                peer,
                request,
                room,
                ids,
                most,
            } => {
                let back = self.back.clone();
                if let Some(found) = self.recent.found(&ids) {
                    let _ = back.send(Back::Found(peer, request, Ok(found)));
                    return;
                }
                self.writer.read(move |reader| {
                    let found = reader.fetch(&room, &ids, most);
                    let _ = back.send(Back::Found(peer, request, found));
                });
            }
            Output::Request(peer_id, token, mut request) => {
                Request::add_clock(&mut request, self.unix.now_ms());
                self.wish(Wish::Ask {
                    peer_id,
                    token,
                    request,
                })
                .await;
            }
            Output::Respond(_, request, response) => {
                self.wish(Wish::Reply { request, response }).await;
            }
            Output::Fetched {
                peer,
                ticket,
                room,
                envelopes,
                offered,
            } => {
                self.verify(peer, ticket, room, envelopes, offered);
            }
            Output::Outstanding { peer, bytes, own } => {
                self.send_windows.set_offered(peer, bytes, own)
            }
            Output::Holds(peer_id, id) => self.on_holds(peer_id, id),
            Output::Checked(checked) => {
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
            Output::Drop(peer_id, fault) => {
                let reason = format!("data checking: {fault}");
                self.wish(Wish::Drop { peer_id, reason }).await;
            }
        }
    }

    /// Tells the loop of the clock of a neighbour that sends a request, when it is not what was known of it.
    pub(super) async fn on_clock_in(&mut self, peer_id: PeerId, request: &Bytes) {
        let now = self.clock.now();
        if let Some(theirs_ms) = Request::clock_ms(request)
            && self.confirmations.set_clock(now, peer_id, theirs_ms)
        {
            self.wish(Wish::Clock(peer_id, theirs_ms)).await;
        }
    }

    pub(super) async fn wish(&self, wish: Wish) {
        // A loop that is gone wants no more.
        let _ = self.wishes.send(wish).await;
    }

    /// Verifies what a neighbour sent when asked, as if it had come by gossip, on a thread of its
    /// own: what comes live does not wait for it.
    pub(super) fn verify(
        &mut self,
        peer: PeerId,
        ticket: u64,
        room: String,
        envelopes: Vec<Bytes>,
        offered: Option<Id>,
    ) {
        if offered.is_some() {
            self.ids.count();
        }
        let (network, now_ms) = (self.own.network, self.unix.now_ms());
        let bus = self.bus.clone();
        let verifying = tokio::task::spawn_blocking(move || {
            let Ok(room) = room.parse::<RoomName>() else {
                return (Vec::new(), envelopes.len() as u64);
            };
            let mut forged = 0;
            let batches: Vec<VerifiedBatch> = envelopes
                .into_iter()
                .filter_map(|bytes| match gossip::open(bytes, network, &room, now_ms) {
                    Ok(batch) if offered.is_some_and(|id| id != batch.id().0) => {
                        forged += 1;
                        None
                    }
                    Ok(batch) => Some(batch),
                    Err(BatchError::Ahead { author, by_ms }) => {
                        let report = ClockReport::author_ahead(author, by_ms);
                        bus.emit(Event::Clock(report));
                        None
                    }
                    Err(_) => {
                        forged += 1;
                        None
                    }
                })
                .collect();
            (batches, forged)
        });
        self.appends += 1;
        let (writer, back) = (self.writer.clone(), self.back.clone());
        tokio::spawn(async move {
            let (batches, forged) = verifying.await.unwrap_or_default();
            let brought = |batch: &VerifiedBatch| Brought {
                batch: batch.clone(),
                by: peer,
            };
            let brought: Vec<Brought> = batches.iter().map(brought).collect();
            let told = move |appended| {
                let _ = back.send(Back::Stored {
                    batches,
                    appended,
                    origin: Origin::Asked {
                        ticket,
                        forged,
                        offered: offered.map(|_| peer),
                    },
                });
            };
            match brought.is_empty() {
                true => told(Ok(Vec::new())),
                false => writer.append_in_turn(&brought, told).await,
            }
        });
    }

    pub(super) fn status(&self) -> Vec<RoomStatus> {
        self.checks
            .rooms()
            .map(|room| self.status_of(room))
            .collect()
    }

    fn status_of(&self, name: &str) -> RoomStatus {
        let neighbours = self
            .rooms_of
            .values()
            .filter(|rooms| rooms.iter().any(|room| room == name))
            .count();
        let now = self.clock.now();
        let room = self.checks.room(name);
        RoomStatus {
            room: name.to_owned(),
            batches: room.map_or(0, sync::Room::held),
            neighbours,
            agreed: room.map_or(0, |room| room.agreed().len()),
            agreed_for: room
                .and_then(|room| room.agreed().values().map(|a| now.since(a.since)).max()),
            repaired: room.map_or(0, sync::Room::repaired),
        }
    }
}

pub(super) fn stored(batch: &VerifiedBatch) -> Input<PeerId> {
    Input::Stored {
        room: batch.room().as_str().to_owned(),
        item: item_of(batch),
    }
}

fn large(batch: &VerifiedBatch, from: Option<PeerId>) -> Input<PeerId> {
    Input::Large {
        room: batch.room().as_str().to_owned(),
        item: item_of(batch),
        bytes: batch.bytes().len(),
        from,
    }
}

pub(super) fn item_of(batch: &VerifiedBatch) -> Item {
    Item {
        sent_at_ms: batch.sent_at_ms(),
        id: batch.id().0,
    }
}
