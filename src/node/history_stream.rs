//! The history stream: the log read back as the application saw it.
//!
//! Entry types: [`HistoryQuery`], [`History`], [`LogReplay`]. The rule it keeps: the log is read page by page, so that
//! its reader bounds the memory, and without a lock between pages.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use libp2p::PeerId;
use tokio::runtime::Handle;

use super::event::{LogPage, Message, MessageLog, Stretch};
use super::ingest::messages;
use super::store::Store;
use crate::gossip;
use crate::identity::NetworkId;
use crate::model::{RoomName, Stored};
use crate::store::{Cursor, LogError, Page, Query, SeqPage, SeqRange};

/// Pause before another attempt when the log could not be read for a slow reader of the events.
const READ_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of failed reads in a row for a slow reader, which then skips a range of events instead of waiting for
/// ever: half a minute, in which a slow or busy disk recovers.
const MAX_READ_FAILURES: usize = 30;

/// A query for events of the log. The default matches every event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Limits the query to this room, in the order of sending; without a room, events are in the order of arrival.
    pub room: Option<RoomName>,
    /// Limits the query to this author.
    pub author: Option<PeerId>,
    /// Limits the query to events sent at this Unix time in milliseconds or later.
    pub since_ms: Option<u64>,
    /// Limits the query to the last events, at most this many.
    pub last: Option<usize>,
}

impl HistoryQuery {
    /// Converts the query to one of the log.
    pub(crate) fn to_log(&self) -> Query {
        Query {
            room: self.room.clone(),
            author: self.author.as_ref().map(key_of),
            since_ms: self.since_ms,
            last: self.last,
            conflicts: false,
        }
    }
}

/// The events of the log, oldest first: a [`Stream`].
pub struct History {
    store: Store,
    network: NetworkId,
    query: HistoryQuery,
    /// The page in progress, or the cursor of the next page.
    next: Next,
    ready: VecDeque<Message>,
}

enum Next {
    At(Cursor),
    Reading(BoxFuture<'static, Result<Page, LogError>>),
    End,
}

impl History {
    pub(crate) fn new(store: Store, network: NetworkId, query: HistoryQuery) -> History {
        History {
            store,
            network,
            query,
            next: Next::At(Cursor::Start),
            ready: VecDeque::new(),
        }
    }

    /// Returns the next event; `None` after the last.
    ///
    /// # Errors
    ///
    /// The log cannot be read; the stream ends then.
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
        self.next = page.next.clone().map_or(Next::End, Next::At);
        self.ready.extend(messages_of_page(self.network, page));
    }
}

/// Returns the libp2p `PublicKey` of an author. The PeerId of an Ed25519 key is an identity multihash: two bytes, then
/// the key.
fn key_of(author: &PeerId) -> Vec<u8> {
    author.to_bytes().get(2..).unwrap_or_default().to_vec()
}

/// Reads a node's log again for slow readers of its events.
pub(crate) struct LogReplay {
    store: Store,
    network: NetworkId,
    /// The node's runtime: readers may run on another.
    runtime: Handle,
}

impl LogReplay {
    /// Creates a reader of `store`. Must be called inside a Tokio runtime.
    pub(crate) fn new(store: Store, network: NetworkId) -> LogReplay {
        LogReplay {
            store,
            network,
            runtime: Handle::current(),
        }
    }
}

impl MessageLog for LogReplay {
    fn read(&self, stretch: &Stretch) -> BoxFuture<'static, Option<LogPage>> {
        let numbers = SeqRange {
            room: stretch.room.clone(),
            author: key_of(&stretch.author),
            instance: stretch.instance_id,
            first: stretch.first,
            last: stretch.last,
        };
        let (network, room, last) = (self.network, numbers.room.clone(), stretch.last);
        let reading = self.runtime.spawn(read_again(self.store.clone(), numbers));
        Box::pin(async move {
            // An ended runtime has closed the log.
            let page = reading.await.ok()??;
            let read_to = match page.batches.last() {
                Some(stored) if page.has_more => stored.record.end_seq().saturating_sub(1),
                _ => last,
            };
            let batches = page.batches.into_iter();
            let messages = move |stored: Stored| messages_of(network, &room, stored.record.bytes);
            Some(LogPage {
                batches: Box::new(batches.map(messages)),
                read_to: read_to.min(last),
            })
        })
    }
}

/// Reads until it succeeds; returns none when the log is closed.
async fn read_again(store: Store, numbers: SeqRange) -> Option<SeqPage> {
    let mut failures = 0;
    loop {
        let asked = numbers.clone();
        let log = store.get()?;
        let answer = log
            .ask_whole(move |reader| reader.by_sequence(&asked))
            .await;
        drop(log);
        match answer {
            Ok(Some(page)) => return Some(page),
            // Delivered events are stored, and can be read once the log commits.
            Ok(None) => {}
            Err(LogError::Closed) => return None,
            Err(error) if failures == MAX_READ_FAILURES => {
                tracing::warn!(%error, "what a slow reader of the events has not read cannot be read from the log: it misses it");
                return Some(SeqPage::default());
            }
            Err(error) => {
                failures += 1;
                tracing::debug!(%error, "the log cannot be read for a slow reader of the events: it is tried again");
            }
        }
        tokio::time::sleep(READ_RETRY_INTERVAL).await;
    }
}

/// Returns the events of a page, without those that precede the first one asked for.
pub(super) fn messages_of_page(network: NetworkId, page: Page) -> Vec<Message> {
    let mut surplus = usize::try_from(page.surplus).unwrap_or(usize::MAX);
    let mut all = Vec::new();
    for stored in page.batches {
        let messages = messages_of(network, &stored.record.room, stored.record.bytes);
        all.extend(messages.into_iter().skip(std::mem::take(&mut surplus)));
    }
    all
}

/// Returns the events of a stored envelope. It was verified before it was stored, and is verified again, because a file
/// may have been changed.
fn messages_of(network: NetworkId, room: &RoomName, bytes: Bytes) -> Vec<Message> {
    match gossip::open(bytes, network, room, u64::MAX / 2) {
        Ok(batch) => messages(&batch, true).collect(),
        Err(error) => {
            let error = error.to_string();
            tracing::warn!(
                room = room.as_str(),
                error,
                "the log holds a batch that does not verify"
            );
            Vec::new()
        }
    }
}

impl Stream for History {
    type Item = Result<Message, LogError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
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
