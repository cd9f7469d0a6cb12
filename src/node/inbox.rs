//! From the mesh to the keeper: bytes are checked away from the loop, and the loop told the verdict.
//!
//! Entry type: [`run`], one task. The rule it keeps: nothing is stored, delivered or forwarded before
//! its signature was verified.

use bytes::Bytes;
use libp2p::PeerId;
use libp2p::gossipsub::MessageId;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::gossip::{self, BatchError, BatchId, RoomName, VerifiedBatch};

/// Messages that may wait to be checked; past that the loop stops reading from the network.
pub(crate) const MAX_WAITING: usize = 256;
/// Messages that are checked before the first of them is handed on.
const MAX_TOGETHER: usize = 16;

/// A message as gossipsub handed it over.
pub(crate) struct Incoming {
    pub(crate) from: PeerId,
    pub(crate) message_id: MessageId,
    pub(crate) room: RoomName,
    pub(crate) data: Bytes,
}

/// What became of a message.
pub(crate) struct Verdict {
    pub(crate) from: PeerId,
    pub(crate) message_id: MessageId,
    /// The message's length.
    pub(crate) bytes: usize,
    pub(crate) result: Result<(), BatchError>,
}

/// Checks until the node is gone.
pub(crate) async fn run(
    clock: Clock,
    mut incoming: mpsc::Receiver<Incoming>,
    verdicts: mpsc::Sender<Verdict>,
    verified: mpsc::Sender<Vec<VerifiedBatch>>,
) {
    let mut taken = Vec::new();
    while incoming.recv_many(&mut taken, MAX_TOGETHER).await > 0 {
        let mut batches = Vec::with_capacity(taken.len());
        for message in taken.drain(..) {
            let Incoming {
                from,
                message_id,
                room,
                data,
            } = message;
            let bytes = data.len();
            // gossipsub has hashed the message already.
            let id = message_id.0[..].try_into().ok().map(BatchId);
            let opened = gossip::open_as(id, data, &room, clock.unix_millis());
            let result = opened.map(|batch| batches.push(batch));
            let verdict = Verdict {
                from,
                message_id,
                bytes,
                result,
            };
            if verdicts.send(verdict).await.is_err() {
                return;
            }
        }
        if !batches.is_empty() && verified.send(batches).await.is_err() {
            return;
        }
    }
}
