//! Confirmed sending: asks neighbours whether they store an own batch, and answers its senders.
//!
//! Entry: [`SyncDriver::on_own`]. The rule it keeps: the senders of a batch get one answer.

use libp2p::PeerId;

use super::confirmations::{CONFIRM_TIMEOUT, Question};
use super::log_queue::LogQueue;
use super::sync::{SyncDriver, item_of};
use crate::clock::Time;
use crate::gossip::VerifiedBatch;
use crate::model::Id;
use crate::node::error::BroadcastError;
use crate::node::outbox::Unconfirmed;
use crate::sync::Input;

impl SyncDriver {
    /// A batch of this node is stored: announces it when `is_announced`, and asks the neighbours for confirmation when
    /// senders wait for that.
    pub(super) async fn on_own(
        &mut self,
        batch: VerifiedBatch,
        is_announced: bool,
        unconfirmed: Option<Unconfirmed>,
        log: &mut LogQueue,
    ) {
        let (room, item) = (batch.room().as_str().to_owned(), item_of(&batch));
        let is_confirmed = unconfirmed.is_some();
        if let Some(unconfirmed) = unconfirmed {
            let now = self.now();
            self.confirmations.insert(now, &room, item, unconfirmed);
            self.handle(Input::Watch(item.id), log).await;
        }
        match is_announced {
            true => self.announce(&batch, None, log).await,
            false => self.on_stored(&batch, log).await,
        }
        // Neighbours confirm an announced batch without being asked.
        if is_confirmed && !is_announced {
            let but = Default::default();
            let confirm = Input::Confirm {
                room,
                item,
                except: but,
            };
            self.handle(confirm, log).await;
        }
    }

    /// A neighbour does not lack a batch of this node. Returns the input that ends the wait for it, if it was the last one
    /// needed.
    pub(super) fn on_holds(&mut self, peer_id: PeerId, id: Id) -> Option<Input<PeerId>> {
        let now = self.now();
        let (unconfirmed, holders) = self.confirmations.on_holds(now, peer_id, &id)?;
        unconfirmed.confirm(holders);
        Some(Input::Unwatch(id))
    }

    /// Asks the neighbours that have not confirmed again, and refuses the batches that have timed out.
    pub(super) async fn on_confirmations_due(&mut self, now: Time, log: &mut LogQueue) {
        self.give_up_confirmations(now);
        for question in self.confirmations.take_questions(now) {
            let Question {
                room,
                item,
                holders: but,
            } = question;
            let confirm = Input::Confirm {
                room,
                item,
                except: but,
            };
            self.handle(confirm, log).await;
        }
    }

    /// Refuses the batches that too few neighbours have confirmed by `now`.
    pub(super) fn give_up_confirmations(&mut self, now: Time) {
        let needed = self.confirmations.needed();
        for (id, unconfirmed, holders) in self.confirmations.expire(now) {
            unconfirmed.refuse(&BroadcastError::NotConfirmed {
                holders,
                needed,
                within: CONFIRM_TIMEOUT,
            });
            self.unwatch(id);
        }
    }
}
