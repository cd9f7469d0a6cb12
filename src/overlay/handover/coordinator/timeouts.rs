//! Timeouts of a coordinator: one for each answer, and one for the whole handover.
//!
//! The rule kept here: a peer that does not answer costs one `answer_timeout`, and only the peer that has not done its part is
//! penalised.

use rand::Rng;

use super::{Coordinator, MoveReason, Progress};
use crate::clock::Time;
use crate::overlay::address::{Address, NodeId};
use crate::overlay::context::Context;
use crate::overlay::options::Options;

impl<I: Copy, A> Coordinator<I, A> {
    /// Returns the next timeout: of the awaited answer, or of the whole handover.
    pub(in crate::overlay::handover) fn next_deadline(&self) -> Time {
        let answer = self.awaited.map_or(self.deadline, |(_, until)| until);
        answer.min(self.deadline)
    }
}

impl<I: NodeId, A: Address> Coordinator<I, A> {
    /// Returns whether the handover may end early, because newcomers wait: neither end has confirmed the new link within
    /// `contended_timeout`.
    pub(in crate::overlay::handover) fn is_stalled(&self, now: Time, options: &Options) -> bool {
        let is_confirmed = self.receiver_confirmed || self.moved_confirmed;
        let left = self.deadline.since(now);
        !is_confirmed && left + options.contended_timeout <= options.coordinator_timeout
    }

    /// Takes the next timeout: of one answer, or of the whole handover.
    pub(in crate::overlay::handover) fn on_timeout<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
    ) -> Progress<I> {
        match self.deadline > cx.now {
            true => self.on_answer_timeout(cx),
            false => self.on_handover_timeout(cx),
        }
    }

    /// Continues with the next peer when one has not answered. A newcomer that asks for a second link and does not answer
    /// loses its provisional one.
    fn on_answer_timeout<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) -> Progress<I> {
        let Some((silent, _)) = self.awaited.take() else {
            return Progress::Running;
        };
        cx.core.requests.forget_coordination(silent);
        if let Some(link) = cx.core.links.get_mut(silent) {
            link.activity_mut().record_timeout();
        }
        if self.droppable.is_some() {
            return self.try_drop_next(cx);
        }
        let Some(nonce) = self.nonce() else {
            return self.try_next_candidate(cx);
        };
        self.cancel_moved(cx, nonce);
        if silent != self.receiver {
            return self.try_next_move(cx);
        }
        cx.penalise(silent);
        let is_full = cx.core.links.len() > cx.core.options.max_links;
        if self.reason == MoveReason::Split && is_full {
            cx.close_wasteful(silent);
            return Progress::Ended;
        }
        self.moved = None;
        self.abort(cx)
    }

    /// Aborts the handover, and penalises the peer that has not done its part.
    fn on_handover_timeout<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) -> Progress<I> {
        let silent = match self.awaited {
            Some((awaited, _)) => Some(awaited),
            None if self.receiver_confirmed => self.moved,
            None => Some(self.receiver),
        };
        if let Some(silent) = silent {
            cx.penalise(silent);
        }
        if self.reason == MoveReason::Split && silent == Some(self.receiver) {
            cx.record_waste(self.receiver);
        }
        self.abort(cx)
    }
}
