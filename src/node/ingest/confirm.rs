//! The keeper's part in confirmations: neighbours are asked whether they hold a batch, and who waits for that is answered.
//!
//! Entry: [`Keeper::on_own`].

use libp2p::PeerId;

use super::Keeper;
use super::confirmations::{CONFIRM_TIMEOUT, Question};
use super::sync::{item_of, stored};
use crate::clock::Time;
use crate::gossip::VerifiedBatch;
use crate::model::Id;
use crate::node::error::BroadcastError;
use crate::node::outbox::Unconfirmed;
use crate::sync::Input;

impl Keeper {
    /// A batch of this node is stored: data checking hears of it, and the neighbours when they are to be offered it, or to
    /// confirm that they hold it.
    pub(super) async fn on_own(
        &mut self,
        batch: VerifiedBatch,
        is_offered: bool,
        unconfirmed: Option<Unconfirmed>,
    ) {
        let (room, item) = (batch.room().as_str().to_owned(), item_of(&batch));
        let is_confirmed = unconfirmed.is_some();
        if let Some(unconfirmed) = unconfirmed {
            self.confirmations
                .add(self.clock.now(), &room, item, unconfirmed);
            self.check(Input::Watch(item.id)).await;
        }
        match is_offered {
            true => self.offer(&batch, None).await,
            false => self.check(stored(&batch)).await,
        }
        // Of what is offered they say by themselves that they have stored it.
        if is_confirmed && !is_offered {
            let but = Default::default();
            self.check(Input::Confirm { room, item, but }).await;
        }
    }

    /// A neighbour does not lack a batch of this node.
    pub(super) fn on_holds(&mut self, peer_id: PeerId, id: Id) {
        let now = self.clock.now();
        if let Some((unconfirmed, holders)) = self.confirmations.holds(now, peer_id, &id) {
            unconfirmed.confirm(holders);
            self.unwatch(id);
        }
    }

    /// Asks again those who have not confirmed, and answers those whose time is over.
    pub(super) async fn on_confirmations_due(&mut self, now: Time) {
        self.give_up_confirmations(now);
        for question in self.confirmations.questions(now) {
            let Question {
                room,
                item,
                holders: but,
            } = question;
            self.check(Input::Confirm { room, item, but }).await;
        }
    }

    /// Answers those whose time is over by `now`.
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

    fn unwatch(&mut self, id: Id) {
        let (now, unix) = (self.clock.now(), self.unix.read());
        // Nothing follows from it.
        self.checks
            .handle(now, unix, Input::Unwatch(id), &mut Vec::new());
    }
}
