//! The bounded event queue of one reader.
//!
//! Entry type: [`Queue`], pure. The rules it keeps: a slow reader costs a bounded amount of memory. When the queue is full,
//! the author with the largest share loses its own newest events, and no other author does. Lost messages are read from the
//! log later ([`Backlog`]), if there is one; otherwise they form one gap for each author, which is reported at its position.

use std::collections::{BTreeSet, HashMap, VecDeque};

use libp2p::PeerId;

use super::Event;
use super::backlog::{Backlog, Stretch};

/// Maximum number of events in the queue of one reader.
pub const MAX_WAITING_EVENTS: usize = 65_536;
/// Maximum number of bytes of events in the queue of one reader, each counted with
/// [`EVENT_OVERHEAD`](crate::gossip::EVENT_OVERHEAD): 64 MiB.
pub const MAX_WAITING_BYTES: usize = 64 << 20;

/// Maximum number of empty places of dropped events; past it the queue is compacted.
const MAX_DROPPED_PLACES: usize = MAX_WAITING_EVENTS / 4;
/// Maximum number of authors with gaps of their own; those of further authors are counted together. A new key for each
/// message must not make the reader's memory grow.
const MAX_GAPS: usize = 64;
/// Minimum weight of an event in its author's share: the heaviest author has most events when there are too many events,
/// and most bytes when there are too many bytes.
const MIN_WEIGHT: usize = MAX_WAITING_BYTES / MAX_WAITING_EVENTS;

/// The author of an event; none for events of the node itself.
type Author = Option<PeerId>;

/// Events in their order, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Dropped events leave empty places.
    waiting: VecDeque<Option<Event>>,
    /// The number of the first place; the others follow.
    first: u64,
    count: usize,
    bytes: usize,
    /// The share of each author, from when the queue is full until it is empty.
    shares: Option<Shares>,
    /// A gap after the event that was read last.
    gap: Option<Event>,
    /// Messages to read from the log, if there is one.
    backlog: Option<Backlog>,
}

#[derive(Debug, Default)]
struct Shares {
    authors: HashMap<Author, Share>,
    by_weight: BTreeSet<(usize, Author)>,
    /// Number of dropped events that are in no log, by author.
    gaps: HashMap<Author, u64>,
    /// Number of dropped events of authors past [`MAX_GAPS`].
    other_gaps: u64,
}

/// The share of one author.
#[derive(Debug, Default)]
struct Share {
    weight: usize,
    /// The numbers of its places, the oldest first.
    places: VecDeque<u64>,
}

impl Queue {
    /// From now on, messages without room are read from the log later.
    pub(super) fn set_logged(&mut self) {
        self.backlog.get_or_insert_default();
    }

    /// Takes the next stretch to read from the log. There is no other one before [`Queue::end_stretch`].
    pub(super) fn begin_stretch(&mut self) -> Option<Stretch> {
        self.backlog.as_mut()?.begin()
    }

    /// Ends the reading of the stretch that was taken; `rest` was not read.
    pub(super) fn end_stretch(&mut self, rest: Option<Stretch>) {
        if let Some(backlog) = &mut self.backlog {
            backlog.end(rest);
        }
    }

    /// The log is closed: all messages to read from it are missed, with `rest` of the stretch that was taken.
    pub(super) fn give_up_log(&mut self, rest: Stretch) {
        let Some(mut backlog) = self.backlog.take() else {
            return;
        };
        backlog.end(Some(rest));
        let shares = self
            .shares
            .get_or_insert_with(|| Shares::of(&self.waiting, self.first));
        for (author, events) in backlog.give_up() {
            shares.miss(Some(author), events);
        }
    }

    /// Returns the number of unread events, in the queue and in the log, without the stretch that is being read; missed
    /// events count as well.
    pub(super) fn unread(&self) -> u64 {
        let missed = self.shares.as_ref().map_or(0, Shares::missed);
        let gap = match self.gap {
            Some(Event::Missed { events, .. }) => events,
            _ => 0,
        };
        self.count as u64 + missed + gap + self.backlog.as_ref().map_or(0, Backlog::len)
    }

    /// Returns whether there is nothing left to read, in the queue and in the log.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
            && self.gap.is_none()
            && self.shares.as_ref().is_none_or(Shares::has_no_gap)
            && self.backlog.as_ref().is_none_or(Backlog::is_empty)
    }

    #[cfg(test)]
    pub(super) fn is_within_bounds(&self) -> bool {
        self.count <= MAX_WAITING_EVENTS && self.bytes <= MAX_WAITING_BYTES
    }

    #[cfg(test)]
    pub(super) fn is_author_behind(&self, author: PeerId) -> bool {
        self.is_behind(Some(author))
    }

    /// Adds `event`, or drops it, or drops others for it.
    pub(super) fn push(&mut self, event: Event) {
        let bytes = event.bytes();
        if self.is_behind(event.author()) {
            return self.lose(&event);
        }
        if self.shares.is_none() {
            if self.has_room_for(bytes) {
                return self.put(event);
            }
            self.shares = Some(Shares::of(&self.waiting, self.first));
        }
        let author = event.author();
        if !self.make_room(author, weight(bytes), bytes) {
            return self.lose(&event);
        }
        let place = self.first + self.waiting.len() as u64;
        if let Some(shares) = &mut self.shares {
            shares.add(author, weight(bytes), place);
        }
        self.put(event);
    }

    /// Takes the next event, or a report of missing ones.
    pub(super) fn pop(&mut self) -> Option<Event> {
        if let Some(gap) = self.gap.take() {
            return Some(gap);
        }
        while let Some(place) = self.waiting.pop_front() {
            let number = self.first;
            self.first += 1;
            let Some(event) = place else { continue };
            self.bytes -= event.bytes();
            self.count -= 1;
            if let Some(shares) = &mut self.shares {
                self.gap = shares.read(event.author(), weight(event.bytes()), number);
            }
            self.set_due(event.author());
            return Some(event);
        }
        let gap = self.shares.as_mut().and_then(Shares::take_gap);
        if gap.is_none() {
            self.shares = None;
        }
        gap
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.count < MAX_WAITING_EVENTS && self.bytes + bytes <= MAX_WAITING_BYTES
    }

    fn put(&mut self, event: Event) {
        self.bytes += event.bytes();
        self.count += 1;
        self.waiting.push_back(Some(event));
    }

    /// Returns whether `author` has messages to read from the log before any newer one.
    fn is_behind(&self, author: Author) -> bool {
        let backlog = self.backlog.as_ref().zip(author);
        backlog.is_some_and(|(backlog, author)| backlog.holds(&author))
    }

    /// Drops `event`: it is read from the log later, or counted as missed.
    fn lose(&mut self, event: &Event) {
        let is_logged = match (event, &mut self.backlog) {
            (Event::Message(message), Some(backlog)) => backlog.add(message),
            _ => false,
        };
        let author = event.author();
        if is_logged {
            self.set_due(author);
        } else {
            let shares = self
                .shares
                .get_or_insert_with(|| Shares::of(&self.waiting, self.first));
            shares.miss(author, 1);
        }
    }

    /// Lets the backlog of `author` be read, if the queue has none of its events.
    fn set_due(&mut self, author: Author) {
        if let Some((backlog, author)) = self.backlog.as_mut().zip(author)
            && !self
                .shares
                .as_ref()
                .is_some_and(|shares| shares.holds(author))
        {
            backlog.set_due(&author);
        }
    }

    /// Drops events of heavier authors until an event of `author` fits. Returns false when `author` is the heaviest.
    fn make_room(&mut self, author: Author, weight: usize, bytes: usize) -> bool {
        // An author with a gap gets no more room until the gap is reported, so that it stays in one place.
        if self
            .shares
            .as_ref()
            .is_some_and(|shares| shares.has_gap(author))
        {
            return false;
        }
        while !self.has_room_for(bytes) {
            let Some(shares) = &mut self.shares else {
                return false;
            };
            let Some(number) = shares.give_up_newest_of_heaviest(author, weight) else {
                return false;
            };
            self.drop_place(number);
        }
        if self.waiting.len() > self.count + MAX_DROPPED_PLACES {
            self.compact();
        }
        true
    }

    fn drop_place(&mut self, number: u64) {
        let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        let Some(event) = self.waiting.get_mut(index).and_then(Option::take) else {
            return;
        };
        self.bytes -= event.bytes();
        self.count -= 1;
        if let Some(shares) = &mut self.shares {
            shares.lose(event.author(), weight(event.bytes()));
        }
        self.lose(&event);
    }

    /// Removes the places of dropped events.
    fn compact(&mut self) {
        self.waiting.retain(Option::is_some);
        if let Some(shares) = &mut self.shares {
            shares.renumber(&self.waiting, self.first);
        }
    }
}

impl Shares {
    fn of(waiting: &VecDeque<Option<Event>>, first: u64) -> Shares {
        let mut shares = Shares::default();
        for (number, event) in (first..).zip(waiting) {
            if let Some(event) = event {
                shares.add(event.author(), weight(event.bytes()), number);
            }
        }
        shares
    }

    fn renumber(&mut self, waiting: &VecDeque<Option<Event>>, first: u64) {
        let Shares {
            gaps, other_gaps, ..
        } = std::mem::take(self);
        *self = Shares {
            gaps,
            other_gaps,
            ..Shares::of(waiting, first)
        };
    }

    fn add(&mut self, author: Author, weight: usize, place: u64) {
        let share = self.authors.entry(author).or_default();
        self.by_weight.remove(&(share.weight, author));
        share.weight += weight;
        share.places.push_back(place);
        self.by_weight.insert((share.weight, author));
    }

    /// Takes `weight` off the share of `author`.
    fn lose(&mut self, author: Author, weight: usize) {
        let Some(share) = self.authors.get_mut(&author) else {
            return;
        };
        self.by_weight.remove(&(share.weight, author));
        share.weight = share.weight.saturating_sub(weight);
        if share.places.is_empty() {
            self.authors.remove(&author);
        } else {
            self.by_weight.insert((share.weight, author));
        }
    }

    /// Takes the newest place of the heaviest author, unless that would be `author` with `weight` more.
    fn give_up_newest_of_heaviest(&mut self, author: Author, weight: usize) -> Option<u64> {
        let own = self.authors.get(&author).map_or(0, |share| share.weight);
        let &(heaviest, holder) = self.by_weight.last()?;
        if holder == author || own + weight >= heaviest {
            return None;
        }
        self.authors.get_mut(&holder)?.places.pop_back()
    }

    /// Returns whether the queue has an event of `author`.
    fn holds(&self, author: PeerId) -> bool {
        self.authors.contains_key(&Some(author))
    }

    /// Counts events of `author` as missed.
    fn miss(&mut self, author: Author, events: u64) {
        if self.gaps.len() < MAX_GAPS || self.has_gap(author) {
            *self.gaps.entry(author).or_default() += events;
        } else {
            self.other_gaps += events;
        }
    }

    fn missed(&self) -> u64 {
        self.gaps.values().sum::<u64>() + self.other_gaps
    }

    fn has_no_gap(&self) -> bool {
        self.gaps.is_empty() && self.other_gaps == 0
    }

    fn has_gap(&self, author: Author) -> bool {
        self.gaps.contains_key(&author)
    }

    /// An event of `author` was read. Returns the gap after it, if it was the last one before a gap.
    fn read(&mut self, author: Author, weight: usize, place: u64) -> Option<Event> {
        let places = &mut self.authors.get_mut(&author)?.places;
        if places.front() == Some(&place) {
            places.pop_front();
        }
        let is_last = places.is_empty();
        self.lose(author, weight);
        let events = is_last.then(|| self.gaps.remove(&author)).flatten()?;
        Some(Event::Missed { author, events })
    }

    /// Takes the gap of an author without events in the queue, or of several authors together.
    fn take_gap(&mut self) -> Option<Event> {
        if let Some(author) = self.gaps.keys().next().copied() {
            let events = self.gaps.remove(&author).unwrap_or_default();
            return Some(Event::Missed { author, events });
        }
        let events = std::mem::take(&mut self.other_gaps);
        let author = None;
        (events > 0).then_some(Event::Missed { author, events })
    }
}

fn weight(bytes: usize) -> usize {
    bytes.max(MIN_WEIGHT)
}

#[cfg(test)]
mod tests;
