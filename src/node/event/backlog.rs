//! The backlog of a slow reader: the messages that it has yet to read from the log.
//!
//! Entry types: [`Backlog`], [`Stretch`], pure. The rules it keeps: memory grows with the number of stretches, not of
//! messages; authors take turns; newer messages of an author with a backlog are read after its backlog.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use libp2p::PeerId;

use super::Message;
use crate::model::RoomName;

/// Maximum number of stretches in the backlog of one reader: some 6 MiB of memory, and 64 MiB if each is another author's.
/// A stretch is any number of consecutive messages of one process of an author in a room, so that only a room with more
/// processes than this, all of which send while the reader does not read, exceeds it.
pub const MAX_STRETCHES: usize = 65_536;

/// Consecutive messages of one process of an author in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) author: PeerId,
    pub(crate) room: RoomName,
    pub(crate) instance_id: [u8; 16],
    /// The numbers of the first and the last message.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Whether all of them arrived by data checking, or none.
    pub(crate) backfill: bool,
}

/// The backlog of one reader.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    authors: HashMap<PeerId, Behind>,
    /// Authors without messages in memory, in the order of their turns.
    due: VecDeque<PeerId>,
    /// The author of the stretch that is being read.
    reading: Option<PeerId>,
    stretches: usize,
}

/// The backlog of one author.
#[derive(Debug, Default)]
struct Behind {
    stretches: BTreeMap<Start, End>,
    is_due: bool,
    /// The start of the stretch that was read last: the author's rooms and processes take turns as well.
    read: Option<Start>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Start {
    room: RoomName,
    instance_id: [u8; 16],
    first: u64,
}

#[derive(Clone, Copy, Debug)]
struct End {
    last: u64,
    backfill: bool,
}

impl Backlog {
    /// Returns whether `author` has a backlog: its newer messages are read after it.
    pub(super) fn holds(&self, author: &PeerId) -> bool {
        self.reading.as_ref() == Some(author) || self.authors.contains_key(author)
    }

    /// Returns whether there is nothing to read.
    pub(super) fn is_empty(&self) -> bool {
        self.reading.is_none() && self.authors.is_empty()
    }

    /// Adds a message. Returns false when there are [`MAX_STRETCHES`] already, and it extends none of them.
    pub(super) fn add(&mut self, message: &Message) -> bool {
        self.insert(Stretch {
            author: message.author,
            room: message.room.clone(),
            instance_id: message.instance_id,
            first: message.seq,
            last: message.seq,
            backfill: message.backfill,
        })
    }

    /// Queues `author` for a turn: none of its messages are in memory any more.
    pub(super) fn set_due(&mut self, author: &PeerId) {
        if let Some(behind) = self.authors.get_mut(author)
            && self.reading.as_ref() != Some(author)
            && !std::mem::replace(&mut behind.is_due, true)
        {
            self.due.push_back(*author);
        }
    }

    /// Takes the next stretch. There is no other one before [`Backlog::end`].
    pub(super) fn begin(&mut self) -> Option<Stretch> {
        if self.reading.is_some() {
            return None;
        }
        let author = self.due.pop_front()?;
        let behind = self.authors.get_mut(&author)?;
        let stretch = behind.take(author)?;
        self.stretches -= 1;
        self.reading = Some(author);
        Some(stretch)
    }

    /// Ends the reading of the stretch that was taken; `rest` was not read.
    pub(super) fn end(&mut self, rest: Option<Stretch>) {
        let Some(author) = self.reading.take() else {
            return;
        };
        if let Some(rest) = rest {
            self.put_in(rest);
        }
        match self.authors.get_mut(&author) {
            Some(behind) if behind.stretches.is_empty() => {
                self.authors.remove(&author);
            }
            Some(behind) => {
                behind.is_due = true;
                self.due.push_back(author);
            }
            None => {}
        }
    }

    /// Returns the number of messages to read, without those of the stretch that is being read.
    pub(super) fn len(&self) -> u64 {
        self.authors.values().map(Behind::len).sum()
    }

    /// Empties the backlog. Returns the number of messages of each author.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = (PeerId, u64)> + use<> {
        let authors = std::mem::take(self).authors;
        authors
            .into_iter()
            .map(|(author, behind)| (author, behind.len()))
    }

    fn insert(&mut self, stretch: Stretch) -> bool {
        let behind = self.authors.get(&stretch.author);
        let is_new = behind.is_none_or(|behind| !behind.touches(&stretch));
        if is_new && self.stretches >= MAX_STRETCHES {
            return false;
        }
        self.put_in(stretch);
        true
    }

    fn put_in(&mut self, stretch: Stretch) {
        let behind = self.authors.entry(stretch.author).or_default();
        let before = behind.stretches.len();
        behind.put_in(stretch);
        self.stretches = self.stretches + behind.stretches.len() - before;
    }
}

impl Behind {
    fn len(&self) -> u64 {
        let of_each = |(start, end): (&Start, &End)| end.last - start.first + 1;
        self.stretches.iter().map(of_each).sum()
    }

    /// Returns the stretch that ends just before `stretch`, and the one that begins just after it.
    fn neighbours(&self, stretch: &Stretch) -> (Option<Start>, Option<Start>) {
        let start = Start {
            room: stretch.room.clone(),
            instance_id: stretch.instance_id,
            first: stretch.first,
        };
        let before = self.stretches.range(..&start).next_back();
        let before = before.filter(|(other, end)| {
            (&other.room, other.instance_id) == (&start.room, start.instance_id)
                && end.last.checked_add(1) == Some(stretch.first)
                && end.backfill == stretch.backfill
        });
        let before = before.map(|(start, _)| start.clone());
        let after = stretch
            .last
            .checked_add(1)
            .map(|first| Start { first, ..start });
        let after = after.filter(|after| {
            let end = self.stretches.get(after);
            end.is_some_and(|end| end.backfill == stretch.backfill)
        });
        (before, after)
    }

    fn touches(&self, stretch: &Stretch) -> bool {
        let (before, after) = self.neighbours(stretch);
        before.is_some() || after.is_some()
    }

    fn put_in(&mut self, stretch: Stretch) {
        let (before, after) = self.neighbours(&stretch);
        let Stretch {
            room,
            instance_id,
            first,
            mut last,
            backfill,
            ..
        } = stretch;
        if let Some(end) = after.and_then(|after| self.stretches.remove(&after)) {
            last = end.last;
        }
        let start = before.unwrap_or(Start {
            room,
            instance_id,
            first,
        });
        self.stretches.insert(start, End { last, backfill });
    }

    /// Takes the stretch after the one that was read last.
    fn take(&mut self, author: PeerId) -> Option<Stretch> {
        self.is_due = false;
        let after = self.read.take().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.stretches.range((after, Bound::Unbounded)).next();
        let next = next.or_else(|| self.stretches.first_key_value());
        let start = next.map(|(start, _)| start.clone())?;
        let End { last, backfill } = self.stretches.remove(&start)?;
        // Its rest begins later, and is read after the others.
        let passed = Start {
            first: u64::MAX,
            ..start.clone()
        };
        self.read = Some(passed);
        Some(Stretch {
            author,
            room: start.room,
            instance_id: start.instance_id,
            first: start.first,
            last,
            backfill,
        })
    }
}

#[cfg(test)]
mod tests;
