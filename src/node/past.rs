//! What was said before: the log read back as the application saw it.
//!
//! Entry types: [`HistoryQuery`], [`History`]. The rule it keeps: it is read page by page, so that
//! its reader bounds the memory, and nothing is locked meanwhile.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use libp2p::PeerId;

use super::event::Message;
use super::keeper::messages;
use super::store::Store;
use crate::gossip::{self, BatchError, RoomName, VerifiedBatch};
use crate::history::{Archive, Cursor, LogError, Page, Query, Refused};
use crate::identity::NetworkId;

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

/// A log without its node: pages of events, oldest first.
pub(crate) fn pages(
    archive: Archive,
    query: &HistoryQuery,
) -> Result<impl Iterator<Item = Result<Vec<Message>, LogError>>, LogError> {
    let query = query.to_log();
    let network = archive.network()?;
    let mut cursor = Some(Cursor::Start);
    Ok(std::iter::from_fn(move || {
        let page = archive.reader().page(&query, cursor.take()?);
        Some(page.map(|page| {
            cursor = page.next.clone();
            messages_of_page(network, page)
        }))
    }))
}

/// Checks an envelope that was kept outside a log of this network, as if it had just come.
pub(crate) fn reopen(
    bytes: &[u8],
    network: NetworkId,
    now_ms: u64,
) -> Result<VerifiedBatch, Refused> {
    let bytes = Bytes::copy_from_slice(bytes);
    let no_batch = || Refused::NoBatch("it is no batch of a room".to_owned());
    let room = gossip::room_of(&bytes).ok_or_else(no_batch)?;
    gossip::open(bytes, network, &room, now_ms).map_err(|error| match error {
        BatchError::Signature => Refused::OtherNetwork,
        error => Refused::NoBatch(error.to_string()),
    })
}

fn messages_of_page(network: NetworkId, page: Page) -> Vec<Message> {
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
