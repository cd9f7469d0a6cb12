//! Message ids of gossipsub, by which it drops duplicates (dedup).
//!
//! Entry type: [`MessageIds`]. The rule it keeps: a body is hashed once for both its id and its signature, and never for a
//! batch of this node; every id is computed here from the message's own data.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libp2p::gossipsub;

use crate::model::{BatchId, RoomName};
use crate::wire::envelope::{MessageId, bad_id};

/// Maximum number of ids that are cached until their messages are verified: as many as one RPC may have messages. A dropped
/// id is computed again.
const MAX_REMEMBERED: usize = 512;

/// Computes message ids, and counts them: one for every copy that arrives over a link, and for each published message.
#[derive(Debug, Default)]
pub struct MessageIds {
    made: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// Ids of envelopes that arrived, the newest last.
    arrived: VecDeque<MessageId>,
    /// Id of the batch that is being published.
    published: Option<BatchId>,
}

impl MessageIds {
    /// Returns the id of the message with this topic and data, and counts it.
    pub(super) fn make(&self, topic: &str, data: &[u8]) -> gossipsub::MessageId {
        self.count();
        let mut recent = self.recent();
        if let Some(id) = recent.published {
            return gossipsub::MessageId::new(&id.0);
        }
        let room = RoomName::from_topic(topic);
        let Some(id) = room.and_then(|room| MessageId::of(room.as_str(), data)) else {
            return gossipsub::MessageId::new(&bad_id(topic, data));
        };
        if recent.arrived.len() == MAX_REMEMBERED {
            recent.arrived.pop_front();
        }
        recent.arrived.push_back(id);
        gossipsub::MessageId::new(id.as_bytes())
    }

    /// Removes `id` from the cache, and returns it with the hash of its body; none if it is not cached.
    pub(crate) fn take(&self, id: &gossipsub::MessageId) -> Option<MessageId> {
        let mut recent = self.recent();
        let at = recent
            .arrived
            .iter()
            .rposition(|arrived| arrived.as_bytes()[..] == id.0[..])?;
        recent.arrived.remove(at)
    }

    /// Runs `publish`, which must publish the batch `id` in its room and do nothing else with gossipsub. The batch is not
    /// hashed again.
    pub(crate) fn publishing<T>(&self, id: BatchId, publish: impl FnOnce() -> T) -> T {
        self.recent().published = Some(id);
        let published = publish();
        self.recent().published = None;
        published
    }

    /// Counts a copy that arrived by another way than gossip.
    pub(crate) fn count(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of copies so far.
    pub fn copies(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
