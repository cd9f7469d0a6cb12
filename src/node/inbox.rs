//! From the mesh to the application: bytes are checked away from the loop, then delivered.
//!
//! Entry type: [`run`], one task. The rule it keeps: nothing reaches the application, nor another
//! node, before its signature was verified.

use bytes::Bytes;
use libp2p::PeerId;
use libp2p::gossipsub::MessageId;
use tokio::sync::mpsc;

use super::event::{Event, EventBus, Message};
use crate::clock::Clock;
use crate::gossip::{self, BatchError, RoomName, VerifiedBatch};

/// Messages that may wait to be checked; past that the loop stops reading from the network.
pub(crate) const MAX_WAITING: usize = 256;

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
    pub(crate) result: Result<(), BatchError>,
}

/// Checks and delivers until the node is gone.
pub(crate) async fn run(
    clock: Clock,
    mut incoming: mpsc::Receiver<Incoming>,
    verdicts: mpsc::Sender<Verdict>,
    bus: EventBus,
) {
    while let Some(Incoming {
        from,
        message_id,
        room,
        data,
    }) = incoming.recv().await
    {
        let opened = gossip::open(data, &room, clock.unix_millis());
        let (result, batch) = match opened {
            Ok(batch) => (Ok(()), Some(batch)),
            Err(error) => (Err(error), None),
        };
        if verdicts
            .send(Verdict {
                from,
                message_id,
                result,
            })
            .await
            .is_err()
        {
            return;
        }
        if let Some(batch) = batch {
            deliver(&bus, &batch, false);
        }
    }
}

/// Hands a batch's events to the application, in order.
pub(crate) fn deliver(bus: &EventBus, batch: &VerifiedBatch, backfill: bool) {
    for (seq, event) in (batch.first_seq()..).zip(batch.events()) {
        bus.emit(Event::Message(Message {
            id: batch.id(),
            room: batch.room().clone(),
            author: batch.author(),
            instance_id: batch.instance_id(),
            seq,
            name: event.name.clone(),
            data: event.data.clone(),
            sent_at_ms: batch.sent_at_ms(),
            backfill,
        }));
    }
}
