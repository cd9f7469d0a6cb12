//! The moved node of a handover: its link with the coordinator moves to the receiver.
//!
//! Entry type: [`Moved`]. The rule it keeps: the old link ends only by the coordinator, once that has both Reports; without
//! them this node gives the new link up.

use rand::Rng;

use super::participant::Participant;
use crate::clock::Time;
use crate::overlay::address::{Address, NodeId};
use crate::overlay::context::Context;
use crate::overlay::link::Origin;
use crate::overlay::message::Role;

/// The moved node's part.
#[derive(Clone, Debug)]
pub(super) struct Moved<I>(Participant<I>);

impl<I: Copy> Moved<I> {
    pub(super) fn part(&self) -> &Participant<I> {
        &self.0
    }

    pub(super) fn part_mut(&mut self) -> &mut Participant<I> {
        &mut self.0
    }

    pub(super) fn into_part(self) -> Participant<I> {
        self.0
    }
}

impl<I: NodeId> Moved<I> {
    /// Starts the part by the coordinator's redirect hint, which names the receiver `to`.
    pub(super) fn new(coordinator: I, nonce: u64, to: I, role: Role, deadline: Time) -> Moved<I> {
        Moved(Participant::new(
            coordinator,
            nonce,
            Some(to),
            role,
            deadline,
        ))
    }

    /// Reports to the coordinator that both ends have agreed on the new link, once.
    pub(super) fn attach<A: Address, R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) {
        if self.0.mark_attached() {
            self.0.report_linked(cx, true);
        }
    }

    /// Completes the handover: the coordinator has closed the old link. The new one takes its place and its origin, since the
    /// coordinator could only spend its own place.
    pub(super) fn complete<A: Address, R: Rng>(
        self,
        cx: &mut Context<'_, I, A, R>,
        old_origin: Origin,
    ) {
        if let Some(other) = self.0.other() {
            cx.core.links.confirm_as(other, old_origin);
        }
    }
}
