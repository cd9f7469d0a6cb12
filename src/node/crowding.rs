//! Sources that exceed their share of the log: reported to the application, and remembered for queries.
//!
//! Entry types: [`Crowding`], [`Crowders`]. The rule it keeps: a report names the source, its bytes and share, and the
//! number of messages removed for it; the memory is bounded.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::identity::PublicKey;

use crate::clock::{Clock, Time};
use crate::store;

/// Maximum number of remembered sources; the one seen longest ago is forgotten first.
const MAX_CROWDERS: usize = 16;

/// Time for which a source is remembered after the last removal of its batches.
const MEMORY_DURATION: Duration = Duration::from_secs(600);

/// An author or neighbour exceeds its share of a full log: its own oldest messages are removed, not those of others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Crowding {
    /// The author of the messages removed last.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialize::text")
    )]
    pub author: PeerId,
    /// The neighbour that first delivered most of the author's messages; none when this node published them, or it is
    /// not known.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialize::optional_text")
    )]
    pub link: Option<PeerId>,
    /// Whether the neighbour exceeds its share, by delivering messages of many new authors.
    pub is_by_link: bool,
    /// Bytes in the log of the author, or of all new authors that the neighbour delivered.
    pub bytes: u64,
    /// Bytes that the source may occupy while others occupy less.
    pub share: u64,
    /// Number of its batches that were removed lately.
    pub batches: u64,
}

impl Crowding {
    /// Converts the log's report; none when it has no valid keys.
    fn of(crowding: &store::Crowding) -> Option<Crowding> {
        let author = PublicKey::try_decode_protobuf(&crowding.author).ok()?;
        let link = crowding.link.as_ref();
        Some(Crowding {
            author: author.to_peer_id(),
            link: link.and_then(|peer| PeerId::from_bytes(peer).ok()),
            is_by_link: crowding.is_by_link,
            bytes: crowding.bytes,
            share: crowding.share,
            batches: crowding.batches,
        })
    }

    /// Returns the source that exceeds its share: the link or the author.
    pub fn who(&self) -> PeerId {
        match self.link {
            Some(link) if self.is_by_link => link,
            _ => self.author,
        }
    }
}

/// The sources that exceeded their share lately.
#[derive(Clone, Debug)]
pub(crate) struct Crowders {
    clock: Clock,
    all: Arc<Mutex<Vec<(Time, Crowding)>>>,
}

impl Crowders {
    pub(crate) fn new(clock: Clock) -> Crowders {
        Crowders {
            clock,
            all: Arc::default(),
        }
    }

    /// Records a report of the log. Returns the event for the application.
    pub(crate) fn record(&self, crowding: &store::Crowding) -> Option<Crowding> {
        self.record_at(self.clock.now(), crowding)
    }

    /// Returns the remembered sources, the latest first.
    pub(crate) fn recent(&self) -> Vec<Crowding> {
        self.recent_at(self.clock.now())
    }

    fn record_at(&self, now: Time, crowding: &store::Crowding) -> Option<Crowding> {
        let mut crowding = Crowding::of(crowding)?;
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(at, _)| now.since(*at) < MEMORY_DURATION);
        let who = (crowding.who(), crowding.is_by_link);
        if let Some(at) = all
            .iter()
            .position(|(_, other)| (other.who(), other.is_by_link) == who)
        {
            crowding.batches += all.remove(at).1.batches;
        }
        if all.len() >= MAX_CROWDERS {
            all.remove(0);
        }
        all.push((now, crowding.clone()));
        Some(crowding)
    }

    fn recent_at(&self, now: Time) -> Vec<Crowding> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = all
            .iter()
            .filter(|(at, _)| now.since(*at) < MEMORY_DURATION);
        lately.rev().map(|(_, crowding)| crowding.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
