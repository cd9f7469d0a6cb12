//! Reading of a slow reader's backlog from the log: one page of one stretch at a time.
//!
//! Entry types: [`Resume`], [`MessageLog`]. The rule it keeps: each message of a stretch is returned once, in the order of the
//! numbers, or counted as missed when it is no longer in the log.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use libp2p::PeerId;

use super::backlog::Stretch;
use super::{Event, Message};

/// A log from which messages are read again.
pub(crate) trait MessageLog: Send + Sync {
    /// Reads the first page of `stretch`. Returns none when the log is closed.
    fn read(&self, stretch: &Stretch) -> BoxFuture<'static, Option<LogPage>>;
}

/// The first page of a stretch.
pub(crate) struct LogPage {
    /// Its messages in the order of their numbers, batch by batch. Batches may contain messages outside the stretch.
    pub(crate) batches: Box<dyn Iterator<Item = Vec<Message>> + Send>,
    /// The number of the last message that the page covers.
    pub(crate) read_to: u64,
}

/// The result of a turn.
pub(super) enum Turn {
    /// The next event.
    Event(Event),
    /// The page has been read; this rest of the stretch follows.
    Read(Option<Stretch>),
    /// The log is closed, and this rest of the stretch was not read.
    Closed(Stretch),
}

/// The reading of one page of a stretch.
pub(super) enum Resume {
    /// The log is being read.
    Reading(Stretch, BoxFuture<'static, Option<LogPage>>),
    /// The page's messages are being returned.
    Giving(Giving),
}

/// A page and the position in it.
pub(super) struct Giving {
    stretch: Stretch,
    page: LogPage,
    /// The number of the next message.
    next: u64,
    ready: VecDeque<Message>,
}

impl Resume {
    /// Begins to read `stretch` from `log`.
    pub(super) fn begin(log: &dyn MessageLog, stretch: Stretch) -> Resume {
        let page = log.read(&stretch);
        Resume::Reading(stretch, page)
    }

    /// Returns the number of messages of the stretch that have not been returned.
    pub(super) fn unread(&self) -> u64 {
        let (stretch, next) = match self {
            Resume::Reading(stretch, _) => (stretch, stretch.first),
            Resume::Giving(giving) => (&giving.stretch, giving.next),
        };
        (stretch.last + 1).saturating_sub(next)
    }

    /// Polls for the next event. After any other result the reading has ended.
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
    fn new(stretch: Stretch, page: LogPage) -> Giving {
        Giving {
            next: stretch.first,
            stretch,
            page,
            ready: VecDeque::new(),
        }
    }

    /// Returns the next message of the page, or the number of messages missing before it.
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

    /// Returns the part of the stretch after the page.
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
