//! The bounded queue in which one reader finds a node's events.
//!
//! Entry type: [`Queue`]. The rules it keeps: a slow reader costs a bounded amount of memory; when the queue is
//! full, who holds most of it gives up its own newest events, nobody else's; of those the messages are read from the log
//! later ([`Backlog`]), where there is one; what is lost of an author is one gap, and the reader is told of it where it
//! is.

use std::collections::{BTreeSet, HashMap, VecDeque};

use libp2p::PeerId;

use super::Event;
use super::backlog::{Backlog, Stretch};

/// Maximum number of events that wait for one reader.
pub const MAX_WAITING_EVENTS: usize = 65_536;
/// Maximum number of bytes of events that wait for one reader, each counted with
/// [`EVENT_OVERHEAD`](crate::gossip::EVENT_OVERHEAD): 64 MiB.
pub const MAX_WAITING_BYTES: usize = 64 << 20;

/// Places of dropped events that stay in the queue until it is made smaller.
const MAX_DROPPED_PLACES: usize = MAX_WAITING_EVENTS / 4;
/// Maximum number of authors whose gaps are counted one by one; the others' are counted together. Whoever makes
/// new keys for each message must not make the reader's memory grow.
const MAX_GAPS: usize = 64;
/// The least share of the queue that an event takes: so the author of most events is found when there are too
/// many events, and that of most bytes when there are too many bytes.
const MIN_WEIGHT: usize = MAX_WAITING_BYTES / MAX_WAITING_EVENTS;

/// Whose an event is; none for what the node itself tells.
type Author = Option<PeerId>;

/// Events that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Dropped events have left their places empty.
    waiting: VecDeque<Option<Event>>,
    /// The number of the first place; the places after it have the numbers after it.
    first: u64,
    count: usize,
    bytes: usize,
    /// Who holds how much: from when the queue is full until it is empty.
    shares: Option<Shares>,
    /// A gap that follows what was read last.
    gap: Option<Event>,
    /// What is read from the log, if there is one.
    backlog: Option<Backlog>,
}

#[derive(Debug, Default)]
struct Shares {
    authors: HashMap<Author, Share>,
    by_weight: BTreeSet<(usize, Author)>,
    /// Events that were dropped and that no log has, by author.
    gaps: HashMap<Author, u64>,
    /// Events that were dropped of authors past [`MAX_GAPS`].
    other_gaps: u64,
}

/// What one author holds.
#[derive(Debug, Default)]
struct Share {
    weight: usize,
    /// The numbers of its places, the oldest first.
    places: VecDeque<u64>,
}

impl Queue {
    /// From now on the messages that find no room are those of a log.
    pub(super) fn set_logged(&mut self) {
        self.backlog.get_or_insert_default();
    }

    /// Takes what is to be read from the log next; after that only [`Queue::end_stretch`] makes the next one come.
    pub(super) fn begin_stretch(&mut self) -> Option<Stretch> {
        self.backlog.as_mut()?.begin()
    }

    /// The stretch that was taken has been read from the log, but for `rest`.
    pub(super) fn end_stretch(&mut self, rest: Option<Stretch>) {
        if let Some(backlog) = &mut self.backlog {
            backlog.end(rest);
        }
    }

    /// There is no log any more: what was to be read from it is missed, with `rest` of the stretch that was taken.
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

    /// How many events have not been read, here and in the log, but for the stretch that is being read; those that are
    /// missed count as well.
    pub(super) fn unread(&self) -> u64 {
        let missed = self.shares.as_ref().map_or(0, Shares::missed);
        let gap = match self.gap {
            Some(Event::Missed { events, .. }) => events,
            _ => 0,
        };
        self.count as u64 + missed + gap + self.backlog.as_ref().map_or(0, Backlog::len)
    }

    /// Whether there is nothing left to read, here and in the log.
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

    /// Puts `event` last, or drops it, or drops others for it.
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

    /// Takes what is to be read next: an event, or where events are missing.
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

    /// Whether messages of `author` are to be read from the log before any other of it.
    fn is_behind(&self, author: Author) -> bool {
        let backlog = self.backlog.as_ref().zip(author);
        backlog.is_some_and(|(backlog, author)| backlog.holds(&author))
    }

    /// `event` is dropped: it is read from the log later, or counted as missed.
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

    /// If nothing of `author` waits here, what the log has of it can be read.
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

    /// Drops what others hold until an event of `author` fits; whether it fits without `author` holding most.
    fn make_room(&mut self, author: Author, weight: usize, bytes: usize) -> bool {
        // Once some of an author's were dropped, the rest waits until the reader has been told: its gap stays in
        // one place.
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
            self.close_ranks();
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
    fn close_ranks(&mut self) {
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

    /// Takes `weight` off what `author` holds.
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

    /// Takes the newest place of who holds most, unless that would be `author` with `weight` more.
    fn give_up_newest_of_heaviest(&mut self, author: Author, weight: usize) -> Option<u64> {
        let own = self.authors.get(&author).map_or(0, |share| share.weight);
        let &(heaviest, holder) = self.by_weight.last()?;
        if holder == author || own + weight >= heaviest {
            return None;
        }
        self.authors.get_mut(&holder)?.places.pop_back()
    }

    /// Whether an event of `author` waits.
    fn holds(&self, author: PeerId) -> bool {
        self.authors.contains_key(&Some(author))
    }

    /// Counts so many events of `author` as missed.
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

    /// An event of `author` was read; the gap that follows it, if it was the last before one.
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

    /// A gap of an author of whom nothing waits, or of several together.
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
