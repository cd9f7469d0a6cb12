//! What was said before: the log read back as the application saw it.
//!
//! Entry types: [`HistoryQuery`], [`History`]. The rule it keeps: it is read page by page, so that
//! its reader bounds the memory, and nothing is locked meanwhile.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::future::BoxFuture;
use libp2p::PeerId;

use super::event::Message;
use super::keeper::{Store, messages};
use crate::gossip::{self, RoomName};
use crate::history::{Cursor, LogError, Page, Query};

/// What of the log is asked for. The default asks for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Of this room only, in the order of sending; of all rooms, in the order of arrival.
    pub room: Option<RoomName>,
    /// By this author only.
    pub author: Option<PeerId>,
    /// Sent at this Unix time in milliseconds or later.
    pub since_ms: Option<u64>,
    /// The last so many events only.
    pub last: Option<usize>,
}

impl HistoryQuery {
    /// The same question to the log.
    pub(crate) fn to_log(&self) -> Query {
        Query {
            room: self.room.as_ref().map(|room| room.as_str().to_owned()),
            // The PeerId of an Ed25519 key is an identity multihash: two bytes, then the key.
            author: self
                .author
                .map(|author| author.to_bytes().get(2..).unwrap_or_default().to_vec()),
            since_ms: self.since_ms,
            last: self.last,
            conflicts: false,
        }
    }
}

/// The events of the log, oldest first: a [`Stream`].
pub struct History {
    store: Store,
    query: HistoryQuery,
    /// The page that is being read, or the place where the next one begins.
    next: Next,
    ready: VecDeque<Message>,
    /// Events to pass over: a batch may hold more than were asked for.
    surplus: Option<usize>,
}

enum Next {
    At(Cursor),
    Reading(BoxFuture<'static, Result<Page, LogError>>),
    End,
}

impl History {
    pub(crate) fn new(store: Store, query: HistoryQuery) -> History {
        History {
            store,
            query,
            next: Next::At(Cursor::Start),
            ready: VecDeque::new(),
            surplus: None,
        }
    }

    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Message, LogError>> {
        futures::StreamExt::next(self).await
    }

    fn read(&self, cursor: Cursor) -> BoxFuture<'static, Result<Page, LogError>> {
        let (store, query) = (self.store.clone(), self.query.to_log());
        Box::pin(async move {
            let log = store.get().ok_or(LogError::Closed)?;
            log.ask(move |reader| reader.page(&query, cursor)).await
        })
    }

    fn take(&mut self, page: Page) {
        for stored in page.batches {
            self.ready
                .extend(messages_of(&stored.record.room, stored.record.bytes));
        }
        self.next = match page.next {
            Some(cursor) => Next::At(cursor),
            None => Next::End,
        };
        // The last batches hold at least as many events as were asked for: the first ones are too
        // many. Whole pages but the last are wholly among the last events only if one page holds
        // them all, so the surplus is known at the end.
        if let (Next::End, Some(last)) = (&self.next, self.query.last) {
            self.surplus = Some(self.ready.len().saturating_sub(last));
        }
    }
}

/// The events of a stored envelope. What was stored was verified; it is verified again, for a file
/// may have been changed.
pub(crate) fn messages_of(room: &str, bytes: bytes::Bytes) -> Vec<Message> {
    let opened = room
        .parse::<RoomName>()
        .map_err(|error| error.to_string())
        .and_then(|room| gossip::open(bytes, &room, u64::MAX / 2).map_err(|e| e.to_string()));
    match opened {
        Ok(batch) => messages(&batch, true).collect(),
        Err(error) => {
            tracing::warn!(room, error, "the log holds a batch that does not verify");
            Vec::new()
        }
    }
}

impl Stream for History {
    type Item = Result<Message, LogError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let collecting = self.query.last.is_some() && self.surplus.is_none();
            if let Some(surplus) = self.surplus.take_if(|n| *n > 0) {
                self.ready.drain(..surplus);
                self.surplus = Some(0);
            }
            if !collecting && let Some(message) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(message)));
            }
            match std::mem::replace(&mut self.next, Next::End) {
                Next::End => return Poll::Ready(None),
                Next::At(cursor) => self.next = Next::Reading(self.read(cursor)),
                Next::Reading(mut page) => match page.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.next = Next::Reading(page);
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Ok(page)) => self.take(page),
                },
            }
        }
    }
}
