//! Large batches that have just come: neighbours are told that they are here, and each fetches them
//! once, from one of those that told it.
//!
//! Entry points: [`Checks::offer`], [`Checks::on_offer`], [`Checks::go_on_offering`]. The rules it keeps: a
//! batch is asked of one neighbour at a time, unless that one is slow; what a neighbour can make us fetch
//! at once is bounded; an offer that comes to nothing is left to the comparisons.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::announcements::{Offering, Open, STANDING_MOST, Want};
use super::event::{Output, RequestId};
use super::message::{Request, Response};
use super::peer_state::Neighbour;
use super::state::{Checks, Moment, RETRY};
use super::sync_round::{Asked, Fault, MISSING_MOST};
use crate::clock::Time;
use crate::model::{Id, Item};

/// The bit of a handshake's features that says: this node understands offers.
pub const OFFERS: u64 = 1;

/// Batches of more bytes than this are offered; smaller ones, those with many events among them, are
/// gossiped.
pub const OFFER_ABOVE: usize = 320 << 10;

/// The bytes of a large message, about.
const LARGEST: usize = 1 << 20;

/// Fetches of offered batches that one neighbour is asked for at once: while one is on its way, the
/// next is read.
const FETCHES_AT_ONCE: usize = 2;

/// Offered batches that may be on their way or wait to be stored, from all neighbours: what comes in a second,
/// at least and at most so many. The least is more than one, so that a neighbour whose line is slow does not
/// keep us from asking others; the most is 8 MiB.
const COMING: (usize, usize) = (2, 8);

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
            .all
            .shift_remove(&item.id)
            .map_or(Vec::new(), |want| want.sources);
        for (peer, neighbour) in &mut self.neighbours {
            let offers = &mut neighbour.offers;
            if !offers.is_taken || !neighbour.rooms.contains(room) {
                continue;
            }
            let has_it = Some(peer) == from || sources.contains(peer);
            let is_told = offers.set_due(now, room, item, has_it);
            let open = Open {
                room: room.to_owned(),
                bytes,
                is_own: from.is_none(),
                spread_at: None,
            };
            if is_told && !has_it && offers.set_open(now, item.id, open) {
                out.push(offers.outstanding(now, peer));
            }
        }
    }

    /// Offers a small batch, which gossip brings, to those in the room but for some: who holds it says so, and who lacks
    /// it still fetches it, and offers it back when it is stored.
    pub(super) fn ask_who_holds(&mut self, now: Time, room: &str, item: Item, but: &BTreeSet<P>) {
        let neighbours = self.neighbours.iter_mut();
        let asked = neighbours.filter(|(peer, it)| it.rooms.contains(room) && !but.contains(*peer));
        for (_, neighbour) in asked {
            if neighbour.offers.is_taken {
                neighbour.offers.set_due_to_confirm(now, room, item);
            }
        }
    }

    /// `peer` does not lack these: it is told of those that are watched.
    pub(super) fn tell_who_holds(&self, peer: &P, ids: &[Id], out: &mut Vec<Output<P>>) {
        let watched = ids.iter().filter(|id| self.watched.contains(*id));
        out.extend(watched.map(|id| Output::Holds(peer.clone(), *id)));
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
        let oldest_ms = self.oldest_ms(moment.unix.aging, Duration::ZERO);
        let Some(neighbour) = self.neighbours.get_mut(peer) else {
            return Response::NotSubscribed;
        };
        let Some(room) = self.rooms.get(name) else {
            return Response::NotSubscribed;
        };
        let ids = items.iter().map(|item| item.id);
        let watched = ids.clone().filter(|id| self.watched.contains(id));
        out.extend(watched.map(|id| Output::Holds(peer.clone(), id)));
        if neighbour.offers.close(moment.now, ids.clone()) {
            out.push(neighbour.offers.outstanding(moment.now, peer));
            has_spread(&mut self.neighbours, moment.now, ids, out);
        }
        let mut held = Vec::new();
        let oldest_ms = oldest_ms.max(room.low_watermark_ms());
        let mut standing = self
            .wants
            .all
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
                if let Some(neighbour) = self.neighbours.get_mut(peer) {
                    neighbour.set_due(name, moment.now + RETRY, false);
                }
                break;
            }
            let want = self.wants.all.entry(item.id).or_insert_with(|| Want {
                room: name.to_owned(),
                item: *item,
                sources: Vec::new(),
                asked: Vec::new(),
                put_off: 0,
                has_come: false,
            });
            if want.room == name && !want.sources.contains(peer) {
                want.sources.push(peer.clone());
                standing += 1;
            }
        }
        Response::Ack(held)
    }

    /// A batch has come by another way than by the offers of these: they learn that it is here.
    pub(super) fn tell_sources(&mut self, now: Time, item: &Item) {
        let Some(want) = self.wants.all.shift_remove(&item.id) else {
            return;
        };
        for source in &want.sources {
            if let Some(neighbour) = self.neighbours.get_mut(source) {
                neighbour.offers.set_due(now, &want.room, *item, true);
            }
        }
    }

    /// Tells `peer` what is new, and asks it for what it has offered.
    pub(super) fn go_on_offering(&mut self, now: Time, peer: &P, out: &mut Vec<Output<P>>) {
        let neighbour = self.neighbours.get_mut(peer);
        if let Some((room, items)) = neighbour.and_then(|n| n.offers.next_offer(now)) {
            let ids = items.iter().map(|item| item.id).collect();
            let request = Request::Announce { room, items };
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
        let all = self.neighbours.values().flat_map(|n| &n.offers.fetching);
        let under_way = all.count();
        // Who lets us wait keeps us from nobody else.
        let busy = self.neighbours.iter().map(|(peer, neighbour)| {
            let is_arriving = self.wants.arriving.contains(peer);
            neighbour.offers.busy_with(now, is_arriving)
        });
        let busy: usize = busy.sum();
        let settling = self.tickets.values().filter(|(_, of)| of.is_some()).count();
        let mut waited_for = self
            .neighbours
            .values()
            .filter_map(|n| n.offers.waited_for());
        let a_second = usize::try_from(self.coming.a_second()).unwrap_or(usize::MAX);
        let most = (a_second / LARGEST).clamp(COMING.0, COMING.1);
        let has_enough = busy + settling >= most || under_way + settling >= COMING.1;
        if has_enough || waited_for.any(|until| now < until) {
            return None;
        }
        if under_way == 0 {
            self.coming.begin(now);
        }
        let offers = &mut self.neighbours.get_mut(peer)?.offers;
        offers.end_pause(now);
        if !offers.is_ready(now, FETCHES_AT_ONCE) {
            return None;
        }
        let want = self.wants.next_of(now, peer)?;
        want.asked.push((peer.clone(), now));
        let (room, id) = (want.room.clone(), want.item.id);
        offers.fetching.push((id, now));
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
        if let Some(began) = offers.end_fetch(&id)
            && let Response::Batches { envelopes, .. } = &response
            && !envelopes.is_empty()
        {
            self.wants.note_fetch_time(now.since(began));
            let bytes = envelopes.iter().map(Bytes::len).sum::<usize>();
            self.coming.has_carried(now, bytes as u64);
        }
        let want = self.wants.all.get_mut(&id).filter(|want| !want.has_come);
        match response {
            Response::Batches {
                envelopes,
                missing,
                removed,
            } if missing.is_empty() && removed.is_empty() => {
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
            Response::Batches {
                envelopes,
                missing,
                removed,
            } => {
                let is_removed = matches!(&removed[..], [item] if item.id == id);
                if !envelopes.is_empty() || !(missing == [id] || is_removed && missing.is_empty()) {
                    return Err(Fault::Unasked);
                }
                offers.unheld += u64::from(!is_removed);
                if offers.unheld > MISSING_MOST {
                    return Err(Fault::Unheld);
                }
                self.give_up_source(now, &peer, |of| *of == id);
            }
            Response::RetryAfter(after) => {
                offers.resume_at = Some(now + after);
                if let Some(want) = want {
                    want.asked.retain(|(asked, _)| *asked != peer);
                    want.put_off += 1;
                }
            }
            Response::NotSubscribed => {
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
            neighbour.offers.end_fetch(&id);
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
            if neighbour.offers.close(now, held.iter().copied()) {
                out.push(neighbour.offers.outstanding(now, peer));
                has_spread(&mut self.neighbours, now, held.into_iter(), out);
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
            out.push(neighbour.offers.outstanding(now, peer));
        }
        for room in self.wants.without(peer, |_, room| !is_kept(room)) {
            self.compare_soon(now, &room);
        }
    }

    /// An answer to a fetch of what we have offered was sent, or will not be.
    pub(super) fn on_served(
        &mut self,
        now: Time,
        peer: &P,
        request: RequestId,
        is_sent: bool,
        out: &mut Vec<Output<P>>,
    ) {
        let Some(neighbour) = self.neighbours.get_mut(peer) else {
            return;
        };
        let Some(id) = neighbour.offers.is_served(now, request) else {
            return;
        };
        out.push(neighbour.offers.outstanding(now, peer));
        if is_sent {
            has_spread(&mut self.neighbours, now, [id].into_iter(), out);
        }
    }

    /// We left a room.
    pub(super) fn forget_offers_in(&mut self, now: Time, room: &str, out: &mut Vec<Output<P>>) {
        self.wants.all.retain(|_, want| want.room != room);
        for (peer, neighbour) in &mut self.neighbours {
            if neighbour.offers.keep_rooms(|of| of != room) {
                out.push(neighbour.offers.outstanding(now, peer));
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
        let slow = offers.clone().flat_map(Offering::slow_at);
        let waited_for = offers.filter_map(Offering::waited_for);
        // What was due before waits for something else that happens.
        told.chain(resumed)
            .chain(slow)
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

/// A neighbour has these now.
fn has_spread<P: Clone>(
    neighbours: &mut BTreeMap<P, Neighbour>,
    now: Time,
    ids: impl Iterator<Item = Id>,
    out: &mut Vec<Output<P>>,
) {
    for id in ids {
        for (peer, neighbour) in neighbours.iter_mut() {
            if neighbour.offers.set_spread(now, &id) {
                out.push(neighbour.offers.outstanding(now, peer));
            }
        }
    }
}
