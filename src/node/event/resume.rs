//! A slow reader goes on from the log: one page of one stretch at a time.
//!
//! Entry types: [`Resume`], [`Past`]. The rule it keeps: each message of a stretch is given out once, in the order of the
//! numbers, or counted as missed when the log has it no more.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use libp2p::PeerId;

use super::backlog::Stretch;
use super::{Event, Message};

/// A log out of which messages are read again.
pub(crate) trait Past: Send + Sync {
    /// Reads the beginning of `stretch`; none when the log is closed.
    fn read(&self, stretch: &Stretch) -> BoxFuture<'static, Option<PastPage>>;
}

/// The beginning of a stretch.
pub(crate) struct PastPage {
    /// Its messages in the order of their numbers, batch by batch. There may be others of the same batches.
    pub(crate) batches: Box<dyn Iterator<Item = Vec<Message>> + Send>,
    /// The number of the last message that was looked for.
    pub(crate) read_to: u64,
}

/// What became of a turn.
pub(super) enum Turn {
    /// The next event.
    Event(Event),
    /// The stretch has been read, but for this.
    Read(Option<Stretch>),
    /// There is no log any more, and of the stretch this was not read.
    Closed(Stretch),
}

/// The reading of one stretch, as far as one page goes.
pub(super) enum Resume {
    /// The log is asked.
    Reading(Stretch, BoxFuture<'static, Option<PastPage>>),
    /// Its answer is given out.
    Giving(Giving),
}

/// A page that is given out.
pub(super) struct Giving {
    stretch: Stretch,
    page: PastPage,
    /// The number of the next message.
    next: u64,
    ready: VecDeque<Message>,
}

impl Resume {
    /// Begins to read `stretch` from `past`.
    pub(super) fn begin(past: &dyn Past, stretch: Stretch) -> Resume {
        let page = past.read(&stretch);
        Resume::Reading(stretch, page)
    }

    /// How many messages of the stretch have not been given out.
    pub(super) fn unread(&self) -> u64 {
        let (stretch, next) = match self {
            Resume::Reading(stretch, _) => (stretch, stretch.first),
            Resume::Giving(giving) => (&giving.stretch, giving.next),
        };
        (stretch.last + 1).saturating_sub(next)
    }

    /// The next of what is being read. After anything but an event it is over.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        loop {
            match self {
                Resume::Reading(stretch, page) => match ready!(page.as_mut().poll(cx)) {
                    None => return Poll::Ready(Turn::Closed(stretch.clone())),
                    Some(page) => *self = Resume::Giving(Giving::new(stretch.clone(), page)),
                },
                Resume::Giving(giving) => {
                    let turn = giving.next().map(Turn::Event);
                    return Poll::Ready(turn.unwrap_or_else(|| Turn::Read(giving.rest())));
                }
            }
        }
    }
}

impl Giving {
    fn new(stretch: Stretch, page: PastPage) -> Giving {
        Giving {
            next: stretch.first,
            stretch,
            page,
            ready: VecDeque::new(),
        }
    }

    /// The next message of the page, or how many are missing before it.
    fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() {
            let Some(batch) = self.page.batches.next() else {
                return self.missed_before(self.page.read_to.saturating_add(1));
            };
            let (next, read_to) = (self.next, self.page.read_to);
            let wanted = batch
                .into_iter()
                .filter(|message| (next..=read_to).contains(&message.seq));
            self.ready.extend(wanted);
        }
        let seq = self.ready.front()?.seq;
        if let Some(missed) = self.missed_before(seq) {
            return Some(missed);
        }
        let mut message = self.ready.pop_front()?;
        self.next = seq.saturating_add(1);
        message.backfill = self.stretch.backfill;
        Some(Event::Message(message))
    }

    fn missed_before(&mut self, seq: u64) -> Option<Event> {
        let author = self.stretch.author;
        let next = self.next;
        self.next = seq.max(next);
        (next < seq).then(|| missed(author, seq - next))
    }

    /// What of the stretch comes after the page.
    fn rest(&self) -> Option<Stretch> {
        (self.next <= self.stretch.last).then(|| Stretch {
            first: self.next,
            ..self.stretch.clone()
        })
    }
}

fn missed(author: PeerId, events: u64) -> Event {
    Event::Missed {
        author: Some(author),
        events,
    }
}
