//! The ids of gossipsub's messages.
//!
//! Entry type: [`MessageIds`]. The rule it keeps: a body is hashed once for its id and its signature, and not at all
//! when the batch is one's own; an id that is handed on was made here, from the data that it is of.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libp2p::gossipsub;

use crate::model::{BatchId, RoomName};
use crate::wire::envelope::{MessageId, bad_id};

/// Ids that are remembered until their messages are opened: as many as one RPC may have messages. An id that is
/// forgotten is made again.
const MAX_REMEMBERED: usize = 512;

/// Makes ids, and counts them: one for every copy of a message that comes over a link, and for each one that is
/// published here.
#[derive(Debug, Default)]
pub struct MessageIds {
    made: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// The ids of envelopes that came, the newest last.
    came: VecDeque<MessageId>,
    /// The batch that is being published.
    published: Option<BatchId>,
}

impl MessageIds {
    /// The id of the message with this topic and data.
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
        if recent.came.len() == MAX_REMEMBERED {
            recent.came.pop_front();
        }
        recent.came.push_back(id);
        gossipsub::MessageId::new(id.as_bytes())
    }

    /// The id `id` together with the hash of the body that it was made from, if it is remembered. It is forgotten.
    pub(crate) fn take(&self, id: &gossipsub::MessageId) -> Option<MessageId> {
        let mut recent = self.recent();
        let at = recent
            .came
            .iter()
            .rposition(|came| came.as_bytes()[..] == id.0[..])?;
        recent.came.remove(at)
    }

    /// Runs `publish`, which publishes the batch `id` in its room and does nothing else with gossipsub.
    pub(crate) fn publishing<T>(&self, id: BatchId, publish: impl FnOnce() -> T) -> T {
        self.recent().published = Some(id);
        let published = publish();
        self.recent().published = None;
        published
    }

    /// Counts one more copy, that came by another way than gossip.
    pub(crate) fn count(&self) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    /// How many copies there were.
    pub fn copies(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
