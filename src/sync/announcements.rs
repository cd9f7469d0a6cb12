//! What is remembered of offers: the batches that we fetch, and how it stands with each neighbour.
//!
//! Entry types: [`PendingFetches`], what neighbours have offered and we lack, and [`Announcements`], what goes on with
//! one neighbour. The rule it keeps: what a neighbour can make us remember is bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use indexmap::IndexMap;

use super::event::{Output, OwnPending, RequestId};
use super::message::MAX_ANNOUNCED;
use crate::clock::Time;
use crate::model::{Id, Item};

/// Batches that may stand between us and one neighbour, in each direction: to be offered, offered and
/// not fetched, wanted. What is past that is found by comparing.
pub(super) const MAX_ANNOUNCED_PER_PEER: usize = 256;

/// Offers to one neighbour are this far apart: each costs as much as some 30 KiB of a batch.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(50);

/// What a neighbour has offered itself, it is offered so much later, or with what comes before: it only
/// learns that we have it.
const ANNOUNCE_BACK_DELAY: Duration = Duration::from_millis(250);

/// A neighbour is asked so long after a small batch was gossiped whether it holds it: asked at once, it would fetch what it
/// is just storing.
const CONFIRM_DELAY: Duration = Duration::from_millis(20);

/// A neighbour that has fetched a batch and not said after so long that it holds it will not do so.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that a neighbour may be behind us before we fetch no more ourselves, so that those further on set
/// the upload_scheduler, not what our log or theirs can hold.
const MAX_LAG_BYTES: usize = 16 << 20;

/// What is on its way to the first neighbour is waited for so long at most: a mebibyte over 0.6 Mbit/s.
const FIRST_DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);

/// What another neighbour has already is waited for so long at most.
const RELAY_TIMEOUT: Duration = Duration::from_secs(1);

/// A neighbour that has fetched nothing for so long is not waited for.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// After so long another neighbour that has offered a batch is asked for it too, and where fetches have lately
/// fetch_time long, after twice as long as they took, but not later than the second of these, and while something
/// arrives from the first not earlier: a line of ours that is slow is not made quicker by fetching twice.
const MIN_HEDGE_DELAY: Duration = Duration::from_secs(5);

/// Maximum hedge delay.
const MAX_HEDGE_DELAY: Duration = Duration::from_secs(40);

/// While a fetch has been under way for so long, its neighbour is asked for nothing else that was offered.
const SLOW_FETCH_TIMEOUT: Duration = Duration::from_secs(1);

/// Offered batches that we lack, in the order in which they were offered.
#[derive(Debug)]
pub(super) struct PendingFetches<P> {
    pub(super) all: IndexMap<Id, PendingFetch<P>>,
    /// From whom something was arriving when it was last looked: what they were asked for is on its way.
    pub(super) arriving: BTreeSet<P>,
    /// Whether that is just now.
    pub(super) may_hedge: bool,
    /// How long fetches take: the longest, which wears off with each that is quicker.
    fetch_time: Duration,
}

/// One of them.
#[derive(Debug)]
pub(super) struct PendingFetch<P> {
    pub(super) room: String,
    pub(super) item: Item,
    /// Who has offered it and was not found wanting, in this order.
    pub(super) sources: Vec<P>,
    /// Who was asked for it, and when.
    pub(super) requested_from: Vec<(P, Time)>,
    /// How often it was put off by those who were asked.
    pub(super) deferrals: u32,
    /// Whether it is here already, and is being verified and stored.
    pub(super) is_received: bool,
}

impl<P: Clone + Ord> PendingFetches<P> {
    pub(super) fn new() -> PendingFetches<P> {
        PendingFetches {
            all: IndexMap::new(),
            arriving: BTreeSet::new(),
            may_hedge: false,
            fetch_time: Duration::ZERO,
        }
    }

    /// Whether it is about to come.
    pub(super) fn contains(&self, id: &Id) -> bool {
        self.all.contains_key(id)
    }

    /// Whether something is about to come that was sent in `room` by then.
    pub(super) fn contains_sent_by(&self, room: &str, sent_at_ms: u64) -> bool {
        let is_earlier =
            |fetch: &PendingFetch<P>| fetch.item.sent_at_ms <= sent_at_ms && fetch.room == room;
        self.all.values().any(is_earlier)
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
    pub(super) fn record_fetch_time(&mut self, time: Duration) {
        self.fetch_time = time.max(self.fetch_time / 2);
    }

    fn hedge_delay(&self) -> Duration {
        self.fetch_time
            .saturating_mul(2)
            .clamp(MIN_HEDGE_DELAY, MAX_HEDGE_DELAY)
    }

    /// `peer` is no source any more of those of which this holds; the rooms in which something is given
    /// up, because nobody is left who has offered it.
    pub(super) fn remove_source(
        &mut self,
        peer: &P,
        matches: impl Fn(&Id, &str) -> bool,
    ) -> BTreeSet<String> {
        for (id, fetch) in &mut self.all {
            if matches(id, &fetch.room) {
                fetch.sources.retain(|source| source != peer);
                fetch.requested_from.retain(|(asked, _)| asked != peer);
            }
        }
        let is_lost =
            |_: &Id, fetch: &mut PendingFetch<P>| fetch.sources.is_empty() && !fetch.is_received;
        self.all
            .extract_if(.., is_lost)
            .map(|(_, fetch)| fetch.room)
            .collect()
    }

    /// What `peer` is to be asked for next: the first that was offered, of those that were put off least
    /// often. Who puts off what it has just given to somebody may have room for something else.
    pub(super) fn next_from(&mut self, now: Time, peer: &P) -> Option<&mut PendingFetch<P>> {
        let (hedge, arriving, may_hedge) = (self.hedge_delay(), &self.arriving, self.may_hedge);
        let ready = self.all.values_mut().filter(|fetch| {
            let is_slow = |(other, since): &(P, Time)| {
                let hedge = if arriving.contains(other) {
                    MAX_HEDGE_DELAY
                } else {
                    hedge
                };
                may_hedge && other != peer && *since + hedge <= now
            };
            !fetch.is_received
                && fetch.sources.contains(peer)
                && (fetch.requested_from.is_empty()
                    || fetch.requested_from.len() == 1 && fetch.requested_from.iter().all(is_slow))
        });
        ready.min_by_key(|fetch| fetch.deferrals)
    }

    /// When another source is to be asked, for each that is asked of one.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Time> {
        let hedge = self.hedge_delay();
        let hedged = self.all.values().filter(|fetch| {
            let [(asked, _)] = &fetch.requested_from[..] else {
                return false;
            };
            !fetch.is_received && fetch.sources.iter().any(|source| source != asked)
        });
        hedged.filter_map(move |fetch| {
            fetch
                .requested_from
                .first()
                .map(|(_, since)| *since + hedge)
        })
    }
}

/// A batch that a neighbour was offered.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) room: String,
    pub(super) bytes: usize,
    pub(super) is_own: bool,
    /// Since when another neighbour has it, as we know.
    pub(super) replicated_at: Option<Time>,
}

/// One that it is fetching.
#[derive(Debug)]
struct Uploading {
    id: Id,
    announced: Announced,
    since: Time,
    /// When it should have arrived.
    overdue_at: Time,
}

/// Offers to and from a neighbour.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    /// Whether it understands them.
    pub(super) is_supported: bool,
    /// What it is to be offered, in this order.
    due: VecDeque<(String, Item)>,
    /// When it is, at the latest.
    pub(super) due_at: Option<Time>,
    /// Whether an offer is on its way: one at a time, and what comes meanwhile goes with the next.
    pub(super) is_in_flight: bool,
    /// When the last one was made.
    announced_at: Option<Time>,
    /// What it was offered and has neither fetched nor offered itself, with its bytes.
    announced: IndexMap<Id, Announced>,
    /// When that last became less, or something where there was nothing.
    progress_at: Time,
    /// Its fetches of what it was offered, until they are answered and the answer was sent.
    uploading: BTreeMap<RequestId, Uploading>,
    /// What it has fetched when, and not said yet to hold.
    unconfirmed: VecDeque<(Time, Id)>,
    /// What it is being asked for, and since when.
    pub(super) fetching: Vec<(Id, Time)>,
    /// Until when it is not asked, as it has said.
    pub(super) resume_at: Option<Time>,
    /// Batches that it has offered and did not hold.
    pub(super) false_claims: u64,
}

impl Announcements {
    /// It is to be offered this, which it may have; whether there is room for that.
    pub(super) fn set_due(&mut self, now: Time, room: &str, item: Item, has_it: bool) -> bool {
        if self.due.len() >= MAX_ANNOUNCED_PER_PEER {
            return false;
        }
        let at = match self.announced_at {
            _ if has_it => now + ANNOUNCE_BACK_DELAY,
            Some(last) => now.max(last + ANNOUNCE_INTERVAL),
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
        if self.due.len() >= MAX_ANNOUNCED_PER_PEER || self.due.iter().any(is_due) {
            return;
        }
        let earliest = now + CONFIRM_DELAY;
        let at = self
            .announced_at
            .map_or(earliest, |last| earliest.max(last + ANNOUNCE_INTERVAL));
        self.due.push_back((room.to_owned(), item));
        self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
    }

    /// What it is to be offered now: the room and the batches.
    pub(super) fn next_announcement(&mut self, now: Time) -> Option<(String, Vec<Item>)> {
        if self.is_in_flight || self.due_at? > now {
            return None;
        }
        let (room, _) = self.due.front()?;
        let room = room.clone();
        let of_room = self.due.iter().take_while(|(of, _)| *of == room);
        let count = of_room.take(MAX_ANNOUNCED).count();
        let items = self.due.drain(..count).map(|(_, item)| item).collect();
        if self.due.is_empty() {
            self.due_at = None;
        }
        self.is_in_flight = true;
        self.announced_at = Some(now);
        Some((room, items))
    }

    /// How many fetches under way keep us from others: those that take long are one at most, if something arrives.
    pub(super) fn busy_fetches(&self, now: Time, is_arriving: bool) -> usize {
        let recent = self
            .fetching
            .iter()
            .filter(|(_, since)| now < *since + MIN_HEDGE_DELAY)
            .count();
        match recent < self.fetching.len() && is_arriving {
            true => recent + 1,
            false => recent,
        }
    }

    /// When fetches that are under way count as ones that take long.
    pub(super) fn slow_fetch_deadlines(&self) -> impl Iterator<Item = Time> {
        self.fetching
            .iter()
            .map(|(_, since)| *since + MIN_HEDGE_DELAY)
    }

    /// Ends the pause after a fetch that it could not serve, if that is over.
    pub(super) fn end_pause(&mut self, now: Time) {
        self.resume_at.take_if(|at| *at <= now);
    }

    /// Whether it may be asked for something more, when so many fetches may be under way with it.
    pub(super) fn is_ready(&self, now: Time, most: usize) -> bool {
        let is_slow = |(_, since): &(Id, Time)| *since + SLOW_FETCH_TIMEOUT <= now;
        self.resume_at.is_none() && self.fetching.len() < most && !self.fetching.iter().any(is_slow)
    }

    /// A fetch is over; when it began.
    pub(super) fn end_fetch(&mut self, id: &Id) -> Option<Time> {
        let at = self.fetching.iter().position(|(of, _)| of == id)?;
        Some(self.fetching.remove(at).1)
    }

    /// The bytes that it was offered and does not have yet.
    pub(super) fn announced_bytes(&self) -> usize {
        self.unfetched().map(|announced| announced.bytes).sum()
    }

    fn unfetched(&self) -> impl Iterator<Item = &Announced> {
        let uploading = self
            .uploading
            .values()
            .map(|uploading| &uploading.announced);
        self.announced.values().chain(uploading)
    }

    /// The same, for `peer`, which this is.
    pub(super) fn outstanding<P: Clone>(&self, now: Time, peer: &P) -> Output<P> {
        Output::Outstanding {
            peer: peer.clone(),
            bytes: self.announced_bytes(),
            own: self.own_pending(now),
        }
    }

    /// How it stands with batches of our own.
    fn own_pending(&self, now: Time) -> OwnPending {
        let is_ours = |announced: &&Announced| announced.is_own;
        let own = self.unfetched().filter(is_ours);
        let replicated_by =
            own.filter_map(|announced| announced.replicated_at.map(|at| at + RELAY_TIMEOUT));
        let first = |uploading: &&Uploading| {
            uploading.announced.is_own && uploading.announced.replicated_at.is_none()
        };
        let fetched_by = self.uploading.values().filter(first);
        let fetched_by = fetched_by.map(|it| it.overdue_at.min(it.since + FIRST_DELIVERY_TIMEOUT));
        let until = replicated_by.chain(fetched_by).max().filter(|at| *at > now);
        let mut own = self.announced.values().filter(is_ours);
        match until {
            Some(at) => OwnPending::WaitAtMost(at.since(now)),
            None if own.any(|announced| announced.replicated_at.is_none()) => OwnPending::Announced,
            None => OwnPending::Nothing,
        }
    }

    /// Another neighbour has this; whether that is news about a batch of our own which stands between us.
    pub(super) fn set_replicated(&mut self, now: Time, id: &Id) -> bool {
        let uploading = self.uploading.values_mut().filter(|it| it.id == *id);
        let announced = self.announced.get_mut(id).into_iter();
        let mut announced = announced.chain(uploading.map(|uploading| &mut uploading.announced));
        let Some(announced) =
            announced.find(|announced| announced.is_own && announced.replicated_at.is_none())
        else {
            return false;
        };
        announced.replicated_at = Some(now);
        true
    }

    /// Whether it has said of all that it was offered that it holds it; what it cannot keep it never says.
    pub(super) fn is_all_confirmed(&self, now: Time) -> bool {
        let mut recent = self
            .unconfirmed
            .iter()
            .filter(|(at, _)| now < *at + CONFIRM_TIMEOUT);
        self.announced.is_empty() && recent.next().is_none()
    }

    /// Until when we wait for it, if it does not go on.
    pub(super) fn blocked_until(&self) -> Option<Time> {
        (self.announced_bytes() > MAX_LAG_BYTES).then_some(self.progress_at + STALL_TIMEOUT)
    }

    /// It is about to be offered this; whether there is room to wait for it.
    pub(super) fn set_announced(&mut self, now: Time, id: Id, announced: Announced) -> bool {
        if self.announced.len() >= MAX_ANNOUNCED_PER_PEER {
            return false;
        }
        if self.announced.is_empty() {
            self.progress_at = now;
        }
        self.announced.insert(id, announced);
        true
    }

    /// Whether it had been offered any of these.
    pub(super) fn acknowledge(&mut self, now: Time, ids: impl Iterator<Item = Id>) -> bool {
        let before = self.announced.len();
        for id in ids {
            self.announced.shift_remove(&id);
            self.unconfirmed.retain(|(_, other)| *other != id);
        }
        let has_progress = self.announced.len() < before;
        if has_progress {
            self.progress_at = now;
        }
        has_progress
    }

    /// The batch that is asked for, and its bytes, if that is one alone which it was offered and has not
    /// fetched yet.
    pub(super) fn requested_announced(&self, ids: &[Id]) -> Option<(Id, usize)> {
        let [id] = ids else { return None };
        Some((*id, self.announced.get(id)?.bytes))
    }

    /// It fetches these; whether there is something among them that it was offered. If it is one alone, that
    /// is to arrive by then.
    pub(super) fn begin_upload(
        &mut self,
        now: Time,
        request: RequestId,
        ids: &[Id],
        overdue_at: Time,
    ) -> bool {
        let announced = ids.iter().filter(|id| self.announced.contains_key(*id));
        let announced: Vec<Id> = announced.copied().collect();
        if let [id] = ids
            && let Some(announced) = self.announced.shift_remove(id)
        {
            let uploading = Uploading {
                id: *id,
                announced,
                since: now,
                overdue_at,
            };
            self.uploading.insert(request, uploading);
            self.progress_at = now;
        }
        self.acknowledge(now, announced.iter().copied());
        self.unconfirmed
            .extend(announced.iter().map(|id| (now, *id)));
        let surplus = self
            .unconfirmed
            .len()
            .saturating_sub(MAX_ANNOUNCED_PER_PEER);
        self.unconfirmed.drain(..surplus);
        !announced.is_empty()
    }

    /// Whether a fetch is one of these.
    pub(super) fn is_uploading(&self, request: RequestId) -> bool {
        self.uploading.contains_key(&request)
    }

    /// A fetch was answered, and the answer was sent: what it was, if it was one of these.
    pub(super) fn end_upload(&mut self, now: Time, request: RequestId) -> Option<Id> {
        let upload = self.uploading.remove(&request)?;
        self.progress_at = now;
        Some(upload.id)
    }

    /// Keeps what is in rooms of which this holds; whether there was anything else among what is announced.
    pub(super) fn retain_rooms(&mut self, is_kept: impl Fn(&str) -> bool) -> bool {
        let before = self.announced.len();
        self.due.retain(|(room, _)| is_kept(room));
        self.due_at.take_if(|_| self.due.is_empty());
        self.announced
            .retain(|_, announced| is_kept(&announced.room));
        self.announced.len() < before
    }
}
