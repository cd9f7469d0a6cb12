//! Bookkeeping of announcements: the batches that we still want, and the state of each neighbour.
//!
//! Entry types: [`PendingFetches`], batches that neighbours have announced and we lack, and [`Announcements`], the
//! state of one neighbour. The rule it keeps: a neighbour can use only a bounded amount of our memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use indexmap::IndexMap;

use super::event::{Output, OwnPending, RequestId};
use super::message::MAX_ANNOUNCED;
use crate::clock::Time;
use crate::model::{Id, Item};

/// Maximum number of batches per neighbour and direction: to be announced, announced and not fetched, or wanted. Rounds
/// find the batches past it.
pub(super) const MAX_ANNOUNCED_PER_PEER: usize = 256;

/// Minimum interval between announcements to one neighbour: each costs as much as about 30 KiB of a batch.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(50);

/// Delay before a batch is announced back to a neighbour that announced it, unless an earlier announcement takes it
/// along. It only confirms that we have the batch.
const ANNOUNCE_BACK_DELAY: Duration = Duration::from_millis(250);

/// Delay between the gossip of a small batch and the request to confirm it. Without a delay, the neighbour would fetch
/// the batch while it stores it.
const CONFIRM_DELAY: Duration = Duration::from_millis(20);

/// Timeout after which a neighbour that fetched a batch is no longer expected to confirm it.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// Backpressure limit: while a neighbour lags behind us by more than this many bytes, we stop fetching, so that the
/// slowest neighbours limit the rate, not the size of our log or theirs.
const MAX_LAG_BYTES: usize = 16 << 20;

/// Maximum time to wait for the upload to the first neighbour: a mebibyte at 0.6 Mbit/s.
const FIRST_DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum time to wait for a batch that another neighbour already has and relays.
const RELAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Time without a fetch after which a neighbour is not waited for.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Minimum hedge delay. When a fetch takes longer than the hedge delay, which is twice the recent fetch time, within
/// these bounds, a second neighbour is asked for the batch. While data arrives from the first neighbour, the delay is
/// the maximum: to fetch twice does not speed up a slow link of ours.
const MIN_HEDGE_DELAY: Duration = Duration::from_secs(5);

/// Maximum hedge delay.
const MAX_HEDGE_DELAY: Duration = Duration::from_secs(40);

/// Time after which a fetch is slow: its neighbour gets no other fetch of an announced batch meanwhile.
const SLOW_FETCH_TIMEOUT: Duration = Duration::from_secs(1);

/// Announced batches that we lack, in the order of the announcements.
#[derive(Debug)]
pub(super) struct PendingFetches<P> {
    pub(super) all: IndexMap<Id, PendingFetch<P>>,
    /// Neighbours from which data arrived at the last tick: our fetches from them make progress.
    pub(super) arriving: BTreeSet<P>,
    /// Whether `arriving` is current, which is true only during a tick.
    pub(super) may_hedge: bool,
    /// Recent fetch time: the longest, halved by each quicker fetch.
    fetch_time: Duration,
}

/// An announced batch that we lack.
#[derive(Debug)]
pub(super) struct PendingFetch<P> {
    pub(super) room: String,
    pub(super) item: Item,
    /// Neighbours that announced it and are not known to lack it, in this order.
    pub(super) sources: Vec<P>,
    /// Neighbours with a fetch in flight, with the start of each.
    pub(super) requested_from: Vec<(P, Time)>,
    /// Number of deferrals by these neighbours.
    pub(super) deferrals: u32,
    /// Whether it was received, and is being verified and stored.
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

    /// Returns whether the batch is pending.
    pub(super) fn contains(&self, id: &Id) -> bool {
        self.all.contains_key(id)
    }

    /// Returns whether a batch of `room` that was sent no later than `sent_at_ms` is pending.
    pub(super) fn contains_sent_by(&self, room: &str, sent_at_ms: u64) -> bool {
        let is_earlier =
            |fetch: &PendingFetch<P>| fetch.item.sent_at_ms <= sent_at_ms && fetch.room == room;
        self.all.values().any(is_earlier)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Removes a batch that is stored, or will not be.
    pub(super) fn remove(&mut self, id: &Id) {
        self.all.shift_remove(id);
    }

    /// Records the duration of a fetch.
    pub(super) fn record_fetch_time(&mut self, time: Duration) {
        self.fetch_time = time.max(self.fetch_time / 2);
    }

    fn hedge_delay(&self) -> Duration {
        self.fetch_time
            .saturating_mul(2)
            .clamp(MIN_HEDGE_DELAY, MAX_HEDGE_DELAY)
    }

    /// Removes `peer` as a source of every pending fetch that matches the predicate. Returns the rooms of the batches
    /// that are given up because no source is left.
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

    /// Returns the batch to fetch from `peer` next: the first announced one among those with the fewest deferrals. A
    /// neighbour that defers one batch because it has just uploaded it to another may have room for a different one.
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

    /// Returns the hedge deadlines of all batches with one fetch in flight and another source.
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

/// A batch that was announced to a neighbour.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) room: String,
    pub(super) bytes: usize,
    pub(super) is_own: bool,
    /// Time at which another neighbour was first known to have it.
    pub(super) replicated_at: Option<Time>,
}

/// A batch that the neighbour is fetching.
#[derive(Debug)]
struct Uploading {
    id: Id,
    announced: Announced,
    since: Time,
    /// Time by which it should have arrived.
    overdue_at: Time,
}

/// Announcements to and from one neighbour.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    /// Whether the neighbour supports announcements.
    pub(super) is_supported: bool,
    /// Batches to announce, in this order.
    due: VecDeque<(String, Item)>,
    /// Latest time of the next announcement.
    pub(super) due_at: Option<Time>,
    /// Whether an announcement is in flight. There is one at a time; later batches go with the next one.
    pub(super) is_in_flight: bool,
    /// Time of the last announcement.
    announced_at: Option<Time>,
    /// Batches that the neighbour has neither fetched nor announced itself.
    announced: IndexMap<Id, Announced>,
    /// Time of the last progress: `announced` shrank, or got its first batch.
    progress_at: Time,
    /// Its fetches of announced batches, until the response was sent.
    uploading: BTreeMap<RequestId, Uploading>,
    /// Batches that it fetched and has not confirmed yet, with the time of the fetch.
    unconfirmed: VecDeque<(Time, Id)>,
    /// Our fetches in flight from it, with the start of each.
    pub(super) fetching: Vec<(Id, Time)>,
    /// End of the pause that it requested with a deferral.
    pub(super) resume_at: Option<Time>,
    /// Number of batches that it announced and did not hold.
    pub(super) false_claims: u64,
}

impl Announcements {
    /// Queues an announcement of a batch, which the neighbour has itself if `has_it`. Returns whether there was room.
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

    /// Queues an announcement of a gossiped batch, so that the neighbour confirms that it holds it. Does nothing when
    /// there is no room: the confirmation is requested again later.
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

    /// Returns the announcement to send now: a room and its batches.
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

    /// Returns the number of fetches from this neighbour that count against the limit of all neighbours: slow ones
    /// count as one at most, and only if data arrives.
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

    /// Returns the times at which the fetches in flight become slow.
    pub(super) fn slow_fetch_deadlines(&self) -> impl Iterator<Item = Time> {
        self.fetching
            .iter()
            .map(|(_, since)| *since + MIN_HEDGE_DELAY)
    }

    /// Ends the pause after a deferral, if it is over.
    pub(super) fn end_pause(&mut self, now: Time) {
        self.resume_at.take_if(|at| *at <= now);
    }

    /// Returns whether another fetch may be sent to it, with at most `most` fetches in flight.
    pub(super) fn is_ready(&self, now: Time, most: usize) -> bool {
        let is_slow = |(_, since): &(Id, Time)| *since + SLOW_FETCH_TIMEOUT <= now;
        self.resume_at.is_none() && self.fetching.len() < most && !self.fetching.iter().any(is_slow)
    }

    /// Removes a fetch that has ended. Returns its start.
    pub(super) fn end_fetch(&mut self, id: &Id) -> Option<Time> {
        let at = self.fetching.iter().position(|(of, _)| of == id)?;
        Some(self.fetching.remove(at).1)
    }

    /// Returns the size of the announced batches that it does not have yet.
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

    /// Returns the output that reports [`Announcements::announced_bytes`] for `peer`, which is this neighbour.
    pub(super) fn outstanding<P: Clone>(&self, now: Time, peer: &P) -> Output<P> {
        Output::Outstanding {
            peer: peer.clone(),
            bytes: self.announced_bytes(),
            own: self.own_pending(now),
        }
    }

    /// Returns the state of our own batches.
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

    /// Records that another neighbour has this batch. Returns whether that is new and the batch is one of our own.
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

    /// Returns whether it has confirmed all announced batches, apart from those past the timeout: it never confirms
    /// batches that it cannot keep.
    pub(super) fn is_all_confirmed(&self, now: Time) -> bool {
        let mut recent = self
            .unconfirmed
            .iter()
            .filter(|(at, _)| now < *at + CONFIRM_TIMEOUT);
        self.announced.is_empty() && recent.next().is_none()
    }

    /// Returns the time until which our fetches wait for this neighbour (backpressure), unless it makes progress.
    pub(super) fn blocked_until(&self) -> Option<Time> {
        (self.announced_bytes() > MAX_LAG_BYTES).then_some(self.progress_at + STALL_TIMEOUT)
    }

    /// Adds a batch that is about to be announced. Returns whether there was room.
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

    /// Removes batches that the neighbour holds. Returns whether any of them was announced and not fetched.
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

    /// Returns the id and size of the requested batch, if it is a single announced batch that was not fetched yet.
    pub(super) fn requested_announced(&self, ids: &[Id]) -> Option<(Id, usize)> {
        let [id] = ids else { return None };
        Some((*id, self.announced.get(id)?.bytes))
    }

    /// Begins the upload of requested batches. A single announced batch should arrive by `overdue_at`. Returns whether
    /// any of them was announced.
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

    /// Returns whether this request fetches an announced batch.
    pub(super) fn is_uploading(&self, request: RequestId) -> bool {
        self.uploading.contains_key(&request)
    }

    /// Ends an upload, whose response was sent. Returns the batch, if it was an announced one.
    pub(super) fn end_upload(&mut self, now: Time, request: RequestId) -> Option<Id> {
        let upload = self.uploading.remove(&request)?;
        self.progress_at = now;
        Some(upload.id)
    }

    /// Drops everything in rooms that the predicate rejects. Returns whether that included announced batches.
    pub(super) fn retain_rooms(&mut self, is_kept: impl Fn(&str) -> bool) -> bool {
        let before = self.announced.len();
        self.due.retain(|(room, _)| is_kept(room));
        self.due_at.take_if(|_| self.due.is_empty());
        self.announced
            .retain(|_, announced| is_kept(&announced.room));
        self.announced.len() < before
    }
}
