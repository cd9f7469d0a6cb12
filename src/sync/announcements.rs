//! What is remembered of offers: the batches that we want, and how it stands with each neighbour.
//!
//! Entry types: [`Wants`], what neighbours have offered and we lack, and [`Offering`], what goes on with
//! one neighbour. The rule it keeps: what a neighbour can make us remember is bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use indexmap::IndexMap;

use super::event::{Output, Owed, RequestId};
use super::message::MAX_OFFERED;
use crate::clock::Time;
use crate::model::{Id, Item};

/// Batches that may stand between us and one neighbour, in each direction: to be offered, offered and
/// not fetched, wanted. What is past that is found by comparing.
pub(super) const STANDING_MOST: usize = 256;

/// Offers to one neighbour are this far apart: each costs as much as some 30 KiB of a batch.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// What a neighbour has offered itself, it is offered so much later, or with what comes before: it only
/// learns that we have it.
const TELL_BACK: Duration = Duration::from_millis(250);

/// A neighbour is asked so long after a small batch was gossiped whether it holds it: asked at once, it would fetch what it
/// is just storing.
const ASK_AFTER_GOSSIP: Duration = Duration::from_millis(20);

/// A neighbour that has fetched a batch and not said after so long that it holds it will not do so.
const CONFIRMED: Duration = Duration::from_secs(5);

/// Bytes that a neighbour may be behind us before we fetch no more ourselves, so that those further on set
/// the pace, not what our log or theirs can hold.
const BEHIND_MOST: usize = 16 << 20;

/// What is on its way to the first neighbour is waited for so long at most: a mebibyte over 0.6 Mbit/s.
const FIRST_MOST: Duration = Duration::from_secs(15);

/// What another neighbour has already is waited for so long at most.
const PASSED_ON: Duration = Duration::from_secs(1);

/// A neighbour that has fetched nothing for so long is not waited for.
const STALLED: Duration = Duration::from_secs(1);

/// After so long another neighbour that has offered a batch is asked for it too, and where fetches have lately
/// taken long, after twice as long as they took, but not later than the second of these, and while something
/// arrives from the first not earlier: a line of ours that is slow is not made quicker by fetching twice.
const HEDGE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(40));

/// While a fetch has been under way for so long, its neighbour is asked for nothing else that was offered.
const SLOW_FETCH: Duration = Duration::from_secs(1);

/// Offered batches that we lack, in the order in which they were offered.
#[derive(Debug)]
pub(super) struct Wants<P> {
    pub(super) all: IndexMap<Id, Want<P>>,
    /// From whom something was arriving when it was last looked: what they were asked for is on its way.
    pub(super) arriving: BTreeSet<P>,
    /// Whether that is just now.
    pub(super) may_hedge: bool,
    /// How long fetches take: the longest, which wears off with each that is quicker.
    taken: Duration,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Want<P> {
    pub(super) room: String,
    pub(super) item: Item,
    /// Who has offered it and was not found wanting, in this order.
    pub(super) sources: Vec<P>,
    /// Who was asked for it, and when.
    pub(super) asked: Vec<(P, Time)>,
    /// How often it was put off by those who were asked.
    pub(super) put_off: u32,
    /// Whether it is here already, and is being verified and stored.
    pub(super) has_come: bool,
}

impl<P: Clone + Ord> Wants<P> {
    pub(super) fn new() -> Wants<P> {
        Wants {
            all: IndexMap::new(),
            arriving: BTreeSet::new(),
            may_hedge: false,
            taken: Duration::ZERO,
        }
    }

    /// Whether it is about to come.
    pub(super) fn contains(&self, id: &Id) -> bool {
        self.all.contains_key(id)
    }

    /// Whether something is about to come that was sent in `room` by then.
    pub(super) fn has_sent_by(&self, room: &str, sent_at_ms: u64) -> bool {
        let is_it = |want: &Want<P>| want.item.sent_at_ms <= sent_at_ms && want.room == room;
        self.all.values().any(is_it)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// It is stored, or will not be.
    pub(super) fn remove(&mut self, id: &Id) {
        self.all.shift_remove(id);
    }

    /// A fetch took so long.
    pub(super) fn note_fetch_time(&mut self, time: Duration) {
        self.taken = time.max(self.taken / 2);
    }

    fn hedge(&self) -> Duration {
        self.taken.saturating_mul(2).clamp(HEDGE.0, HEDGE.1)
    }

    /// `peer` is no source any more of those of which this holds; the rooms in which something is given
    /// up, because nobody is left who has offered it.
    pub(super) fn without(
        &mut self,
        peer: &P,
        is_meant: impl Fn(&Id, &str) -> bool,
    ) -> BTreeSet<String> {
        for (id, want) in &mut self.all {
            if is_meant(id, &want.room) {
                want.sources.retain(|source| source != peer);
                want.asked.retain(|(asked, _)| asked != peer);
            }
        }
        let is_lost = |_: &Id, want: &mut Want<P>| want.sources.is_empty() && !want.has_come;
        self.all
            .extract_if(.., is_lost)
            .map(|(_, want)| want.room)
            .collect()
    }

    /// What `peer` is to be asked for next: the first that was offered, of those that were put off least
    /// often. Who puts off what it has just given to somebody may have room for something else.
    pub(super) fn next_of(&mut self, now: Time, peer: &P) -> Option<&mut Want<P>> {
        let (hedge, arriving, may_hedge) = (self.hedge(), &self.arriving, self.may_hedge);
        let wanted = self.all.values_mut().filter(|want| {
            let is_slow = |(other, since): &(P, Time)| {
                let hedge = if arriving.contains(other) {
                    HEDGE.1
                } else {
                    hedge
                };
                may_hedge && other != peer && *since + hedge <= now
            };
            !want.has_come
                && want.sources.contains(peer)
                && (want.asked.is_empty()
                    || want.asked.len() == 1 && want.asked.iter().all(is_slow))
        });
        wanted.min_by_key(|want| want.put_off)
    }

    /// When another source is to be asked, for each that is asked of one.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Time> {
        let hedge = self.hedge();
        let hedged = self.all.values().filter(|want| {
            let [(asked, _)] = &want.asked[..] else {
                return false;
            };
            !want.has_come && want.sources.iter().any(|source| source != asked)
        });
        hedged.filter_map(move |want| want.asked.first().map(|(_, since)| *since + hedge))
    }
}

/// A batch that a neighbour was offered.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) room: String,
    pub(super) bytes: usize,
    pub(super) is_own: bool,
    /// Since when another neighbour has it, as we know.
    pub(super) spread_at: Option<Time>,
}

/// One that it is fetching.
#[derive(Debug)]
struct Serving {
    id: Id,
    open: Open,
    since: Time,
    /// When it should have arrived.
    overdue_at: Time,
}

/// Offers to and from a neighbour.
#[derive(Debug, Default)]
pub(super) struct Offering {
    /// Whether it understands them.
    pub(super) is_taken: bool,
    /// What it is to be offered, in this order.
    due: VecDeque<(String, Item)>,
    /// When it is, at the latest.
    pub(super) due_at: Option<Time>,
    /// Whether an offer is on its way: one at a time, and what comes meanwhile goes with the next.
    pub(super) is_under_way: bool,
    /// When the last one was made.
    told_at: Option<Time>,
    /// What it was offered and has neither fetched nor offered itself, with its bytes.
    open: IndexMap<Id, Open>,
    /// When that last became less, or something where there was nothing.
    moved_at: Time,
    /// Its fetches of what it was offered, until they are answered and the answer was sent.
    serving: BTreeMap<RequestId, Serving>,
    /// What it has fetched when, and not said yet to hold.
    unconfirmed: VecDeque<(Time, Id)>,
    /// What it is being asked for, and since when.
    pub(super) fetching: Vec<(Id, Time)>,
    /// Until when it is not asked, as it has said.
    pub(super) resume_at: Option<Time>,
    /// Batches that it has offered and did not hold.
    pub(super) unheld: u64,
}

impl Offering {
    /// It is to be offered this, which it may have; whether there is room for that.
    pub(super) fn set_due(&mut self, now: Time, room: &str, item: Item, has_it: bool) -> bool {
        if self.due.len() >= STANDING_MOST {
            return false;
        }
        let at = match self.told_at {
            _ if has_it => now + TELL_BACK,
            Some(told) => now.max(told + TELL_EVERY),
            None => now,
        };
        self.due.push_back((room.to_owned(), item));
        self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
        true
    }

    /// It is to be offered what gossip brings it, so that it says whether it holds it. When there is no room for that it
    /// is left to the next time.
    pub(super) fn set_due_to_confirm(&mut self, now: Time, room: &str, item: Item) {
        let is_due = |(_, other): &(String, Item)| other.id == item.id;
        if self.due.len() >= STANDING_MOST || self.due.iter().any(is_due) {
            return;
        }
        let earliest = now + ASK_AFTER_GOSSIP;
        let at = self
            .told_at
            .map_or(earliest, |told| earliest.max(told + TELL_EVERY));
        self.due.push_back((room.to_owned(), item));
        self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
    }

    /// What it is to be offered now: the room and the batches.
    pub(super) fn next_offer(&mut self, now: Time) -> Option<(String, Vec<Item>)> {
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

    /// How many fetches under way keep us from others: those that take long are one at most, if something arrives.
    pub(super) fn busy_with(&self, now: Time, is_arriving: bool) -> usize {
        let young = self
            .fetching
            .iter()
            .filter(|(_, since)| now < *since + HEDGE.0)
            .count();
        match young < self.fetching.len() && is_arriving {
            true => young + 1,
            false => young,
        }
    }

    /// When fetches that are under way count as ones that take long.
    pub(super) fn slow_at(&self) -> impl Iterator<Item = Time> {
        self.fetching.iter().map(|(_, since)| *since + HEDGE.0)
    }

    /// Ends the pause after a fetch that it could not serve, if that is over.
    pub(super) fn end_pause(&mut self, now: Time) {
        self.resume_at.take_if(|at| *at <= now);
    }

    /// Whether it may be asked for something more, when so many fetches may be under way with it.
    pub(super) fn is_ready(&self, now: Time, most: usize) -> bool {
        let is_slow = |(_, since): &(Id, Time)| *since + SLOW_FETCH <= now;
        self.resume_at.is_none() && self.fetching.len() < most && !self.fetching.iter().any(is_slow)
    }

    /// A fetch is over; when it began.
    pub(super) fn end_fetch(&mut self, id: &Id) -> Option<Time> {
        let at = self.fetching.iter().position(|(of, _)| of == id)?;
        Some(self.fetching.remove(at).1)
    }

    /// The bytes that it was offered and does not have yet.
    pub(super) fn open_bytes(&self) -> usize {
        self.outstanding_ones().map(|open| open.bytes).sum()
    }

    fn outstanding_ones(&self) -> impl Iterator<Item = &Open> {
        let serving = self.serving.values().map(|serving| &serving.open);
        self.open.values().chain(serving)
    }

    /// The same, for `peer`, which this is.
    pub(super) fn outstanding<P: Clone>(&self, now: Time, peer: &P) -> Output<P> {
        Output::Outstanding {
            peer: peer.clone(),
            bytes: self.open_bytes(),
            own: self.owed(now),
        }
    }

    /// How it stands with batches of our own.
    fn owed(&self, now: Time) -> Owed {
        let is_ours = |open: &&Open| open.is_own;
        let spreads = self.outstanding_ones().filter(is_ours);
        let spread_by = spreads.filter_map(|open| open.spread_at.map(|at| at + PASSED_ON));
        let first = |serving: &&Serving| serving.open.is_own && serving.open.spread_at.is_none();
        let fetched_by = self.serving.values().filter(first);
        let fetched_by = fetched_by.map(|it| it.overdue_at.min(it.since + FIRST_MOST));
        let until = spread_by.chain(fetched_by).max().filter(|at| *at > now);
        let mut offered = self.open.values().filter(is_ours);
        match until {
            Some(at) => Owed::For(at.since(now)),
            None if offered.any(|open| open.spread_at.is_none()) => Owed::Offered,
            None => Owed::Nothing,
        }
    }

    /// Another neighbour has this; whether that is news about a batch of our own which stands between us.
    pub(super) fn set_spread(&mut self, now: Time, id: &Id) -> bool {
        let serving = self.serving.values_mut().filter(|it| it.id == *id);
        let open = self.open.get_mut(id).into_iter();
        let mut open = open.chain(serving.map(|serving| &mut serving.open));
        let Some(open) = open.find(|open| open.is_own && open.spread_at.is_none()) else {
            return false;
        };
        open.spread_at = Some(now);
        true
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
    pub(super) fn waited_for(&self) -> Option<Time> {
        (self.open_bytes() > BEHIND_MOST).then_some(self.moved_at + STALLED)
    }

    /// It is about to be offered this; whether there is room to wait for it.
    pub(super) fn set_open(&mut self, now: Time, id: Id, open: Open) -> bool {
        if self.open.len() >= STANDING_MOST {
            return false;
        }
        if self.open.is_empty() {
            self.moved_at = now;
        }
        self.open.insert(id, open);
        true
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

    /// The batch that is asked for, and its bytes, if that is one alone which it was offered and has not
    /// fetched yet.
    pub(super) fn asks_for(&self, ids: &[Id]) -> Option<(Id, usize)> {
        let [id] = ids else { return None };
        Some((*id, self.open.get(id)?.bytes))
    }

    /// It fetches these; whether there is something among them that it was offered. If it is one alone, that
    /// is to arrive by then.
    pub(super) fn take_up(
        &mut self,
        now: Time,
        request: RequestId,
        ids: &[Id],
        overdue_at: Time,
    ) -> bool {
        let open = ids.iter().filter(|id| self.open.contains_key(*id));
        let open: Vec<Id> = open.copied().collect();
        if let [id] = ids
            && let Some(open) = self.open.shift_remove(id)
        {
            let serving = Serving {
                id: *id,
                open,
                since: now,
                overdue_at,
            };
            self.serving.insert(request, serving);
            self.moved_at = now;
        }
        self.close(now, open.iter().copied());
        self.unconfirmed.extend(open.iter().map(|id| (now, *id)));
        let surplus = self.unconfirmed.len().saturating_sub(STANDING_MOST);
        self.unconfirmed.drain(..surplus);
        !open.is_empty()
    }

    /// Whether a fetch is one of these.
    pub(super) fn is_serving(&self, request: RequestId) -> bool {
        self.serving.contains_key(&request)
    }

    /// A fetch was answered, and the answer was sent: what it was, if it was one of these.
    pub(super) fn is_served(&mut self, now: Time, request: RequestId) -> Option<Id> {
        let served = self.serving.remove(&request)?;
        self.moved_at = now;
        Some(served.id)
    }

    /// Keeps what is in rooms of which this holds; whether there was anything else among what is open.
    pub(super) fn keep_rooms(&mut self, is_kept: impl Fn(&str) -> bool) -> bool {
        let before = self.open.len();
        self.due.retain(|(room, _)| is_kept(room));
        self.due_at.take_if(|_| self.due.is_empty());
        self.open.retain(|_, open| is_kept(&open.room));
        self.open.len() < before
    }
}
