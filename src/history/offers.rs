//! Large batches that have just come: neighbours are told that they are here, and each fetches them
//! once, from one of those that told it.
//!
//! Entry types: [`Wants`], what neighbours have offered and we lack, and [`Offering`], what goes on with
//! one neighbour. The rules it keeps: a batch is asked of one neighbour at a time, unless that one is
//! slow; what a neighbour can make us remember or fetch is bounded; an offer that comes to nothing is
//! left to the comparisons.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use indexmap::IndexMap;

use super::errand::{Asked, Fault, MISSING_MOST};
use super::facts::{Output, RequestId};
use super::items::Item;
use super::message::{MAX_OFFERED, Request, Response};
use super::record::Id;
use super::state::{Checks, Moment, RETRY};
use crate::clock::Time;

/// The bit of a handshake's features that says: this node understands offers.
pub const OFFERS: u64 = 1;

/// Batches of more bytes than this are offered; smaller ones, those with many events among them, are
/// gossiped.
pub const OFFER_ABOVE: usize = 320 << 10;

/// Batches that may stand between us and one neighbour, in each direction: to be offered, offered and
/// not fetched, wanted. What is past that is found by comparing.
const STANDING_MOST: usize = 256;

/// Fetches of offered batches that one neighbour is asked for at once: while one is on its way, the
/// next is read.
const FETCHES_AT_ONCE: usize = 2;

/// Offers to one neighbour are this far apart: each costs as much as some 30 KiB of a batch.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// What a neighbour has offered itself, it is offered so much later, or with what comes before: it only
/// learns that we have it.
const TELL_BACK: Duration = Duration::from_millis(250);

/// A neighbour that has fetched a batch and not said after so long that it holds it will not do so.
const CONFIRMED: Duration = Duration::from_secs(5);

/// Offered batches that may be on their way or wait to be stored, from all neighbours: 8 MiB.
const COMING_MOST: usize = 8;

/// Bytes that a neighbour may be behind us before we fetch no more ourselves, so that those further on set
/// the pace, not what our log or theirs can hold.
const BEHIND_MOST: usize = 16 << 20;

/// A neighbour that has fetched nothing for so long is not waited for.
const STALLED: Duration = Duration::from_secs(1);

/// After so long another neighbour that has offered a batch is asked for it too. An exchange ends after
/// 10 seconds; a mebibyte in half of that is 2 Mbit/s.
const HEDGE: Duration = Duration::from_secs(5);

/// Offered batches that we lack, in the order in which they were offered.
#[derive(Debug)]
pub(super) struct Wants<P>(IndexMap<Id, Want<P>>);

#[derive(Debug)]
struct Want<P> {
    room: String,
    item: Item,
    /// Who has offered it and was not found wanting, in this order.
    sources: Vec<P>,
    /// Who was asked for it, and when.
    asked: Vec<(P, Time)>,
    /// Whether it is here already, and is being verified and stored.
    has_come: bool,
}

impl<P: Clone + Ord> Wants<P> {
    pub(super) fn new() -> Wants<P> {
        Wants(IndexMap::new())
    }

    /// Whether it is about to come.
    pub(super) fn contains(&self, id: &Id) -> bool {
        self.0.contains_key(id)
    }

    /// Whether something is about to come that was sent in `room` by then.
    fn has_sent_by(&self, room: &str, sent_at_ms: u64) -> bool {
        let is_it = |want: &Want<P>| want.item.sent_at_ms <= sent_at_ms && want.room == room;
        self.0.values().any(is_it)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// It is stored, or will not be.
    pub(super) fn remove(&mut self, id: &Id) {
        self.0.shift_remove(id);
    }

    /// `peer` is no source any more of those of which this holds; the rooms in which something is given
    /// up, because nobody is left who has offered it.
    fn without(&mut self, peer: &P, is_meant: impl Fn(&Id, &str) -> bool) -> BTreeSet<String> {
        for (id, want) in &mut self.0 {
            if is_meant(id, &want.room) {
                want.sources.retain(|source| source != peer);
                want.asked.retain(|(asked, _)| asked != peer);
            }
        }
        let is_lost = |_: &Id, want: &mut Want<P>| want.sources.is_empty() && !want.has_come;
        self.0
            .extract_if(.., is_lost)
            .map(|(_, want)| want.room)
            .collect()
    }

    /// What `peer` is to be asked for next.
    fn next_of(&mut self, now: Time, peer: &P) -> Option<&mut Want<P>> {
        self.0.values_mut().find(|want| {
            let is_slow = |(other, since): &(P, Time)| other != peer && *since + HEDGE <= now;
            !want.has_come
                && want.sources.contains(peer)
                && (want.asked.is_empty()
                    || want.asked.len() == 1 && want.asked.iter().all(is_slow))
        })
    }

    /// When another source is to be asked, for each that is asked of one.
    fn deadlines(&self) -> impl Iterator<Item = Time> {
        let hedged = self.0.values().filter(|want| {
            let [(asked, _)] = &want.asked[..] else {
                return false;
            };
            !want.has_come && want.sources.iter().any(|source| source != asked)
        });
        hedged.filter_map(|want| want.asked.first().map(|(_, since)| *since + HEDGE))
    }
}

/// A batch that a neighbour was offered.
#[derive(Debug)]
struct Open {
    room: String,
    bytes: usize,
    is_own: bool,
}

/// Offers to and from a neighbour.
#[derive(Debug, Default)]
pub(super) struct Offering {
    /// Whether it understands them.
    pub(super) is_taken: bool,
    /// What it is to be offered, in this order.
    due: VecDeque<(String, Item)>,
    /// When it is, at the latest.
    due_at: Option<Time>,
    /// Whether an offer is on its way: one at a time, and what comes meanwhile goes with the next.
    is_under_way: bool,
    /// When the last one was made.
    told_at: Option<Time>,
    /// What it was offered and has neither fetched nor offered itself, with its bytes.
    open: IndexMap<Id, Open>,
    /// When that last became less, or something where there was nothing.
    moved_at: Time,
    /// Its fetches of what it was offered that wait for the log.
    serving: BTreeSet<RequestId>,
    /// What it has fetched when, and not said yet to hold.
    unconfirmed: VecDeque<(Time, Id)>,
    /// What it is being asked for.
    fetching: usize,
    /// Until when it is not asked, as it has said.
    resume_at: Option<Time>,
    /// Batches that it has offered and did not hold.
    unheld: u64,
}

impl Offering {
    /// It is to be offered this, which it may have.
    fn is_due(&mut self, now: Time, room: &str, item: Item, has_it: bool) {
        if self.due.len() >= STANDING_MOST {
            return;
        }
        let at = match self.told_at {
            _ if has_it => now + TELL_BACK,
            Some(told) => now.max(told + TELL_EVERY),
            None => now,
        };
        self.due.push_back((room.to_owned(), item));
        self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
    }

    /// What it is to be offered now: the room and the batches.
    fn next_offer(&mut self, now: Time) -> Option<(String, Vec<Item>)> {
        if self.is_under_way || self.due_at? > now {
            return None;
        }
        let (room, _) = self.due.front()?;
        let room = room.clone();
        let of_room = self.due.iter().take_while(|(of, _)| *of == room);
        let count = of_room.take(MAX_OFFERED).count();
        let items = self.due.drain(..count).map(|(_, item)| item).collect();
        if self.due.is_empty() {
            self.due_at = None;
        }
        self.is_under_way = true;
        self.told_at = Some(now);
        Some((room, items))
    }

    /// The bytes that it was offered and has not fetched.
    fn open_bytes(&self) -> usize {
        self.open.values().map(|open| open.bytes).sum()
    }

    /// The same, for `peer`, which this is.
    pub(super) fn outstanding<P: Clone>(&self, peer: &P) -> Output<P> {
        Output::Outstanding {
            peer: peer.clone(),
            bytes: self.open_bytes(),
            of_own: self.open.values().any(|open| open.is_own),
        }
    }

    /// Whether it has said of all that it was offered that it holds it; what it cannot keep it never says.
    pub(super) fn is_all_taken(&self, now: Time) -> bool {
        let mut lately = self
            .unconfirmed
            .iter()
            .filter(|(at, _)| now < *at + CONFIRMED);
        self.open.is_empty() && lately.next().is_none()
    }

    /// Until when we wait for it, if it does not go on.
    fn waited_for(&self) -> Option<Time> {
        (self.open_bytes() > BEHIND_MOST).then_some(self.moved_at + STALLED)
    }

    fn set_open(&mut self, now: Time, id: Id, open: Open) {
        if self.open.is_empty() {
            self.moved_at = now;
        }
        self.open.insert(id, open);
    }

    /// Whether it had been offered any of these.
    pub(super) fn close(&mut self, now: Time, ids: impl Iterator<Item = Id>) -> bool {
        let before = self.open.len();
        for id in ids {
            self.open.shift_remove(&id);
            self.unconfirmed.retain(|(_, other)| *other != id);
        }
        let has_moved = self.open.len() < before;
        if has_moved {
            self.moved_at = now;
        }
        has_moved
    }

    /// Whether it was offered all of these, and has not fetched them yet.
    pub(super) fn are_open(&self, ids: &[Id]) -> bool {
        ids.iter().all(|id| self.open.contains_key(id))
    }

    /// It fetches these; whether there is something among them that it was offered.
    pub(super) fn take_up(&mut self, now: Time, request: RequestId, ids: &[Id]) -> bool {
        let open = ids.iter().filter(|id| self.open.contains_key(*id));
        let open: Vec<Id> = open.copied().collect();
        if open.len() == ids.len() {
            self.serving.insert(request);
        }
        self.close(now, open.iter().copied());
        self.unconfirmed.extend(open.iter().map(|id| (now, *id)));
        let surplus = self.unconfirmed.len().saturating_sub(STANDING_MOST);
        self.unconfirmed.drain(..surplus);
        !open.is_empty()
    }

    /// Whether a fetch that was answered was one of these.
    pub(super) fn has_served(&mut self, request: RequestId) -> bool {
        self.serving.remove(&request)
    }

    /// Keeps what is in rooms of which this holds; whether there was anything else among what is open.
    fn keep_rooms(&mut self, is_kept: impl Fn(&str) -> bool) -> bool {
        let before = self.open.len();
        self.due.retain(|(room, _)| is_kept(room));
        self.due_at.take_if(|_| self.due.is_empty());
        self.open.retain(|_, open| is_kept(&open.room));
        self.open.len() < before
    }
}

impl<P: Clone + Ord> Checks<P> {
    /// A large batch is here that the neighbours may lack; `from` is who brought it.
    pub(super) fn offer(
        &mut self,
        now: Time,
        room: &str,
        item: Item,
        bytes: usize,
        from: Option<&P>,
        out: &mut Vec<Output<P>>,
    ) {
        let sources = self
            .wants
            .0
            .shift_remove(&item.id)
            .map_or(Vec::new(), |want| want.sources);
        for (peer, neighbour) in &mut self.neighbours {
            let offers = &mut neighbour.offers;
            if !offers.is_taken || !neighbour.rooms.contains(room) {
                continue;
            }
            let has_it = Some(peer) == from || sources.contains(peer);
            offers.is_due(now, room, item, has_it);
            if !has_it && offers.open.len() < STANDING_MOST {
                let open = Open {
                    room: room.to_owned(),
                    bytes,
                    is_own: from.is_none(),
                };
                offers.set_open(now, item.id, open);
                out.push(offers.outstanding(peer));
            }
        }
    }

    /// Whether a large batch is about to come that was sent in `room` by then.
    pub fn is_coming(&self, room: &str, sent_at_ms: u64) -> bool {
        self.wants.has_sent_by(room, sent_at_ms)
    }

    /// Takes note of what `peer` offers.
    pub(super) fn on_offer(
        &mut self,
        moment: Moment,
        peer: &P,
        name: &str,
        items: &[Item],
        out: &mut Vec<Output<P>>,
    ) -> Response {
        let oldest_ms = self.oldest_ms(moment.unix_ms, Duration::ZERO);
        let Some(neighbour) = self.neighbours.get_mut(peer) else {
            return Response::Absent;
        };
        let Some(room) = self.rooms.get(name) else {
            return Response::Absent;
        };
        let ids = items.iter().map(|item| item.id);
        if neighbour.offers.close(moment.now, ids) {
            out.push(neighbour.offers.outstanding(peer));
        }
        let mut held = Vec::new();
        let oldest_ms = oldest_ms.max(room.horizon_ms());
        let mut standing = self
            .wants
            .0
            .values()
            .filter(|want| want.sources.contains(peer))
            .count();
        for item in items {
            // What is too old is not wanted either.
            if item.sent_at_ms < oldest_ms || room.items().contains(item) {
                held.push(item.id);
                continue;
            }
            if standing >= STANDING_MOST {
                neighbour.set_due(name, moment.now + RETRY, false);
                break;
            }
            let want = self.wants.0.entry(item.id).or_insert_with(|| Want {
                room: name.to_owned(),
                item: *item,
                sources: Vec::new(),
                asked: Vec::new(),
                has_come: false,
            });
            if want.room == name && !want.sources.contains(peer) {
                want.sources.push(peer.clone());
                standing += 1;
            }
        }
        Response::Heard(held)
    }

    /// A batch has come by another way than by the offers of these: they learn that it is here.
    pub(super) fn tell_sources(&mut self, now: Time, item: &Item) {
        let Some(want) = self.wants.0.shift_remove(&item.id) else {
            return;
        };
        for source in &want.sources {
            if let Some(neighbour) = self.neighbours.get_mut(source) {
                neighbour.offers.is_due(now, &want.room, *item, true);
            }
        }
    }

    /// Tells `peer` what is new, and asks it for what it has offered.
    pub(super) fn go_on_offering(&mut self, now: Time, peer: &P, out: &mut Vec<Output<P>>) {
        let neighbour = self.neighbours.get_mut(peer);
        if let Some((room, items)) = neighbour.and_then(|n| n.offers.next_offer(now)) {
            let ids = items.iter().map(|item| item.id).collect();
            let request = Request::Offer { room, items };
            self.ask(peer, Asked::Offered(ids), &request, out);
        }
        while let Some((asked, request)) = self.next_fetch(now, peer) {
            self.ask(peer, asked, &request, out);
        }
    }

    fn ask(&mut self, peer: &P, asked: Asked, request: &Request, out: &mut Vec<Output<P>>) {
        self.last_token += 1;
        self.asked
            .insert(self.last_token, (peer.clone(), Some(asked)));
        out.push(Output::Request(
            peer.clone(),
            self.last_token,
            request.encode(),
        ));
    }

    fn next_fetch(&mut self, now: Time, peer: &P) -> Option<(Asked, Request)> {
        let under_way: usize = self.neighbours.values().map(|n| n.offers.fetching).sum();
        let settling = self
            .tickets
            .values()
            .filter(|(_, offered)| offered.is_some());
        let mut waited_for = self
            .neighbours
            .values()
            .filter_map(|n| n.offers.waited_for());
        if under_way + settling.count() >= COMING_MOST || waited_for.any(|until| now < until) {
            return None;
        }
        let offers = &mut self.neighbours.get_mut(peer)?.offers;
        offers.resume_at.take_if(|at| *at <= now);
        if offers.fetching >= FETCHES_AT_ONCE || offers.resume_at.is_some() {
            return None;
        }
        let want = self.wants.next_of(now, peer)?;
        want.asked.push((peer.clone(), now));
        offers.fetching += 1;
        let (room, id) = (want.room.clone(), want.item.id);
        Some((
            Asked::Large(id),
            Request::Fetch {
                room,
                ids: vec![id],
            },
        ))
    }

    /// The answer to a fetch of what `peer` has offered.
    pub(super) fn on_brought(
        &mut self,
        now: Time,
        peer: P,
        id: Id,
        response: Response,
        out: &mut Vec<Output<P>>,
    ) -> Result<(), Fault> {
        let Some(neighbour) = self.neighbours.get_mut(&peer) else {
            return Ok(());
        };
        let offers = &mut neighbour.offers;
        offers.fetching -= 1;
        let want = self.wants.0.get_mut(&id).filter(|want| !want.has_come);
        match response {
            Response::Batches { envelopes, missing } if missing.is_empty() => {
                let [envelope]: [Bytes; 1] = match envelopes.len() {
                    0 => return Err(Fault::Withheld),
                    _ => envelopes.try_into().map_err(|_| Fault::Unasked)?,
                };
                // Or it has come from elsewhere meanwhile.
                let Some(want) = want else { return Ok(()) };
                want.has_come = true;
                let room = want.room.clone();
                self.last_token += 1;
                let ticket = self.last_token;
                self.tickets.insert(ticket, (peer.clone(), Some(id)));
                out.push(Output::Fetched {
                    peer,
                    ticket,
                    room,
                    envelopes: vec![envelope],
                    offered: Some(id),
                });
            }
            Response::Batches { envelopes, missing } => {
                if !envelopes.is_empty() || missing != [id] {
                    return Err(Fault::Unasked);
                }
                offers.unheld += 1;
                if offers.unheld > MISSING_MOST {
                    return Err(Fault::Unheld);
                }
                self.give_up_source(now, &peer, |of| *of == id);
            }
            Response::Later(after) => {
                offers.resume_at = Some(now + after);
                if let Some(want) = want {
                    want.asked.retain(|(asked, _)| *asked != peer);
                }
            }
            Response::Absent => {
                if let Some(room) = want.map(|want| want.room.clone()) {
                    neighbour.rooms.remove(&room);
                }
                self.give_up_source(now, &peer, |of| *of == id);
            }
            _ => return Err(Fault::Mismatched),
        }
        Ok(())
    }

    /// No answer came to a fetch of what `peer` has offered.
    pub(super) fn on_not_brought(&mut self, now: Time, peer: &P, id: Id) {
        if let Some(neighbour) = self.neighbours.get_mut(peer) {
            neighbour.offers.fetching -= 1;
        }
        self.give_up_source(now, peer, |of| *of == id);
    }

    /// An offer was heard, or will not be.
    pub(super) fn on_offer_heard(
        &mut self,
        now: Time,
        peer: &P,
        held: Vec<Id>,
        out: &mut Vec<Output<P>>,
    ) {
        if let Some(neighbour) = self.neighbours.get_mut(peer) {
            neighbour.offers.is_under_way = false;
            if neighbour.offers.close(now, held.into_iter()) {
                out.push(neighbour.offers.outstanding(peer));
            }
        }
    }

    /// `peer` is no source any more of those of which this holds. What nobody else has offered is left
    /// to a comparison with whoever is in the room.
    fn give_up_source(&mut self, now: Time, peer: &P, is_meant: impl Fn(&Id) -> bool) {
        for room in self.wants.without(peer, |id, _| is_meant(id)) {
            self.compare_soon(now, &room);
        }
    }

    /// Nothing in the rooms of which this does not hold stands between us and `peer` any more.
    pub(super) fn keep_offers(
        &mut self,
        now: Time,
        peer: &P,
        is_kept: impl Fn(&str) -> bool,
        out: &mut Vec<Output<P>>,
    ) {
        if let Some(neighbour) = self.neighbours.get_mut(peer)
            && neighbour.offers.keep_rooms(&is_kept)
        {
            out.push(neighbour.offers.outstanding(peer));
        }
        for room in self.wants.without(peer, |_, room| !is_kept(room)) {
            self.compare_soon(now, &room);
        }
    }

    /// We left a room.
    pub(super) fn forget_offers_in(&mut self, room: &str, out: &mut Vec<Output<P>>) {
        self.wants.0.retain(|_, want| want.room != room);
        for (peer, neighbour) in &mut self.neighbours {
            if neighbour.offers.keep_rooms(|of| of != room) {
                out.push(neighbour.offers.outstanding(peer));
            }
        }
    }

    /// When [`Checks::go_on_offering`] has something to do for the time's sake.
    pub(super) fn offers_deadline(&self) -> Option<Time> {
        let offers = self.neighbours.values().map(|n| &n.offers);
        let told = offers
            .clone()
            .filter_map(|offers| offers.due_at.filter(|_| !offers.is_under_way));
        let resumed = offers.clone().filter_map(|offers| offers.resume_at);
        let waited_for = offers.filter_map(Offering::waited_for);
        // What was due before waits for something else that happens.
        told.chain(resumed)
            .chain(waited_for)
            .chain(self.wants.deadlines())
            .filter(|at| *at > self.looked_at)
            .min()
    }

    fn compare_soon(&mut self, now: Time, room: &str) {
        for neighbour in self.neighbours.values_mut() {
            if neighbour.rooms.contains(room) {
                neighbour.set_due(room, now, true);
            }
        }
    }
}
