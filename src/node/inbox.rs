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
        // With nothing else to do the application comes before the neighbours: what a node passes on
        // keeps all others busy, and at a low rate it is this that a message would wait for. When more
        // is waiting the neighbours are not to wait for all of it.
        let is_alone = taken.len() == 1;
        let mut last = None;
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
            if is_alone {
                last = Some(verdict);
            } else if verdicts.send(verdict).await.is_err() {
                return;
            }
        }
        if !batches.is_empty() && verified.send(batches).await.is_err() {
            return;
        }
        if let Some(verdict) = last {
            // The keeper takes it meanwhile.
            tokio::task::yield_now().await;
            if verdicts.send(verdict).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::Event;
    use crate::identity::Identity;

    /// `count` messages that wait to be checked, when the keeper has room for nothing: what comes of
    /// them before it has, and afterwards.
    async fn verdicts_of(count: u64) -> (usize, usize) {
        let clock = Clock::start();
        let author = Identity::generate();
        let room: RoomName = "lobby".parse().unwrap();
        let (to_inbox, incoming) = mpsc::channel(MAX_WAITING);
        let (to_loop, mut verdicts) = mpsc::channel(MAX_WAITING);
        let (to_keeper, mut verified) = mpsc::channel(1);
        to_keeper.try_send(Vec::new()).unwrap();
        for n in 1..=count {
            let events = vec![Event::new("chat", "hello")];
            let now = clock.unix_millis();
            let sealed = gossip::seal(&author, [0; 16], &room, n, now, events).unwrap();
            let message = Incoming {
                from: PeerId::random(),
                message_id: MessageId(sealed.id().0.to_vec()),
                room: room.clone(),
                data: sealed.bytes().clone(),
            };
            to_inbox.try_send(message).ok().unwrap();
        }
        drop(to_inbox);
        let mut inbox = Box::pin(run(clock, incoming, to_loop, to_keeper));
        assert!(
            futures::poll!(&mut inbox).is_pending(),
            "the keeper is full"
        );
        let before = std::iter::from_fn(|| verdicts.try_recv().ok()).count();
        assert!(verified.recv().await.unwrap().is_empty());
        inbox.await;
        assert_eq!(verified.recv().await.unwrap().len() as u64, count);
        let after = std::iter::from_fn(|| verdicts.try_recv().ok()).count();
        (before, after)
    }

    #[tokio::test]
    async fn a_single_message_is_handed_to_the_application_before_the_neighbours() {
        assert_eq!(verdicts_of(1).await, (0, 1));
    }

    #[tokio::test]
    async fn of_several_messages_the_neighbours_wait_for_none() {
        assert_eq!(verdicts_of(3).await, (3, 0));
    }
}
