//! Delivery of stored batches to the application, through the reorder buffer.
//!
//! Entry type: [`AppDelivery`]. The rule it keeps: each batch is delivered once and each author's events in the order
//! sent; batches of this run of the node are not delivered.

use bytes::Bytes;
use libp2p::PeerId;

use super::commands::LocalAuthor;
use super::dates::{Dated, Dates};
use super::dedup::DeliveredIds;
use crate::clock::{Time, UnixClock};
use crate::gossip::VerifiedBatch;
use crate::model::{AuthorStream, BatchId, Id};
use crate::node::event::{Event, EventBus, Message};
use crate::node::reorder_buffer::{Arrival, Delivery, GAP_TIMEOUT, ReorderBuffer};

/// A batch in the reorder buffer, and whether it was fetched and not gossiped.
pub(super) type Fetched = (VerifiedBatch, bool);

/// The reorder buffer, and the checks on the way from the log to the application.
pub(super) struct AppDelivery {
    own_peer_id: PeerId,
    own_instance_id: [u8; 16],
    unix: UnixClock,
    bus: EventBus,
    order: ReorderBuffer<Fetched>,
    dates: Dates,
    /// Batches that were delivered although the log does not keep them.
    delivered: DeliveredIds,
}

impl AppDelivery {
    /// Returns an empty buffer for the node of `local`.
    pub(super) fn new(local: &LocalAuthor, bus: EventBus) -> AppDelivery {
        AppDelivery {
            own_peer_id: local.peer_id,
            own_instance_id: local.instance_id,
            unix: local.unix.clone(),
            bus,
            order: ReorderBuffer::new(),
            dates: Dates::default(),
            delivered: DeliveredIds::default(),
        }
    }

    /// Puts a newly stored batch into the reorder buffer, and adds to `due` all batches that are now in order.
    pub(super) fn on_new(
        &mut self,
        now: Time,
        batch: VerifiedBatch,
        follows: bool,
        is_live: bool,
        due: &mut Vec<Delivery<Fetched>>,
    ) {
        if !self.is_own(&batch) && !self.delivered.contains(&batch.id()) {
            self.check_date(&batch, is_live);
            let arrival = arrival(batch, follows, !is_live);
            self.order.insert(now, arrival, due);
        }
    }

    /// Reports that the author of `batch` had signed another batch, `first`, with the same numbers.
    pub(super) fn on_conflict(&self, batch: &VerifiedBatch, first: Id) {
        self.bus.emit(Event::Equivocation {
            author: batch.author(),
            room: batch.room().clone(),
            seq: batch.first_seq(),
            first: BatchId(first),
            second: batch.id(),
        });
    }

    /// Delivers, once, a live batch that is older than all batches in the log: one of the two clocks is wrong, and the
    /// message is heard all the same.
    pub(super) fn on_too_old(&mut self, batch: &VerifiedBatch) {
        if self.is_own(batch) {
            return;
        }
        self.check_date(batch, true);
        if self.delivered.insert(batch.id()) {
            let messages = messages(batch, false);
            self.bus.emit_all(messages.map(Event::Message));
        }
    }

    /// Sends batches to the application, event by event.
    pub(super) fn deliver(&self, due: Vec<Delivery<Fetched>>) {
        for Delivery { item, late } in due {
            let (batch, is_fetched) = item;
            let messages = messages(&batch, is_fetched || late);
            self.bus.emit_all(messages.map(Event::Message));
        }
    }

    /// Delivers the batches that have waited long enough by `now` for earlier ones, except those for which an earlier
    /// one may still be fetched.
    pub(super) fn expire(&mut self, now: Time, is_fetch_pending: impl Fn(&VerifiedBatch) -> bool) {
        let mut due = Vec::new();
        let is_fetch_pending = |(batch, _): &Fetched| is_fetch_pending(batch);
        self.order.expire_unless(now, is_fetch_pending, &mut due);
        self.deliver(due);
    }

    /// Delivers all batches, although earlier ones are missing: the node stops at `now`.
    pub(super) fn flush(&mut self, now: Time) {
        let mut due = Vec::new();
        self.order.expire(now + GAP_TIMEOUT, &mut due);
        self.deliver(due);
    }

    /// Returns when [`AppDelivery::expire`] is next due.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.order.deadline()
    }

    /// Reports a batch that is dated earlier than it can have been sent.
    fn check_date(&mut self, batch: &VerifiedBatch, is_live: bool) {
        let now_ms = self.unix.now_ms();
        let stream = (batch.author(), batch.instance_id(), batch.room().clone());
        let dated = Dated {
            first_seq: batch.first_seq(),
            sent_at_ms: batch.sent_at_ms(),
        };
        if let Some((by, than)) = self.dates.check(stream, dated, is_live, now_ms) {
            self.bus.emit(Event::BackDated {
                author: batch.author(),
                room: batch.room().clone(),
                seq: batch.first_seq(),
                id: batch.id(),
                by,
                than,
            });
        }
    }

    /// Returns whether this run of the node has sent the batch. A neighbour on a quick link may return it in an answer
    /// before this node's own log has it, because the log stores it after the links have taken it.
    fn is_own(&self, batch: &VerifiedBatch) -> bool {
        batch.author() == self.own_peer_id && batch.instance_id() == self.own_instance_id
    }
}

fn arrival(batch: VerifiedBatch, follows: bool, is_fetched: bool) -> Arrival<Fetched> {
    Arrival {
        stream: AuthorStream {
            room: batch.room().clone(),
            author: Bytes::copy_from_slice(&batch.author_key().to_protobuf()),
            instance: batch.instance_id(),
        },
        first_seq: batch.first_seq(),
        count: batch.events().len() as u64,
        follows,
        size: batch.bytes().len(),
        item: (batch, is_fetched),
    }
}

/// Returns a batch's events as the application sees them, in order.
pub(crate) fn messages(
    batch: &VerifiedBatch,
    backfill: bool,
) -> impl Iterator<Item = Message> + '_ {
    batch.numbered_events().map(move |(seq, event)| Message {
        id: batch.id(),
        room: batch.room().clone(),
        author: batch.author(),
        instance_id: batch.instance_id(),
        seq,
        name: event.name.clone(),
        data: event.data.clone(),
        sent_at_ms: batch.sent_at_ms(),
        backfill,
    })
}
