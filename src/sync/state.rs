//! Data checking: with whom which room is compared, and when.
//!
//! Entry type: [`Checks`], generic in the neighbour's id. The rules it keeps: a room is compared with
//! one neighbour at a time, on link-up, at intervals with each in turn, and when a neighbour says that
//! we are behind; nothing is taken that was not asked for; a neighbour that breaks the rules is named
//! with its [`Fault`] and asked nothing more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::announcements::Wants;
use super::event::{Config, Input, Output};
use super::held::Held;
use super::message::Response;
use super::peer_state::Neighbour;
use super::room::Room;
use super::scheduler::{TURN, framed};
use super::sync_round::{Asked, Brought, Fault};
use super::throughput::Rate;
use super::upload_scheduler::Pace;
use crate::clock::{Time, UnixMs};
use crate::model::{Id, Item, MAX_ITEMS, low_watermark_at};

/// After this the neighbours hear once more that they may be behind: by then what was sent just
/// before has settled.
const TELL_AGAIN: Duration = Duration::from_millis(2_500);

/// A comparison that failed is tried again after this.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// Requests in a row without an answer after which a neighbour is dropped.
const SILENCES: u32 = 3;

/// Data checking with all neighbours, in all rooms.
#[derive(Debug)]
pub struct Checks<P> {
    pub(super) config: Config,
    pub(super) rooms: BTreeMap<String, Room<P>>,
    pub(super) neighbours: BTreeMap<P, Neighbour>,
    /// What was asked of whom; a notice has no answer worth keeping.
    pub(super) asked: BTreeMap<u64, (P, Option<Asked>)>,
    /// From whom what is being stored came, and the id of an offered batch.
    pub(super) tickets: BTreeMap<u64, (P, Option<Id>)>,
    pub(super) wants: Wants<P>,
    /// Batches of our own of which it is to be told who holds them.
    pub(super) watched: BTreeSet<Id>,
    pub(super) pace: Pace<P>,
    /// What comes of that which we fetch because it was offered.
    pub(super) coming: Rate,
    /// When it was last seen to what is due.
    pub(super) looked_at: Time,
    pub(super) last_token: u64,
}

/// The moment of a call, in both times.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Time,
    pub(super) unix: UnixMs,
}

impl<P: Clone + Ord> Checks<P> {
    /// With no rooms and no neighbours.
    pub fn new(config: Config) -> Checks<P> {
        Checks {
            config,
            rooms: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            asked: BTreeMap::new(),
            tickets: BTreeMap::new(),
            wants: Wants::new(),
            watched: BTreeSet::new(),
            pace: Pace::new(),
            coming: Rate::new(),
            looked_at: Time::ZERO,
            last_token: 0,
        }
    }

    /// Takes what happened and says what follows from it.
    pub fn handle(
        &mut self,
        now: Time,
        unix: impl Into<UnixMs>,
        input: Input<P>,
        out: &mut Vec<Output<P>>,
    ) {
        let unix: UnixMs = unix.into();
        let (moment, unix_ms) = (Moment { now, unix }, unix.now);
        // Only then it is known from whom something arrives.
        self.wants.may_hedge = matches!(input, Input::Tick);
        match input {
            // Those that come with each batch have no consequences at once.
            Input::Stored { room, item } => {
                self.tell_sources(now, &item);
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
                    self.offer(now, &name, item, bytes, from.as_ref(), out);
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
            Input::Confirm { room, item, but } => self.ask_who_holds(now, &room, item, &but),
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
                    .or_insert_with(|| Neighbour::new(now));
            }
            Input::TakesOffers(peer) => {
                if let Some(neighbour) = self.neighbours.get_mut(&peer) {
                    neighbour.offers.is_taken = true;
                }
            }
            Input::LinkDown(peer) => self.on_link_down(now, &peer, out),
            Input::RoomsOf(peer, rooms) => self.on_rooms_of(now, &peer, rooms, out),
            Input::Request(peer, id, bytes) => self.on_request(moment, peer, id, bytes, out),
            Input::Found(peer, id, found) => self.on_found(now, peer, id, found, out),
            Input::Sent(request, is_sent) => {
                let peer = match is_sent {
                    true => self.pace.is_sent(now, request),
                    false => self.pace.take_back(request),
                };
                if let Some(peer) = peer {
                    self.on_served(now, &peer, request, is_sent, out);
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
                self.wants.arriving = peers;
                return;
            }
            Input::Tick => {}
        }
        self.go_on(moment, out);
    }

    /// When [`Input::Tick`] has something to do.
    pub fn deadline(&self) -> Option<Time> {
        let rooms = self.rooms.iter().filter_map(|(name, room)| {
            let has_neighbours = self.neighbours.values().any(|n| n.rooms.contains(name));
            let next = (room.is_loaded() && has_neighbours).then_some(room.next_at);
            next.into_iter().chain(room.tell_at).min()
        });
        let due = self
            .neighbours
            .values()
            .filter(|n| n.errand.is_none())
            .flat_map(|n| {
                n.due.iter().filter_map(|(name, due)| {
                    let room = self.rooms.get(name).filter(|room| room.is_loaded())?;
                    match &room.busy_with {
                        None => Some(due.at),
                        Some(other) => {
                            let errand = self.neighbours.get(other)?.errand.as_ref()?;
                            (!errand.is_winding_down()).then(|| due.at.max(errand.started + TURN))
                        }
                    }
                })
            });
        let resumed = self
            .neighbours
            .values()
            .filter_map(|n| n.errand.as_ref()?.resume_at);
        rooms
            .chain(due)
            .chain(resumed)
            .chain(self.offers_deadline())
            .min()
    }

    /// The rooms we are in.
    pub fn rooms(&self) -> impl Iterator<Item = &str> {
        self.rooms.keys().map(String::as_str)
    }

    /// What we hold of a room.
    pub fn room(&self, room: &str) -> Option<&Room<P>> {
        self.rooms.get(room)
    }

    /// Whether all neighbours have said of all that they were offered that they hold it.
    pub fn is_all_taken(&self, now: Time) -> bool {
        self.neighbours.values().all(|n| n.offers.is_all_taken(now))
    }

    /// How many batches are wanted that neighbours have offered.
    #[cfg(test)]
    pub(super) fn wanted(&self) -> usize {
        self.wants.len()
    }

    /// The log has stored a batch.
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
        self.forget_offers_in(now, name, out);
        let mut comparing = Vec::new();
        for (peer, neighbour) in &mut self.neighbours {
            neighbour.due.remove(name);
            neighbour.removed.forget_room(name);
            if neighbour
                .errand
                .take_if(|errand| errand.room == name)
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
        self.pace.forget(peer);
        self.keep_offers(now, peer, |_| false, out);
        self.asked.retain(|_, (of, _)| of != peer);
        // What it has brought of its offers is still stored.
        self.tickets
            .retain(|_, (of, offered)| of != peer || offered.is_some());
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
        self.keep_offers(now, peer, |name| rooms.contains(name), out);
    }

    fn on_response(&mut self, moment: Moment, token: u64, bytes: Bytes, out: &mut Vec<Output<P>>) {
        let Some((peer, Some(asked))) = self.asked.remove(&token) else {
            return;
        };
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        neighbour.silences = 0;
        let asked = match asked {
            Asked::Large(offered) => {
                let brought = Response::decode(bytes)
                    .map_err(Fault::from)
                    .and_then(|it| self.on_brought(moment.now, peer.clone(), offered, it, out));
                if let Err(fault) = brought {
                    self.on_fault(moment.now, peer, fault, out);
                }
                return;
            }
            Asked::Offered(ids) => {
                let not_lacking = match Response::decode(bytes) {
                    Ok(Response::Ack(not_lacking)) => {
                        self.tell_who_holds(&peer, &not_lacking, out);
                        not_lacking
                    }
                    // It is not there any more, or not yet: it is not waited for.
                    Ok(_) => ids,
                    Err(error) => return self.on_fault(moment.now, peer, error.into(), out),
                };
                return self.on_offer_heard(moment.now, &peer, not_lacking, out);
            }
            asked => asked,
        };
        let Some(errand) = &mut neighbour.errand else {
            return;
        };
        let Some(room) = self.rooms.get(&errand.room) else {
            return;
        };
        errand.report.bytes += framed(bytes.len());
        let absorbed = Response::decode(bytes)
            .map_err(Fault::from)
            .and_then(|response| {
                match response {
                    Response::From(since_ms) => {
                        neighbour.floors.insert(errand.room.clone(), since_ms);
                    }
                    Response::NotSubscribed => {
                        neighbour.rooms.remove(&errand.room);
                    }
                    _ => {}
                }
                let is_coming =
                    |id: &Id| self.wants.contains(id) || neighbour.removed.is_untimed(id);
                let held = Held::with(room.items(), neighbour.removed.of(&errand.room));
                errand.on_response(moment.now, held, is_coming, asked, response)
            });
        if let Ok(Brought { removed, .. }) = &absorbed
            && !removed.is_empty()
            && let Some(later_ms) = neighbour.removed.add(&errand.room, removed, room.items())
        {
            let floor = neighbour.floors.entry(errand.room.clone()).or_default();
            *floor = later_ms.max(*floor);
        }
        match absorbed.map(|brought| brought.envelopes) {
            Err(fault) => self.on_fault(moment.now, peer, fault, out),
            Ok(envelopes) if envelopes.is_empty() => {}
            Ok(envelopes) => {
                let room = errand.room.clone();
                self.last_token += 1;
                let ticket = self.last_token;
                self.tickets.insert(ticket, (peer.clone(), None));
                out.push(Output::Fetched {
                    peer,
                    ticket,
                    room,
                    envelopes,
                    offered: None,
                });
            }
        }
    }

    fn on_failed(&mut self, now: Time, token: u64, out: &mut Vec<Output<P>>) {
        let Some((peer, asked)) = self.asked.remove(&token) else {
            return;
        };
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return;
        };
        // Who takes no part in data checking is not silent, and is not asked again.
        let takes_part = !neighbour.rooms.is_empty();
        if takes_part {
            neighbour.silences += 1;
        }
        if neighbour.silences >= SILENCES {
            return self.on_fault(now, peer, Fault::Silent, out);
        }
        match asked {
            None => return,
            Some(Asked::Large(id)) => return self.on_not_brought(now, &peer, id),
            Some(Asked::Offered(ids)) => return self.on_offer_heard(now, &peer, ids, out),
            Some(Asked::Ranges | Asked::Batches(_)) => {}
        }
        if let Some(errand) = neighbour.errand.take() {
            if takes_part {
                neighbour.set_due(&errand.room, now + RETRY, true);
            }
            self.release(&peer, &errand.room);
            self.forget_answers(&peer);
        }
    }

    /// Answers to a comparison that is no more must not reach the next one.
    fn forget_answers(&mut self, peer: &P) {
        let is_of_it =
            |asked: &Option<Asked>| matches!(asked, Some(Asked::Ranges | Asked::Batches(_)));
        self.asked
            .retain(|_, (of, asked)| of != peer || !is_of_it(asked));
        self.tickets
            .retain(|_, (of, offered)| of != peer || offered.is_some());
    }

    fn on_settled(
        &mut self,
        now: Time,
        ticket: u64,
        stored: u64,
        forged: u64,
        out: &mut Vec<Output<P>>,
    ) {
        let Some((peer, offered)) = self.tickets.remove(&ticket) else {
            return;
        };
        if forged > 0 {
            if let Some(want) = offered.and_then(|id| self.wants.all.get_mut(&id)) {
                // It has not come, after all: another one that has offered it is asked.
                want.has_come = false;
            }
            return self.on_fault(now, peer, Fault::Forged, out);
        }
        if let Some(id) = offered {
            // It is stored, or not to be.
            return self.wants.remove(&id);
        }
        if let Some(errand) = self
            .neighbours
            .get_mut(&peer)
            .and_then(|n| n.errand.as_mut())
        {
            errand.on_settled(stored);
            if stored > 0
                && let Some(room) = self.rooms.get_mut(&errand.room)
            {
                room.tell_at.get_or_insert(now + TELL_AGAIN);
            }
        }
    }

    pub(super) fn on_fault(&mut self, now: Time, peer: P, fault: Fault, out: &mut Vec<Output<P>>) {
        self.on_link_down(now, &peer, out);
        out.push(Output::Drop(peer, fault));
    }
}
