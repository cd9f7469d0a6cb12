//! The ingest task's access to the log: appends and reads in flight, and the events with which they end.
//!
//! Entry types: [`LogQueue`], [`StoreEvent`]. The rule it keeps: each append ends in one [`StoreEvent::Stored`], in the
//! order of the appends, and only batches that the signer or the verifier has made can be appended.

use std::sync::Arc;

use libp2p::PeerId;
use tokio::sync::mpsc;

use super::verify::Fetch;
use crate::gossip::VerifiedBatch;
use crate::model::{Found, Id, Item, Record, Seal, Verified};
use crate::store::{Appended, LogError, Writer};
use crate::sync::RequestId;

/// Maximum number of appends in flight; past it no more messages are taken from gossip.
const MAX_APPENDS: usize = 128;

/// A batch, and the neighbour that sent it.
#[derive(Clone, Debug)]
pub(crate) struct Brought {
    pub(crate) batch: VerifiedBatch,
    pub(crate) by: PeerId,
}

impl Seal for Brought {}

impl Verified for Brought {
    fn record(&self) -> Record {
        Record {
            brought_by: self.by.to_bytes().into(),
            ..self.batch.record()
        }
    }
}

/// Events from the log's threads.
pub(super) enum StoreEvent {
    /// An append has ended.
    Stored {
        batches: Vec<VerifiedBatch>,
        appended: Appended,
        origin: Origin,
    },
    /// A room was read: its low watermark, its items, and the number of items removed to make room.
    Loaded(String, Result<Loaded, LogError>),
    /// The batches of a neighbour's request were read.
    Found(PeerId, RequestId, Result<Found, LogError>),
}

/// A room's low watermark in Unix milliseconds, its items, and the number of items removed to make room.
pub(super) type Loaded = (u64, Vec<Item>, u64);

/// The way by which batches arrived.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    Gossip,
    /// Fetched from a neighbour.
    Fetched {
        ticket: u64,
        /// How many envelopes did not verify.
        forged: u64,
        /// The neighbour, when it had just announced the batch.
        announced_by: Option<PeerId>,
    },
}

impl Origin {
    /// Returns whether the batches are new in the mesh, and no backfill.
    pub(super) fn is_live(self) -> bool {
        match self {
            Origin::Gossip => true,
            Origin::Fetched { announced_by, .. } => announced_by.is_some(),
        }
    }

    /// Returns the neighbour that announced the batches before they were fetched from it.
    pub(super) fn announced_by(self) -> Option<PeerId> {
        match self {
            Origin::Gossip => None,
            Origin::Fetched { announced_by, .. } => announced_by,
        }
    }
}

/// Appends to and reads from the log, without waiting for the results.
pub(super) struct LogQueue {
    writer: Arc<Writer>,
    events: mpsc::UnboundedSender<StoreEvent>,
    /// Number of appends before their [`StoreEvent::Stored`] is handled.
    appends: usize,
}

impl LogQueue {
    /// Returns a queue that reports to `events`.
    pub(super) fn new(writer: Arc<Writer>, events: mpsc::UnboundedSender<StoreEvent>) -> LogQueue {
        LogQueue {
            writer,
            events,
            appends: 0,
        }
    }

    /// Returns whether more batches of gossip may be appended.
    pub(super) fn has_room(&self) -> bool {
        self.appends < MAX_APPENDS
    }

    /// Returns whether no append is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.appends == 0
    }

    /// Must be called for each [`StoreEvent::Stored`].
    pub(super) fn on_appended(&mut self) {
        self.appends -= 1;
    }

    /// Queues batches of gossip for the log. Waits only for a place in the log's queue.
    pub(super) async fn append(&mut self, batches: Vec<Brought>) {
        if batches.is_empty() {
            return;
        }
        self.appends += 1;
        let returned = batches
            .iter()
            .map(|brought| brought.batch.clone())
            .collect();
        let events = self.events.clone();
        let on_stored = move |appended| {
            let _ = events.send(StoreEvent::Stored {
                batches: returned,
                appended,
                origin: Origin::Gossip,
            });
        };
        self.writer.append_in_turn(&batches, on_stored).await;
    }

    /// Verifies and appends fetched envelopes in the background: live messages do not wait for them.
    pub(super) fn verify_and_append(&mut self, fetch: Fetch) {
        self.appends += 1;
        let (writer, events) = (self.writer.clone(), self.events.clone());
        let (peer_id, ticket) = (fetch.peer_id, fetch.ticket);
        let announced_by = fetch.announced.map(|_| peer_id);
        let verifying = tokio::task::spawn_blocking(move || fetch.verify());
        tokio::spawn(async move {
            let (batches, forged) = verifying.await.unwrap_or_default();
            let brought = |batch: &VerifiedBatch| Brought {
                batch: batch.clone(),
                by: peer_id,
            };
            let brought: Vec<Brought> = batches.iter().map(brought).collect();
            let on_stored = move |appended| {
                let _ = events.send(StoreEvent::Stored {
                    batches,
                    appended,
                    origin: Origin::Fetched {
                        ticket,
                        forged,
                        announced_by,
                    },
                });
            };
            match brought.is_empty() {
                true => on_stored(Ok(Vec::new())),
                false => writer.append_in_turn(&brought, on_stored).await,
            }
        });
    }

    /// Reads at most `most` items of a room, the newest.
    pub(super) fn load(&self, room: String, most: usize) {
        let events = self.events.clone();
        self.writer.read(move |reader| {
            let loaded = reader
                .items(&room, most)
                .and_then(|(low_watermark_ms, items)| {
                    Ok((low_watermark_ms, items, reader.removed_in(&room)?))
                });
            let _ = events.send(StoreEvent::Loaded(room, loaded));
        });
    }

    /// Reads batches of a room for a neighbour's request, at most `most` bytes.
    pub(super) fn find(
        &self,
        peer_id: PeerId,
        request: RequestId,
        room: String,
        ids: Vec<Id>,
        most: usize,
    ) {
        let events = self.events.clone();
        self.writer.read(move |reader| {
            let found = reader.fetch(&room, &ids, most);
            let _ = events.send(StoreEvent::Found(peer_id, request, found));
        });
    }

    /// Has the log apply its retention policy.
    pub(super) fn prune(&self) {
        self.writer.prune();
    }

    #[cfg(test)]
    pub(super) fn writer(&self) -> &Arc<Writer> {
        &self.writer
    }
}
