//! Anti-entropy ("data checking"): compares each room with the neighbours and repairs the difference.
//!
//! Entry type: [`AntiEntropy`], generic in the neighbour's id. The rules it keeps: a room is compared with one
//! neighbour at a time, on link-up, at intervals with each in turn, and when a neighbour reports that we lag; data that
//! was not requested is refused; a neighbour that breaks the rules is dropped with its [`Fault`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::announcements::PendingFetches;
use super::event::{Config, Input, Output};
use super::held::Held;
use super::message::Response;
use super::peer_state::PeerState;
use super::room::Room;
use super::sync_round::{Fault, FetchedBatches, PendingRequest};
use super::throughput::ThroughputEstimator;
use super::timing::{Moment, RETRY_DELAY, ROUND_TIMEOUT, framed};
use super::upload_scheduler::UploadScheduler;
use crate::clock::{Time, UnixMs};
use crate::model::{Id, Item, MAX_ITEMS, low_watermark_at};

/// Delay before neighbours are notified again that they may lag: by then, the latest batches have settled.
const NOTIFY_AGAIN_DELAY: Duration = Duration::from_millis(2_500);

/// Number of consecutive unanswered requests after which a neighbour is dropped.
const MAX_UNANSWERED: u32 = 3;

/// Anti-entropy with all neighbours, in all rooms.
#[derive(Debug)]
pub struct AntiEntropy<P> {
    pub(super) config: Config,
    pub(super) rooms: BTreeMap<String, Room<P>>,
    pub(super) neighbours: BTreeMap<P, PeerState>,
    /// Requests in flight, by token; none for a notice, whose response is ignored.
    pub(super) pending_requests: BTreeMap<u64, (P, Option<PendingRequest>)>,
    /// The sender of each response that is being stored, by ticket, and the id of an announced batch.
    pub(super) tickets: BTreeMap<u64, (P, Option<Id>)>,
    pub(super) pending_fetches: PendingFetches<P>,
    /// Our own batches whose holders are reported.
    pub(super) watched: BTreeSet<Id>,
    pub(super) upload_scheduler: UploadScheduler<P>,
    /// Throughput of our fetches of announced batches.
    pub(super) download_throughput: ThroughputEstimator,
    /// Time of the last call of [`AntiEntropy::drive`].
    pub(super) driven_at: Time,
    pub(super) last_token: u64,
}

impl<P: Clone + Ord> AntiEntropy<P> {
    /// Returns a state without rooms and neighbours.
    pub fn new(config: Config) -> AntiEntropy<P> {
        AntiEntropy {
            config,
            rooms: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            pending_requests: BTreeMap::new(),
            tickets: BTreeMap::new(),
            pending_fetches: PendingFetches::new(),
            watched: BTreeSet::new(),
            upload_scheduler: UploadScheduler::new(),
            download_throughput: ThroughputEstimator::new(),
            driven_at: Time::ZERO,
            last_token: 0,
        }
    }

    /// Handles one input, and adds the outputs that follow from it to `out`.
    pub fn handle(
        &mut self,
        now: Time,
        unix: impl Into<UnixMs>,
        input: Input<P>,
        out: &mut Vec<Output<P>>,
    ) {
        let unix: UnixMs = unix.into();
        let (moment, unix_ms) = (Moment { now, unix }, unix.now);
        // Hedging is allowed only on Tick, when `arriving` has just been refreshed.
        self.pending_fetches.may_hedge = matches!(input, Input::Tick);
        match input {
            // Inputs for each batch have no immediate consequences.
            Input::Stored { room, item } => {
                self.announce_back(now, &item);
                self.hold(unix_ms, &room, item);
                return;
            }
            Input::Pruned {
                room: name,
                low_watermark_ms,
                removed,
            } => {
                if let Some(room) = self.rooms.get_mut(&name) {
                    room.forget_before(low_watermark_at(low_watermark_ms, unix_ms));
                    room.removed = removed;
                    for neighbour in self.neighbours.values_mut() {
                        neighbour
                            .removed
                            .forget_before(&name, room.low_watermark_ms());
                    }
                }
                return;
            }
            Input::Large {
                room: name,
                item,
                bytes,
                from,
            } => {
                if self.rooms.contains_key(&name) {
                    self.hold(unix_ms, &name, item);
                    self.announce(now, &name, item, bytes, from.as_ref(), out);
                }
            }
            Input::Watch(id) => {
                self.watched.insert(id);
                return;
            }
            Input::Unwatch(id) => {
                self.watched.remove(&id);
                return;
            }
            Input::Confirm { room, item, except } => {
                self.request_confirmations(now, &room, item, &except)
            }
            Input::Join(room) => self.on_join(moment, room, out),
            Input::Loaded(room, low_watermark_ms, items) => {
                if let Some(room) = self.rooms.get_mut(&room) {
                    room.load(unix_ms, low_watermark_at(low_watermark_ms, unix_ms), items);
                }
            }
            Input::Leave(room) => self.on_leave(now, &room, out),
            Input::LinkUp(peer) => {
                self.neighbours
                    .entry(peer)
                    .or_insert_with(|| PeerState::new(now));
            }
            Input::SupportsAnnouncements(peer) => {
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.announcements.is_supported = true;
                }
            }
            Input::LinkDown(peer) => self.on_link_down(now, &peer, out),
            Input::RoomsOf(peer, rooms) => self.on_rooms_of(now, &peer, rooms, out),
            Input::Request(peer, id, bytes) => self.on_request(moment, peer, id, bytes, out),
            Input::Found(peer, id, found) => self.on_found(now, peer, id, found, out),
            Input::Sent(request, is_sent) => {
                let peer = match is_sent {
                    true => self.upload_scheduler.finish(now, request),
                    false => self.upload_scheduler.cancel(request),
                };
                if let Some(peer) = peer {
                    self.on_upload_end(now, &peer, request, is_sent, out);
                }
            }
            Input::Response(token, bytes) => self.on_response(moment, token, bytes, out),
            Input::Failed(token) => self.on_failed(now, token, out),
            Input::Settled {
                ticket,
                stored,
                forged,
            } => {
                self.on_settled(now, ticket, stored, forged, out);
            }
            Input::Arriving(peers) => {
                self.pending_fetches.arriving = peers;
                return;
            }
            Input::Tick => {}
        }
        self.drive(moment, out);
    }

    /// Returns when [`Input::Tick`] is next due.
    pub fn deadline(&self) -> Option<Time> {
        let rooms = self.rooms.iter().filter_map(|(name, room)| {
            let has_neighbours = self.neighbours.values().any(|n| n.rooms.contains(name));
            let next = (room.is_loaded() && has_neighbours).then_some(room.next_at);
            next.into_iter().chain(room.notify_at).min()
        });
        let due = self
            .neighbours
            .values()
            .filter(|n| n.round.is_none())
            .flat_map(|n| {
                n.due.iter().filter_map(|(name, due)| {
                    let room = self.rooms.get(name).filter(|room| room.is_loaded())?;
                    match &room.busy_with {
                        None => Some(due.at),
                        Some(other) => {
                            let round = self.neighbours.get(other)?.round.as_ref()?;
                            (!round.is_winding_down())
                                .then(|| due.at.max(round.started + ROUND_TIMEOUT))
                        }
                    }
                })
            });
        let resumed = self
            .neighbours
            .values()
            .filter_map(|n| n.round.as_ref()?.resume_at);
        rooms
            .chain(due)
            .chain(resumed)
            .chain(self.announcements_deadline())
            .min()
    }

    /// Returns the rooms we are in.
    pub fn rooms(&self) -> impl Iterator<Item = &str> {
        self.rooms.keys().map(String::as_str)
    }

    /// Returns the state of a room that we are in.
    pub fn room(&self, room: &str) -> Option<&Room<P>> {
        self.rooms.get(room)
    }

    /// Returns whether all neighbours have confirmed all batches that were announced to them.
    pub fn is_all_confirmed(&self, now: Time) -> bool {
        self.neighbours
            .values()
            .all(|n| n.announcements.is_all_confirmed(now))
    }

    /// Returns the number of announced batches that are still to be fetched.
    #[cfg(test)]
    pub(super) fn pending_fetch_count(&self) -> usize {
        self.pending_fetches.len()
    }

    /// Adds a batch that the log has stored.
    fn hold(&mut self, unix_ms: u64, name: &str, item: Item) {
        if let Some(room) = self.rooms.get_mut(name) {
            room.add(unix_ms, item);
            for neighbour in self.neighbours.values_mut() {
                neighbour.removed.hold(name, &item);
            }
        }
    }

    fn on_join(&mut self, moment: Moment, name: String, out: &mut Vec<Output<P>>) {
        if self.rooms.contains_key(&name) {
            return;
        }
        self.rooms
            .insert(name.clone(), Room::new(moment.now + self.config.interval));
        for neighbour in self
            .neighbours
            .values_mut()
            .filter(|n| n.rooms.contains(&name))
        {
            neighbour.set_due(&name, moment.now, true);
        }
        out.push(Output::Load(name, MAX_ITEMS));
    }

    fn on_leave(&mut self, now: Time, name: &str, out: &mut Vec<Output<P>>) {
        self.rooms.remove(name);
        self.forget_announcements_in(now, name, out);
        let mut comparing = Vec::new();
        for (peer, neighbour) in &mut self.neighbours {
            neighbour.due.remove(name);
            neighbour.removed.forget_room(name);
            if neighbour
                .round
                .take_if(|round| round.room == name)
                .is_some()
            {
                comparing.push(peer.clone());
            }
        }
        for peer in comparing {
            self.forget_answers(&peer);
        }
    }

    fn on_link_down(&mut self, now: Time, peer: &P, out: &mut Vec<Output<P>>) {
        self.neighbours.remove(peer);
        self.upload_scheduler.forget(peer);
        self.retain_announcements(now, peer, |_| false, out);
        self.pending_requests.retain(|_, (of, _)| of != peer);
        // Announced batches that it sent are still stored.
        self.tickets
            .retain(|_, (of, announced)| of != peer || announced.is_some());
        for room in self.rooms.values_mut() {
            room.agreed.remove(peer);
            room.busy_with.take_if(|with| with == peer);
        }
    }

    fn on_rooms_of(&mut self, now: Time, peer: &P, rooms: Vec<String>, out: &mut Vec<Output<P>>) {
        let Some(neighbour) = self.neighbours.get_mut(peer) else {
            return;
        };
        let rooms: BTreeSet<String> = rooms.into_iter().collect();
        for name in rooms.difference(&neighbour.rooms.clone()) {
            if self.rooms.contains_key(name) {
                neighbour.set_due(name, now, true);
            }
        }
        neighbour.due.retain(|name, _| rooms.contains(name));
        neighbour.rooms = rooms.clone();
        self.retain_announcements(now, peer, |name| rooms.contains(name), out);
    }

    fn on_response(&mut self, moment: Moment, token: u64, bytes: Bytes, out: &mut Vec<Output<P>>) {
        let Some((peer, Some(pending))) = self.pending_requests.remove(&token) else {
            return;
        };
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        neighbour.unanswered = 0;
        let pending = match pending {
            PendingRequest::FetchAnnounced(announced) => {
                let fetched = Response::decode(bytes).map_err(Fault::from).and_then(|it| {
                    self.on_fetch_response(moment.now, peer.clone(), announced, it, out)
                });
                if let Err(fault) = fetched {
                    self.on_fault(moment.now, peer, fault, out);
                }
                return;
            }
            PendingRequest::Announce(ids) => {
                let held = match Response::decode(bytes) {
                    Ok(Response::Ack(held)) => {
                        self.report_holder(&peer, &held, out);
                        held
                    }
                    // It is not in the room any more, or not yet: do not wait for it.
                    Ok(_) => ids,
                    Err(error) => return self.on_fault(moment.now, peer, error.into(), out),
                };
                return self.on_announce_ack(moment.now, &peer, held, out);
            }
            pending => pending,
        };
        let Some(round) = &mut neighbour.round else {
            return;
        };
        let Some(room) = self.rooms.get(&round.room) else {
            return;
        };
        round.report.bytes += framed(bytes.len());
        let absorbed = Response::decode(bytes)
            .map_err(Fault::from)
            .and_then(|response| {
                match response {
                    Response::From(since_ms) => {
                        neighbour
                            .low_watermarks
                            .insert(round.room.clone(), since_ms);
                    }
                    Response::NotSubscribed => {
                        neighbour.rooms.remove(&round.room);
                    }
                    _ => {}
                }
                let is_fetch_pending =
                    |id: &Id| self.pending_fetches.contains(id) || neighbour.removed.is_untimed(id);
                let held = Held::with(room.items(), neighbour.removed.of(&round.room));
                round.on_response(moment.now, held, is_fetch_pending, pending, response)
            });
        if let Ok(FetchedBatches { removed, .. }) = &absorbed
            && !removed.is_empty()
            && let Some(later_ms) = neighbour.removed.add(&round.room, removed, room.items())
        {
            let floor = neighbour
                .low_watermarks
                .entry(round.room.clone())
                .or_default();
            *floor = later_ms.max(*floor);
        }
        match absorbed.map(|fetched| fetched.envelopes) {
            Err(fault) => self.on_fault(moment.now, peer, fault, out),
            Ok(envelopes) if envelopes.is_empty() => {}
            Ok(envelopes) => {
                let room = round.room.clone();
                self.last_token += 1;
                let ticket = self.last_token;
                self.tickets.insert(ticket, (peer.clone(), None));
                out.push(Output::Fetched {
                    peer,
                    ticket,
                    room,
                    envelopes,
                    announced: None,
                });
            }
        }
    }

    fn on_failed(&mut self, now: Time, token: u64, out: &mut Vec<Output<P>>) {
        let Some((peer, pending)) = self.pending_requests.remove(&token) else {
            return;
        };
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        // A peer that takes no part in anti-entropy does not count as unresponsive, and gets no more requests.
        let takes_part = !neighbour.rooms.is_empty();
        if takes_part {
            neighbour.unanswered += 1;
        }
        if neighbour.unanswered >= MAX_UNANSWERED {
            return self.on_fault(now, peer, Fault::Unresponsive, out);
        }
        match pending {
            None => return,
            Some(PendingRequest::FetchAnnounced(id)) => {
                return self.on_fetch_failed(now, &peer, id);
            }
            Some(PendingRequest::Announce(ids)) => {
                return self.on_announce_ack(now, &peer, ids, out);
            }
            Some(PendingRequest::Compare | PendingRequest::Fetch(_)) => {}
        }
        if let Some(round) = neighbour.round.take() {
            if takes_part {
                neighbour.set_due(&round.room, now + RETRY_DELAY, true);
            }
            self.release(&peer, &round.room);
            self.forget_answers(&peer);
        }
    }

    /// Drops the requests of a round that has ended: their responses must not reach the next one.
    fn forget_answers(&mut self, peer: &P) {
        let is_of_it = |pending: &Option<PendingRequest>| {
            matches!(
                pending,
                Some(PendingRequest::Compare | PendingRequest::Fetch(_))
            )
        };
        self.pending_requests
            .retain(|_, (of, pending)| of != peer || !is_of_it(pending));
        self.tickets
            .retain(|_, (of, announced)| of != peer || announced.is_some());
    }

    fn on_settled(
        &mut self,
        now: Time,
        ticket: u64,
        stored: u64,
        forged: u64,
        out: &mut Vec<Output<P>>,
    ) {
        let Some((peer, announced)) = self.tickets.remove(&ticket) else {
            return;
        };
        if forged > 0 {
            if let Some(fetch) = announced.and_then(|id| self.pending_fetches.all.get_mut(&id)) {
                // It was not received after all: another source is asked.
                fetch.is_received = false;
            }
            return self.on_fault(now, peer, Fault::Forged, out);
        }
        if let Some(id) = announced {
            // It is stored, or never will be.
            return self.pending_fetches.remove(&id);
        }
        if let Some(round) = self
            .neighbours
            .get_mut(&peer)
            .and_then(|n| n.round.as_mut())
        {
            round.on_settled(stored);
            if stored > 0
                && let Some(room) = self.rooms.get_mut(&round.room)
            {
                room.notify_at.get_or_insert(now + NOTIFY_AGAIN_DELAY);
            }
        }
    }

    pub(super) fn on_fault(&mut self, now: Time, peer: P, fault: Fault, out: &mut Vec<Output<P>>) {
        self.on_link_down(now, &peer, out);
        out.push(Output::Drop(peer, fault));
    }
}
