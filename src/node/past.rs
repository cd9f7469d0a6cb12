//! What was said before: the log read back as the application saw it.
//!
//! Entry types: [`HistoryQuery`], [`History`], [`Again`]. The rule it keeps: it is read page by page, so that
//! its reader bounds the memory, and nothing is locked meanwhile.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use libp2p::PeerId;
use tokio::runtime::Handle;

use super::event::{Message, Past, PastPage, Stretch};
use super::ingest::messages;
use super::store::Store;
use crate::gossip;
use crate::identity::NetworkId;
use crate::model::{RoomName, Stored};
use crate::store::{Cursor, LogError, NumberedPage, Numbers, Page, Query};

/// How soon the log is read again for a slow reader of the events when it could not be read.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often in a row the log may fail to be read for a slow reader, who then misses a stretch rather than wait for ever:
/// half a minute, in which a disk that is only slow or busy comes back.
const MAX_FAILURES: usize = 30;

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
    /// The page that is being read, or the place where the next one begins.
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
        self.next = page.next.clone().map_or(Next::End, Next::At);
        self.ready.extend(messages_of_page(self.network, page));
    }
}

/// The libp2p `PublicKey` of an author. The PeerId of an Ed25519 key is an identity multihash: two bytes, then the key.
fn key_of(author: &PeerId) -> Vec<u8> {
    author.to_bytes().get(2..).unwrap_or_default().to_vec()
}

/// A node's log, as slow readers of its events read it again.
pub(crate) struct Again {
    store: Store,
    network: NetworkId,
    /// Readers need not be on it.
    runtime: Handle,
}

impl Again {
    /// Must be called inside a Tokio runtime.
    pub(crate) fn new(store: Store, network: NetworkId) -> Again {
        Again {
            store,
            network,
            runtime: Handle::current(),
        }
    }
}

impl Past for Again {
    fn read(&self, stretch: &Stretch) -> BoxFuture<'static, Option<PastPage>> {
        let numbers = Numbers {
            room: stretch.room.as_str().to_owned(),
            author: key_of(&stretch.author),
            instance: stretch.instance_id,
            first: stretch.first,
            last: stretch.last,
        };
        let (network, room, last) = (self.network, numbers.room.clone(), stretch.last);
        let reading = self.runtime.spawn(read_again(self.store.clone(), numbers));
        Box::pin(async move {
            // A runtime that ends has closed the log.
            let page = reading.await.ok()??;
            let read_to = match page.batches.last() {
                Some(stored) if page.has_more => stored.record.end_seq().saturating_sub(1),
                _ => last,
            };
            let batches = page.batches.into_iter();
            let messages = move |stored: Stored| messages_of(network, &room, stored.record.bytes);
            Some(PastPage {
                batches: Box::new(batches.map(messages)),
                read_to: read_to.min(last),
            })
        })
    }
}

/// Reads until it succeeds; none when the log is closed.
async fn read_again(store: Store, numbers: Numbers) -> Option<NumberedPage> {
    let mut failures = 0;
    loop {
        let asked = numbers.clone();
        let log = store.get()?;
        let answer = log.ask_whole(move |reader| reader.numbered(&asked)).await;
        drop(log);
        match answer {
            Ok(Some(page)) => return Some(page),
            // What was told is safe, and is there when it can be committed.
            Ok(None) => {}
            Err(LogError::Closed) => return None,
            Err(error) if failures == MAX_FAILURES => {
                tracing::warn!(%error, "what a slow reader of the events has not read cannot be read from the log: it misses it");
                return Some(NumberedPage::default());
            }
            Err(error) => {
                failures += 1;
                tracing::debug!(%error, "the log cannot be read for a slow reader of the events: it is tried again");
            }
        }
        tokio::time::sleep(READ_AGAIN_AFTER).await;
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

/// The events of a stored envelope. What was stored was verified; it is verified again, for a file
/// may have been changed.
fn messages_of(network: NetworkId, room: &str, bytes: Bytes) -> Vec<Message> {
    let opened = room
        .parse::<RoomName>()
        .map_err(|error| error.to_string())
        .and_then(|room| {
            gossip::open(bytes, network, &room, u64::MAX / 2).map_err(|e| e.to_string())
        });
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
