//! The part that both ends of a handover's new link have in common.
//!
//! Entry type: [`Participant`]. The rule it keeps: until both ends have agreed on the new link, it is this node that gives the
//! new link up, never the old one.

use rand::Rng;

use crate::clock::Time;
use crate::overlay::address::{Address, NodeId};
use crate::overlay::context::Context;
use crate::overlay::event::{Direction, HintOutcome, Reason, Report};
use crate::overlay::link::{Link, Origin};
use crate::overlay::message::{Request, Role};
use crate::overlay::requests::Pending;

/// One end of the new link.
#[derive(Clone, Debug)]
pub(super) struct Participant<I> {
    coordinator: I,
    nonce: u64,
    /// The other end, once the coordinator has named it.
    other: Option<I>,
    role: Role,
    /// Both ends have agreed on the link.
    is_attached: bool,
    deadline: Time,
}

impl<I: NodeId> Participant<I> {
    pub(super) fn new(
        coordinator: I,
        nonce: u64,
        other: Option<I>,
        role: Role,
        deadline: Time,
    ) -> Participant<I> {
        Participant {
            coordinator,
            nonce,
            other,
            role,
            is_attached: false,
            deadline,
        }
    }

    pub(super) fn coordinator(&self) -> I {
        self.coordinator
    }

    pub(super) fn nonce(&self) -> u64 {
        self.nonce
    }

    pub(super) fn other(&self) -> Option<I> {
        self.other
    }

    pub(super) fn is_attached(&self) -> bool {
        self.is_attached
    }

    /// Returns whether the handover is the coordinator's with this nonce.
    pub(super) fn is_of(&self, coordinator: I, nonce: u64) -> bool {
        self.coordinator == coordinator && self.nonce == nonce
    }

    /// Returns whether a connection with `peer` of this direction is the one that the coordinator has asked for.
    pub(super) fn expects(&self, peer: I, direction: Direction) -> bool {
        self.other == Some(peer) && is_side_of(self.role, direction)
    }

    /// Sets the other end that the coordinator names.
    pub(super) fn set_other(&mut self, other: I, role: Role) {
        (self.other, self.role) = (Some(other), role);
    }

    /// Records that both ends have agreed on the link. Returns whether they had not before.
    pub(super) fn mark_attached(&mut self) -> bool {
        !std::mem::replace(&mut self.is_attached, true)
    }

    /// Forgets the other end: the new link will not be.
    pub(super) fn reset(&mut self) {
        (self.other, self.is_attached) = (None, false);
    }

    /// Returns whether an Attach of `from` claims this handover. The receiver may learn of the moved node by its Attach, before
    /// the coordinator names it: the nonce proves that the coordinator has sent it.
    pub(super) fn is_claimed_by(&self, from: I, nonce: u64, is_receiver: bool) -> bool {
        let is_named = self.other == Some(from) || (is_receiver && self.other.is_none());
        self.nonce == nonce && self.coordinator != from && is_named && self.role == Role::Expect
    }

    /// Names the handover to the other end, over the new link, if this node has dialled it.
    pub(super) fn claim<A: Address, R: Rng>(
        &self,
        cx: &mut Context<'_, I, A, R>,
        direction: Direction,
    ) {
        let Some(peer) = self.other else { return };
        if self.role == Role::Dial && direction == Direction::Outbound {
            let nonce = self.nonce;
            cx.send(peer, Pending::Attach(nonce), Request::Attach { nonce });
        }
    }

    /// Reports to the coordinator whether the new link is up.
    pub(super) fn report_linked<A: Address, R: Rng>(
        &self,
        cx: &mut Context<'_, I, A, R>,
        linked: bool,
    ) {
        let nonce = self.nonce;
        cx.notify(self.coordinator, Request::Report { nonce, linked });
    }

    /// As [`Participant::report_linked`], with `false`, if the coordinator is still linked.
    pub(super) fn report_failure<A: Address, R: Rng>(&self, cx: &mut Context<'_, I, A, R>) {
        if cx.core.links.contains(self.coordinator) {
            self.report_linked(cx, false);
        }
    }

    /// Reports the outcome of the coordinator's hint to the application.
    pub(super) fn report_hint<A: Address, R: Rng>(
        &self,
        cx: &mut Context<'_, I, A, R>,
        to: I,
        outcome: HintOutcome,
    ) {
        let link = cx.core.links.get(to);
        let address = link.and_then(|link| link.listens().first().cloned());
        cx.report(Report::Hint {
            from: self.coordinator,
            to,
            address,
            outcome,
        });
    }

    /// Reports the outcome of a hint whose dial has not led to a link in time.
    pub(super) fn report_timeout<A: Address, R: Rng>(&self, cx: &mut Context<'_, I, A, R>) {
        if let Some(other) = self
            .other
            .filter(|_| self.role == Role::Dial && !self.is_attached)
        {
            self.report_hint(cx, other, HintOutcome::Cancelled);
        }
    }

    /// Closes the new link unless both ends have agreed on it.
    pub(super) fn drop_unattached<A: Address, R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) {
        let Some(other) = self.other.filter(|_| !self.is_attached) else {
            return;
        };
        self.other = None;
        let new_link =
            |link: &&Link<I, A>| !link.is_confirmed() && is_side_of(self.role, link.direction());
        if cx.core.links.get(other).filter(new_link).is_some() {
            cx.close(other, Reason::Aborted);
        }
    }

    /// Ends the handover without the coordinator having moved its link. The new link stays if both ends have agreed on it and
    /// there is room.
    pub(super) fn end<A: Address, R: Rng>(mut self, cx: &mut Context<'_, I, A, R>) {
        self.drop_unattached(cx);
        let Some(other) = self.other else { return };
        if cx.core.links.len() > cx.core.options.max_links {
            cx.close(other, Reason::Aborted);
        } else {
            cx.core.links.confirm_as(other, Origin::Hint);
        }
    }

    /// Ends a handover that has led to nothing yet, and reports that to the coordinator.
    pub(super) fn give_up<A: Address, R: Rng>(self, cx: &mut Context<'_, I, A, R>) {
        let (coordinator, nonce) = (self.coordinator, self.nonce);
        self.end(cx);
        if cx.core.links.contains(coordinator) {
            let linked = false;
            cx.notify(coordinator, Request::Report { nonce, linked });
        }
    }

    pub(super) fn deadline(&self) -> Time {
        self.deadline
    }
}

/// Returns whether the side of a connection is the one that `role` in a handover asks for.
fn is_side_of(role: Role, direction: Direction) -> bool {
    (role == Role::Dial) == (direction == Direction::Outbound)
}
