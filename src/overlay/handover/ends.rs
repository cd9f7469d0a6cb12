//! Inputs of a handover for the ends of the new link: the redirect hint, the Attach, a Cancel, a failed dial.
//!
//! Entry type: [`HandoverSlot`]. The rule kept here: a hint is accepted by the rules of `hint_guard` only, and an end that has
//! refused or failed reports that to the coordinator.

use std::sync::Arc;

use rand::{Rng, RngExt};

use super::coordinator::is_redundant;
use super::hint_guard::{Hint, outcome_of, refusal_of};
use super::moved::Moved;
use super::participant::Participant;
use super::receiver::Receiver;
use super::slot::{HandoverSlot, Next};
use crate::overlay::address::{Address, NodeId};
use crate::overlay::context::Context;
use crate::overlay::dial_rate_limit::DialRateLimiter;
use crate::overlay::event::{DialError, Direction, HintOutcome, Reason, Report};
use crate::overlay::link::Link;
use crate::overlay::message::{Response, Role};

impl<I: NodeId, A: Address> HandoverSlot<I, A> {
    /// Handles a redirect hint: accepts it, or refuses and reports it.
    pub(in crate::overlay) fn on_redirect<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        limiter: &mut DialRateLimiter<A>,
        hint: Hint<I, A>,
    ) -> (Response<I, A>, Next<I, A>) {
        let outcome = match self.accept_hint(cx, limiter, &hint) {
            Ok(next) => {
                let response = Response::Redirected {
                    refusal: None,
                    addresses: cx.core.listens_for(hint.from),
                };
                return (response, next);
            }
            Err(outcome) => outcome,
        };
        cx.report(Report::Hint {
            from: hint.from,
            to: hint.to.id,
            address: hint.to.addresses.first().cloned(),
            outcome,
        });
        let response = Response::Redirected {
            refusal: Some(refusal_of(outcome)),
            addresses: Arc::new([]),
        };
        (response, Next::Nothing)
    }

    /// Takes part in the handover of a redirect hint, as the moved node or as the receiver.
    fn accept_hint<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        limiter: &mut DialRateLimiter<A>,
        hint: &Hint<I, A>,
    ) -> Result<Next<I, A>, HintOutcome> {
        let (from, nonce, role, to) = (hint.from, hint.nonce, hint.role, hint.to.id);
        if to == cx.core.me {
            return Err(HintOutcome::Ourselves);
        }
        if self.was_received(nonce, to) {
            // The dial was quicker than the hint.
            return Ok(Next::Nothing);
        }
        if cx.is_penalised(from) || !(self.is_free() || self.is_receiving(from, nonce)) {
            return Err(HintOutcome::Busy);
        }
        let is_receiving = !self.is_free();
        // The coordinator names another moved node when the first one failed: a link with that one is of no use.
        if let Some(part) = self.part_mut().filter(|part| part.other() != Some(to)) {
            part.drop_unattached(cx);
        }
        let is_early =
            |link: &&Link<I, A>| link.direction() == Direction::Inbound && !link.has_joined();
        let early = cx.core.links.get(to).filter(is_early);
        if early.is_some() && is_receiving && role == Role::Expect {
            // The link is up already, and its Attach is under way.
            self.name_other(to, role);
            return Ok(Next::Nothing);
        }
        hint.check_target(cx)?;
        let addresses = hint.screen(cx, limiter)?;
        if is_receiving {
            self.name_other(to, role);
        } else {
            let deadline = cx.now + cx.core.options.participant_timeout;
            let moved = Moved::new(from, nonce, to, role, deadline);
            self.start_moved(moved);
        }
        Ok(match role {
            Role::Dial => Next::DialHint {
                from,
                to,
                addresses,
            },
            Role::Expect => Next::Nothing,
        })
    }

    fn name_other(&mut self, other: I, role: Role) {
        if let Some(part) = self.part_mut() {
            part.set_other(other, role);
        }
    }

    /// Handles a neighbour's request to receive one of its links.
    pub(in crate::overlay) fn on_propose_handover<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        is_flip: bool,
    ) -> Response<I, A> {
        if !self.is_free() || !Receiver::try_accept(cx, from, is_flip) {
            return Response::HandoverReply(None);
        }
        let nonce = cx.core.rng.random();
        let deadline = cx.now + cx.core.options.participant_timeout;
        self.start_receiving(from, nonce, is_flip, deadline);
        Response::HandoverReply(Some(cx.core.terms(from, nonce)))
    }

    /// Handles a neighbour's request to drop the link with it. If this node agrees, it awaits the end of the link.
    pub(in crate::overlay) fn on_drop_redundant_link<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        links: &[I],
    ) -> Response<I, A> {
        let ok = self.is_free() && is_redundant(cx, from, links);
        if ok {
            self.hold_provisional(from, cx.now + cx.core.options.provisional_timeout);
            if let Some(link) = cx.core.links.get_mut(from) {
                link.set_redundant(true);
            }
        }
        Response::Done { ok }
    }

    /// Names the handover over the expected link, which is up, if this node has dialled it.
    pub(in crate::overlay) fn on_expected_link<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        direction: Direction,
    ) {
        if let Some(part) = self.part() {
            part.claim(cx, direction);
        }
    }

    /// Handles the dialling side's claim that this link is the one of a handover.
    pub(in crate::overlay) fn on_attach<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        nonce: u64,
    ) -> (Response<I, A>, Next<I, A>) {
        let is_receiver = self.is_receiver();
        let part = self.part_mut();
        let part = part.filter(|part| part.is_claimed_by(from, nonce, is_receiver));
        let Some(part) = part else {
            return (Response::Done { ok: false }, Next::Nothing);
        };
        part.set_other(from, Role::Expect);
        let next = self.attach(cx, from);
        (Response::Done { ok: true }, next)
    }

    /// Handles the dialled side's answer to this node's claim.
    pub(in crate::overlay) fn on_attached<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        nonce: u64,
        is_agreed: bool,
    ) -> Next<I, A> {
        let ours = |part: &&Participant<I>| part.nonce() == nonce && part.other() == Some(from);
        let Some(part) = self.part().filter(ours) else {
            return Next::Nothing;
        };
        if is_agreed {
            part.report_hint(cx, from, HintOutcome::Linked);
            return self.attach(cx, from);
        }
        part.report_hint(cx, from, HintOutcome::Rejected);
        cx.close(from, Reason::Aborted);
        self.fail(cx);
        Next::Nothing
    }

    /// Reports to the coordinator that both ends have agreed on the new link. For the receiver the handover is complete.
    fn attach<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>, other: I) -> Next<I, A> {
        if let Some(moved) = self.moved_mut() {
            moved.attach(cx);
            return Next::Nothing;
        }
        let Some(receiver) = self.take_received(other) else {
            return Next::Nothing;
        };
        match receiver.attach(cx, other) {
            Some(coordinator) => Next::ReturnLink(coordinator),
            None => Next::Nothing,
        }
    }

    /// Reports to the coordinator that the new link will not be. The moved node is free then; the receiver waits for the next
    /// moved node.
    pub(super) fn fail<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) {
        let Some(part) = self.part_mut() else { return };
        part.reset();
        part.report_failure(cx);
        if !self.is_receiver() {
            self.clear();
        }
    }

    /// As [`HandoverSlot::fail`], unless both ends have agreed already. Returns whether it did so.
    pub(in crate::overlay) fn fail_unattached<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
    ) -> bool {
        let is_open = self.part().is_some_and(|part| !part.is_attached());
        if is_open {
            self.fail(cx);
        }
        is_open
    }

    /// Handles the failure of the dial to `to` that a redirect hint has asked for.
    pub(in crate::overlay) fn on_hint_dial_failed<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        to: I,
        error: &DialError<I, A>,
    ) {
        let link = cx.core.links.get(to);
        let is_dialled = link.is_some_and(|link| link.direction() == Direction::Outbound);
        let Some(part) = self
            .part()
            .filter(|part| part.other() == Some(to) && !is_dialled)
        else {
            return;
        };
        part.report_hint(cx, to, outcome_of(error));
        self.fail(cx);
    }

    /// Handles the coordinator's Cancel of a handover.
    pub(in crate::overlay) fn on_cancel<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        nonce: u64,
    ) {
        if self.part().is_some_and(|part| part.is_of(from, nonce))
            && let Some(part) = self.take_part()
        {
            part.end(cx);
        }
    }
}
