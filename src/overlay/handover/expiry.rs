//! Ends of a handover that no message brings: its timeout, the end of a link, and newcomers that wait for the slot.
//!
//! Entry type: [`HandoverSlot`]. The rule kept here: every holder of the slot has a deadline, and an earlier one while
//! newcomers wait.

use std::time::Duration;

use rand::Rng;

use super::HandoverState;
use super::coordinator::{Coordinator, MoveReason};
use super::slot::{HandoverSlot, Next};
use crate::clock::Time;
use crate::overlay::address::{Address, NodeId};
use crate::overlay::context::Context;
use crate::overlay::event::Reason;
use crate::overlay::link::Link;

impl<I: NodeId, A: Address> HandoverSlot<I, A> {
    /// Handles the deadline of the slot's holder.
    pub(in crate::overlay) fn on_timeout<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
    ) -> Next<I, A> {
        match self.state() {
            Some(HandoverState::Coordinator(_)) => {
                return self.coordinate(cx, Coordinator::on_timeout);
            }
            Some(HandoverState::Provisional { peer, .. }) => {
                let peer = *peer;
                self.clear();
                self.on_provisional_timeout(cx, peer);
            }
            Some(HandoverState::Replacement { .. }) => self.clear(),
            Some(HandoverState::Moved(_) | HandoverState::Receiver(_)) => {
                if let Some(part) = self.take_part() {
                    part.report_timeout(cx);
                    cx.penalise(part.coordinator());
                    cx.report_offence(part.coordinator(), "did not end a handover");
                    part.end(cx);
                }
            }
            None => {}
        }
        Next::Nothing
    }

    /// Handles the timeout of a provisional link. A peer that has sent no Join does not speak the overlay's protocol: it is kept if a
    /// neighbour has room for one of this node's links, or in place of an idle link. A peer that has joined has its answer.
    fn on_provisional_timeout<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>, peer: I) {
        let Some(link) = cx.core.links.get_mut(peer) else {
            return;
        };
        link.set_redundant(false);
        if link.has_joined() || link.is_confirmed() {
            return;
        }
        link.mark_plain();
        link.mark_joined();
        if self.start_move(cx, MoveReason::Room(peer)) {
            return;
        }
        if let Some(other) = cx.eviction().for_plain(peer) {
            cx.close(other, Reason::Idle);
            cx.core.links.confirm(peer);
        }
    }

    /// Handles the end of `link`. Returns the reason for which it has ended.
    pub(in crate::overlay) fn on_link_down<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        link: &Link<I, A>,
    ) -> (Reason, Next<I, A>) {
        let peer = link.peer();
        let mut next = Next::Nothing;
        let reason = match (link.is_leaving(), link.is_redundant()) {
            (true, _) => Reason::Leaving,
            (_, true) => Reason::Surplus,
            _ => Reason::Lost,
        };
        self.release(peer);
        if let Some(part) = self.part() {
            if part.coordinator() == peer {
                if let Some(moved) = self.take_completed() {
                    moved.complete(cx, link.origin());
                    return (Reason::Handover, next);
                }
                if let Some(part) = self.take_part() {
                    part.end(cx);
                }
            } else if part.other() == Some(peer) {
                self.fail(cx);
            }
        } else {
            next = self.coordinate(cx, |role, cx| role.on_link_down(cx, peer));
        }
        (reason, next)
    }

    /// Frees the slot for a newcomer if its holder makes no progress: a provisional link or a handover without result has less
    /// time while others wait.
    pub(in crate::overlay) fn free_for_newcomer<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
    ) -> Next<I, A> {
        let options = &cx.core.options;
        if cx.core.links.occupied() + self.reserved(&cx.core.links) < options.max_links {
            return Next::Nothing;
        }
        match self.state() {
            Some(HandoverState::Provisional { peer, deadline }) => {
                let (peer, left) = (*peer, deadline.since(cx.now));
                self.free_provisional(cx, peer, left);
            }
            Some(HandoverState::Coordinator(role)) if role.is_stalled(cx.now, options) => {
                return self.coordinate(cx, Coordinator::abort);
            }
            Some(HandoverState::Moved(_) | HandoverState::Receiver(_)) => {
                let now: Time = cx.now;
                let is_stalled = self.part().is_some_and(|part| {
                    let left = part.deadline().since(now);
                    !part.is_attached()
                        && left + options.contended_timeout <= options.participant_timeout
                });
                if is_stalled && let Some(part) = self.take_part() {
                    part.give_up(cx);
                }
            }
            _ => {}
        }
        Next::Nothing
    }

    /// Closes the provisional link with `peer`, which has `left` of its time, if it has had `contended_provisional`.
    fn free_provisional<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>, peer: I, left: Duration) {
        let options = &cx.core.options;
        let (handshake, join) = options.contended_provisional;
        let Some(link) = cx.core.links.get(peer) else {
            if left + handshake <= options.admit_timeout {
                cx.core.links.release(peer);
                self.clear();
            }
            return;
        };
        if link.is_redundant() || left + join > options.provisional_timeout {
            return;
        }
        self.clear();
        match link.has_joined() {
            // It has its answer, and had time to go.
            true => cx.close(peer, Reason::Surplus),
            false => cx.close_wasteful(peer),
        }
    }
}
