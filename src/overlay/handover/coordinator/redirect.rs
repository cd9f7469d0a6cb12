//! Redirect hints of a coordinator: to the moved node first, and to the receiver once the moved node has agreed.
//!
//! The rule kept here: a hint names only addresses that its link may name, and the next link is tried when an end refuses.

use std::sync::Arc;

use rand::Rng;

use super::{Coordinator, MoveReason, Progress};
use crate::overlay::address::{Address, NodeId, in_scope};
use crate::overlay::context::Context;
use crate::overlay::event::Report;
use crate::overlay::message::{Contact, Request, Role};
use crate::overlay::requests::Pending;

impl<I: NodeId, A: Address> Coordinator<I, A> {
    /// Sends the redirect hint to the peer of the next link that may move.
    pub(super) fn try_next_move<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) -> Progress<I> {
        (self.moved, self.moved_confirmed, self.receiver_confirmed) = (None, false, false);
        self.awaited = None;
        let Some(terms) = &self.terms else {
            return Progress::Running;
        };
        let (nonce, is_dialable) = (terms.nonce, terms.dialable);
        let named = |peer: I| in_scope(cx.core.links.reach_of(peer), &terms.addresses);
        // A peer that may not know the receiver's address cannot dial it.
        let is_dialable_by = |peer: &I| !is_dialable || !named(*peer).is_empty();
        while self
            .movable
            .last()
            .is_some_and(|peer| !is_dialable_by(peer))
        {
            self.movable.pop();
        }
        let Some(moved) = self.movable.pop() else {
            return self.on_none_to_move(cx, is_dialable);
        };
        let (role, addresses): (Role, Arc<[A]>) = match is_dialable {
            true => (Role::Dial, named(moved).into()),
            false => (Role::Expect, Arc::new([])),
        };
        self.moved = Some(moved);
        self.send_redirect(cx, nonce, moved, role, self.receiver, addresses);
        Progress::Running
    }

    /// Ends the handover because no link can move. A newcomer that can be dialled finds other links quickly; for one that
    /// cannot, of which there may be many, a neighbour may receive a link instead.
    fn on_none_to_move<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        is_dialable: bool,
    ) -> Progress<I> {
        let is_stuck = self.reason == MoveReason::Split
            && !is_dialable
            && cx.core.links.len() > cx.core.options.max_links;
        let reason = MoveReason::Room(self.receiver);
        let other = is_stuck.then(|| Coordinator::start_move(cx, reason));
        match other.flatten() {
            Some(other) => {
                *self = other;
                Progress::Running
            }
            None => self.abort(cx),
        }
    }

    /// Sends a redirect hint to one end of the new link, and reports it if that end is to dial.
    fn send_redirect<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        nonce: u64,
        receiver_of_hint: I,
        role: Role,
        id: I,
        addresses: Arc<[A]>,
    ) {
        if role == Role::Dial {
            let address = addresses.first().cloned();
            cx.report(Report::Redirected {
                dialer: receiver_of_hint,
                to: id,
                address,
            });
        }
        self.await_answer(cx, receiver_of_hint);
        let to = Contact { id, addresses };
        cx.send(
            receiver_of_hint,
            Pending::Redirect(nonce),
            Request::Redirect { nonce, role, to },
        );
    }

    /// Takes the answer of the moved node or of the receiver to its redirect hint: its addresses if it has agreed.
    pub(in crate::overlay::handover) fn on_redirected<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        nonce: u64,
        agreed: Option<Arc<[A]>>,
    ) -> Progress<I> {
        let Some(terms) = self.terms.as_ref().filter(|terms| terms.nonce == nonce) else {
            return Progress::Running;
        };
        let is_dialable = terms.dialable;
        if from == self.receiver && agreed.is_some() {
            self.end_await(from);
        } else if Some(from) == self.moved {
            return self.on_moved_agreed(cx, from, nonce, is_dialable, agreed);
        } else if from == self.receiver && !self.receiver_confirmed {
            self.cancel_moved(cx, nonce);
            return self.try_next_move(cx);
        }
        Progress::Running
    }

    /// Sends the counterpart of the redirect hint to the receiver, once the moved node has agreed.
    fn on_moved_agreed<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        moved: I,
        nonce: u64,
        is_dialable: bool,
        agreed: Option<Arc<[A]>>,
    ) -> Progress<I> {
        let Some(addresses) = agreed else {
            return self.try_next_move(cx);
        };
        // The moved node's addresses, as far as its link may name them and the receiver's may name them on.
        let links = &cx.core.links;
        let narrower = links.reach_of(moved).max(links.reach_of(self.receiver));
        let addresses: Arc<[A]> = in_scope(narrower, &addresses).into();
        if !is_dialable && addresses.is_empty() {
            cx.send_cancel(moved, nonce, true);
            return self.try_next_move(cx);
        }
        let role = match is_dialable {
            true => Role::Expect,
            false => Role::Dial,
        };
        self.send_redirect(cx, nonce, self.receiver, role, moved, addresses);
        Progress::Running
    }
}
