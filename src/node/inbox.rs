//! The queue of gossiped messages between the loop and the ingest task, where they are verified off the loop.
//!
//! Entry type: [`Inbox`], the ingest task's end. The rule it keeps: no message is stored, delivered or forwarded before its
//! signature is verified; the loop gets one [`Verdict`] for each.

use bytes::Bytes;
use libp2p::PeerId;
use libp2p::gossipsub::MessageId;
use tokio::sync::mpsc;

use super::ingest::Brought;
use crate::clock::UnixClock;
use crate::gossip::{self, BatchError};
use crate::identity::NetworkId;
use crate::model::RoomName;
use crate::wire::envelope;

/// Maximum number of messages in the queue. Past it the loop stops reading from the network, which is the backpressure on
/// neighbours.
pub(crate) const MAX_QUEUED_MESSAGES: usize = 256;
/// Maximum number of messages that are verified before the first of them is stored.
const MAX_CHECK_GROUP: usize = 16;

/// A message as gossipsub received it.
pub(crate) struct Incoming {
    pub(crate) from: PeerId,
    pub(crate) message_id: MessageId,
    /// The id with the hash of the body, if it is still known.
    pub(crate) hashed: Option<envelope::MessageId>,
    pub(crate) room: RoomName,
    pub(crate) data: Bytes,
}

/// The result of verifying a message.
pub(crate) struct Verdict {
    pub(crate) from: PeerId,
    pub(crate) message_id: MessageId,
    /// The message's length.
    pub(crate) bytes: usize,
    pub(crate) result: Result<(), BatchError>,
}

/// Receives messages, verifies them and sends verdicts.
pub(crate) struct Inbox {
    clock: UnixClock,
    network: NetworkId,
    incoming: mpsc::Receiver<Incoming>,
    verdicts: mpsc::Sender<Verdict>,
    /// Messages out of the queue that are not verified yet.
    taken: Vec<Incoming>,
}

impl Inbox {
    /// Returns an inbox that verifies by `network` and `clock`.
    pub(crate) fn new(
        clock: UnixClock,
        network: NetworkId,
        incoming: mpsc::Receiver<Incoming>,
        verdicts: mpsc::Sender<Verdict>,
    ) -> Inbox {
        Inbox {
            clock,
            network,
            incoming,
            verdicts,
            taken: Vec::new(),
        }
    }

    /// Waits for messages and takes them. Returns false when the loop has ended. Cancel-safe.
    pub(super) async fn wait(&mut self) -> bool {
        self.incoming
            .recv_many(&mut self.taken, MAX_CHECK_GROUP)
            .await
            > 0
    }

    /// Takes queued messages without waiting. Returns false when there are none.
    pub(super) fn take(&mut self) -> bool {
        let room = MAX_CHECK_GROUP.saturating_sub(self.taken.len());
        let more = std::iter::from_fn(|| self.incoming.try_recv().ok());
        self.taken.extend(more.take(room));
        !self.taken.is_empty()
    }

    /// Verifies the taken messages. Sends the verdict of each at once, so that the neighbours of a busy node do not wait for
    /// the whole group. The verdict of a single message is returned instead, for the caller to send later: forwarding keeps
    /// the machine busy, and at a low rate the application should get the message first.
    pub(super) async fn check(&mut self) -> (Vec<Brought>, Option<Verdict>) {
        let is_alone = self.taken.len() == 1;
        let mut last = None;
        let mut batches = Vec::with_capacity(self.taken.len());
        for message in std::mem::take(&mut self.taken) {
            let Incoming {
                from,
                message_id,
                hashed,
                room,
                data,
            } = message;
            let bytes = data.len();
            let now_ms = self.clock.now_ms();
            let opened = gossip::open_as(hashed, data, self.network, &room, now_ms);
            let result = opened.map(|batch| batches.push(Brought { batch, by: from }));
            let verdict = Verdict {
                from,
                message_id,
                bytes,
                result,
            };
            match is_alone {
                true => last = Some(verdict),
                false => self.send_verdict(verdict).await,
            }
        }
        (batches, last)
    }

    /// Sends a verdict to the loop.
    pub(super) async fn send_verdict(&self, verdict: Verdict) {
        // A loop that has ended forwards nothing.
        let _ = self.verdicts.send(verdict).await;
    }
}
