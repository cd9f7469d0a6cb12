//! The receiver of a handover: a newcomer, or a neighbour that has room, gets a link of the coordinator's.
//!
//! Entry type: [`Receiver`]. The rule it keeps: it agrees only to a handover with its own outstanding nonce, and at most half of
//! its links are of other nodes' choice.

use rand::Rng;

use super::participant::Participant;
use crate::clock::Time;
use crate::overlay::address::{Address, NodeId};
use crate::overlay::context::{Context, Core};
use crate::overlay::link::{Link, Origin};
use crate::overlay::message::Role;

/// The receiver's part.
#[derive(Clone, Debug)]
pub(in crate::overlay) struct Receiver<I> {
    part: Participant<I>,
    /// The handover is the first half of a flip: this node returns a link afterwards.
    is_flip: bool,
}

impl<I: Copy> Receiver<I> {
    pub(super) fn part(&self) -> &Participant<I> {
        &self.part
    }

    pub(super) fn part_mut(&mut self) -> &mut Participant<I> {
        &mut self.part
    }

    pub(super) fn into_part(self) -> Participant<I> {
        self.part
    }
}

impl<I: NodeId> Receiver<I> {
    /// Starts the part of a receiver that has sent its terms with `nonce` to the coordinator.
    pub(super) fn new(coordinator: I, nonce: u64, is_flip: bool, deadline: Time) -> Receiver<I> {
        Receiver {
            part: Participant::new(coordinator, nonce, None, Role::Expect, deadline),
            is_flip,
        }
    }

    /// Returns whether this node may join for two links: at most half of its links may be of other nodes' choice, so that an
    /// attacker that wants it to see only accomplices must wait until this node dials them itself.
    pub(in crate::overlay) fn may_start<A: Address, R: Rng>(core: &Core<I, A, R>) -> bool {
        core.links.hinted() < core.options.max_links / 2
    }

    /// Decides whether this node receives a link that the neighbour `from` offers. A flip returns one such link, so that one more
    /// is allowed for its time. Rate limit: one in half a round from each neighbour.
    pub(super) fn try_accept<A: Address, R: Rng>(
        cx: &mut Context<'_, I, A, R>,
        from: I,
        is_flip: bool,
    ) -> bool {
        let options = &cx.core.options;
        let (half, interval) = (options.max_links / 2, options.round / 2);
        let hinted = cx.core.links.hinted();
        let may_receive = hinted < half || (is_flip && hinted == half);
        let has_room = cx.core.links.occupied() < options.max_links;
        if !may_receive || !has_room || cx.is_penalised(from) {
            return false;
        }
        let now = cx.now;
        let fit = |link: &&mut Link<I, A>| link.is_confirmed() && link.may_propose(now, interval);
        let link = cx.core.links.get_mut(from).filter(fit);
        link.map(|link| link.record_proposal(now)).is_some()
    }

    /// Completes the handover: both ends have agreed on the new link, and are in a handover at their other ends. Confirms both
    /// links and reports to the coordinator. Returns the coordinator if a link is to be returned to it.
    pub(super) fn attach<A: Address, R: Rng>(
        mut self,
        cx: &mut Context<'_, I, A, R>,
        other: I,
    ) -> Option<I> {
        let coordinator = self.part.coordinator();
        if self.part.mark_attached() {
            self.part.report_linked(cx, true);
        }
        cx.core.links.confirm(coordinator);
        cx.core.links.confirm_as(other, Origin::Hint);
        self.is_flip.then_some(coordinator)
    }
}
