//! Redundant links: room where all nodes are full, by closing one link of a triangle.
//!
//! Entry functions: [`Coordinator::try_drop_next`] and [`is_redundant`]. The rule they keep: the link is closed only while both its
//! ends are in a handover and share a third neighbour, so that they stay connected by it, and no second link of the triangle can be
//! closed meanwhile. Without this, components in which all nodes are full would never meet again.

use rand::Rng;

use super::choice::pick_candidates;
use super::{Coordinator, MoveReason, Progress};
use crate::overlay::address::{Address, NodeId};
use crate::overlay::context::Context;
use crate::overlay::event::Reason;
use crate::overlay::link::Link;
use crate::overlay::message::Request;
use crate::overlay::options::MAX_NAMED_LINKS;
use crate::overlay::requests::Pending;

impl<I: NodeId, A: Address> Coordinator<I, A> {
    /// Asks the next neighbour to do without the link with it, because no neighbour has room to receive one.
    pub(super) fn try_drop_next<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) -> Progress<I> {
        // Only to make room for a newcomer or an anchor.
        if !matches!(self.reason, MoveReason::Room(_) | MoveReason::Swap) {
            return self.abort(cx);
        }
        let mut candidates = match self.droppable.take() {
            Some(candidates) => candidates,
            None => pick_candidates(cx),
        };
        let Some(to) = candidates.pop() else {
            return self.abort(cx);
        };
        self.droppable = Some(candidates);
        let links = cx.core.links.iter();
        let others = links.filter(|link| link.is_confirmed() && link.peer() != to);
        let others = others.map(Link::peer).take(MAX_NAMED_LINKS).collect();
        self.receiver = to;
        self.await_answer(cx, to);
        cx.send(
            to,
            Pending::DropRedundantLink,
            Request::DropRedundantLink { links: others },
        );
        Progress::Running
    }

    /// Takes the neighbour's answer: closes the link with it if it has agreed.
    pub(in crate::overlay::handover) fn on_drop_reply<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        is_agreed: bool,
    ) -> Progress<I> {
        if self.droppable.is_none() || self.receiver != from {
            return Progress::Running;
        }
        if is_agreed {
            cx.close(from, Reason::Surplus);
            return self.commit(cx);
        }
        self.try_drop_next(cx)
    }
}

/// Returns whether this node can do without its link with `from`, which has links with the peers `links`: the two share a
/// neighbour, and this node has more links than it wants.
pub(in crate::overlay) fn is_redundant<I: NodeId, A: Address, R: Rng>(
    cx: &Context<'_, I, A, R>,
    from: I,
    links: &[I],
) -> bool {
    let shared = |link: &Link<I, A>| {
        link.is_full_member() && link.peer() != from && links.contains(&link.peer())
    };
    let has_spare = cx.core.links.len() > cx.core.options.wanted_links;
    has_spare && cx.core.links.iter().any(shared) && !cx.is_penalised(from)
}
