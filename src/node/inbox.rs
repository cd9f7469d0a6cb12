//! From the mesh to the keeper: bytes are checked away from the loop, and the loop told the verdict.
//!
//! Entry type: [`Inbox`], the keeper's end. The rule it keeps: nothing is stored, delivered or forwarded
//! before its signature was verified.

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

/// Messages that may wait to be checked; past that the loop stops reading from the network.
pub(crate) const MAX_WAITING: usize = 256;
/// Messages that are checked before the first of them is handed on.
const MAX_TOGETHER: usize = 16;

/// A message as gossipsub handed it over.
pub(crate) struct Incoming {
    pub(crate) from: PeerId,
    pub(crate) message_id: MessageId,
    /// The same with the hash of the body, if it is known still.
    pub(crate) hashed: Option<envelope::MessageId>,
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

/// Where messages come in, and verdicts go out.
pub(crate) struct Inbox {
    clock: UnixClock,
    network: NetworkId,
    incoming: mpsc::Receiver<Incoming>,
    verdicts: mpsc::Sender<Verdict>,
    /// What was taken and is not checked.
    taken: Vec<Incoming>,
}

impl Inbox {
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

    /// Waits for messages and takes them; false when there will be none any more. Nothing is lost when the
    /// waiting is broken off.
    pub(super) async fn wait(&mut self) -> bool {
        self.incoming.recv_many(&mut self.taken, MAX_TOGETHER).await > 0
    }

    /// Takes messages that are there; false when there are none.
    pub(super) fn take(&mut self) -> bool {
        let room = MAX_TOGETHER.saturating_sub(self.taken.len());
        let more = std::iter::from_fn(|| self.incoming.try_recv().ok());
        self.taken.extend(more.take(room));
        !self.taken.is_empty()
    }

    /// Checks what was taken. With nothing else to do the application comes before the neighbours: what a node
    /// passes on keeps all others busy, and at a low rate it is this that a message would wait for. So the
    /// verdict of a single message is for the caller to tell. When more is waiting the neighbours are not to wait
    /// for all of it: they are told of each.
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
                false => self.tell(verdict).await,
            }
        }
        (batches, last)
    }

    pub(super) async fn tell(&self, verdict: Verdict) {
        // A loop that is gone passes nothing on.
        let _ = self.verdicts.send(verdict).await;
    }
}
