//! The one handover in which a node takes part: its state, and the inputs that concern it.
//!
//! Entry type: [`HandoverSlot`]. The rule it keeps: one handover at a time; each input goes to the role that this node has in it,
//! and is without effect in any other.

use std::sync::Arc;

use rand::Rng;

use super::HandoverState;
use super::coordinator::{Coordinator, MoveReason, Progress};
use super::moved::Moved;
use super::participant::Participant;
use super::receiver::Receiver;
use crate::clock::Time;
use crate::overlay::address::{Address, NodeId};
use crate::overlay::context::Context;
use crate::overlay::event::Direction;
use crate::overlay::link_table::LinkTable;
use crate::overlay::message::Terms;

/// The step outside the handover that must follow one inside it.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::overlay) enum Next<I, A> {
    Nothing,
    /// Dial an anchor: there is room for it.
    DialAnchor,
    /// Dial the peer that a redirect hint of `from` names.
    DialHint {
        from: I,
        to: I,
        addresses: Arc<[A]>,
    },
    /// Return a link to this coordinator, for a flip.
    ReturnLink(I),
}

/// The handover of one node.
#[derive(Clone, Debug)]
pub(in crate::overlay) struct HandoverSlot<I, A> {
    state: Option<HandoverState<I, A>>,
    /// The nonce of the last handover that gave this node a link, and the peer.
    last_received: Option<(u64, I)>,
}

impl<I: NodeId, A: Address> HandoverSlot<I, A> {
    pub(in crate::overlay) fn new() -> HandoverSlot<I, A> {
        HandoverSlot {
            state: None,
            last_received: None,
        }
    }

    /// Returns whether this node takes part in no handover, and holds no provisional link beyond its limit.
    pub(in crate::overlay) fn is_free(&self) -> bool {
        self.state.is_none()
    }

    pub(in crate::overlay) fn deadline(&self) -> Option<Time> {
        self.state.as_ref().map(HandoverState::deadline)
    }

    /// Ends whatever holds the slot, without any message.
    pub(in crate::overlay) fn clear(&mut self) {
        self.state = None;
    }

    /// Gives the slot to the provisional link with `peer`, until `deadline`.
    pub(in crate::overlay) fn hold_provisional(&mut self, peer: I, deadline: Time) {
        self.state = Some(HandoverState::Provisional { peer, deadline });
    }

    /// Returns whether the provisional link with `peer` holds the slot.
    pub(in crate::overlay) fn is_held_by(&self, peer: I) -> bool {
        matches!(&self.state, Some(HandoverState::Provisional { peer: held, .. }) if *held == peer)
    }

    /// Gives the slot to a connection of this node's own choice that is to replace a link, until `deadline`.
    pub(in crate::overlay) fn hold_replacement(&mut self, peer: I, deadline: Time) {
        self.state = Some(HandoverState::Replacement { peer, deadline });
    }

    /// Returns the peer that is to replace a link, if there is one.
    pub(in crate::overlay) fn replacement(&self) -> Option<I> {
        match &self.state {
            Some(HandoverState::Replacement { peer, .. }) => Some(*peer),
            _ => None,
        }
    }

    /// Frees the slot from a provisional link or a replacement with `peer`.
    pub(in crate::overlay) fn release(&mut self, peer: I) {
        if self.is_held_by(peer) || self.replacement() == Some(peer) {
            self.state = None;
        }
    }

    /// Makes this node the receiver of a handover by `coordinator`, to which it sends its terms with `nonce`.
    pub(in crate::overlay) fn start_receiving(
        &mut self,
        coordinator: I,
        nonce: u64,
        is_flip: bool,
        deadline: Time,
    ) {
        let receiver = Receiver::new(coordinator, nonce, is_flip, deadline);
        self.state = Some(HandoverState::Receiver(receiver));
    }

    /// Ends this node's part as the receiver of a handover by `coordinator`, whose answer was final.
    pub(in crate::overlay) fn end_receiving(&mut self, coordinator: I) {
        if let Some(HandoverState::Receiver(receiver)) = &self.state
            && receiver.part().coordinator() == coordinator
        {
            self.state = None;
        }
    }

    /// Returns the other end of the new link, if this node is one of its ends and knows the other.
    pub(in crate::overlay) fn expected(&self) -> Option<I> {
        self.part().and_then(Participant::other)
    }

    /// Returns whether a connection with `peer` of this direction is the one that the handover asks for.
    pub(in crate::overlay) fn expects(&self, peer: I, direction: Direction) -> bool {
        self.part()
            .is_some_and(|part| part.expects(peer, direction))
    }

    /// Returns whether the expected link may be one more than the limit: the moved node gets its place back when the
    /// coordinator closes the old link.
    pub(in crate::overlay) fn may_exceed_limit(&self) -> bool {
        matches!(self.state, Some(HandoverState::Moved(_)))
    }

    /// Returns the number of places that are kept for the link to be received.
    pub(in crate::overlay) fn reserved(&self, links: &LinkTable<I, A>) -> usize {
        match &self.state {
            Some(HandoverState::Receiver(receiver)) => {
                let other = receiver.part().other();
                usize::from(!other.is_some_and(|peer| links.contains(peer)))
            }
            _ => 0,
        }
    }

    pub(super) fn state(&self) -> Option<&HandoverState<I, A>> {
        self.state.as_ref()
    }

    /// Returns the moved node's part, if this node is one.
    pub(super) fn moved_mut(&mut self) -> Option<&mut Moved<I>> {
        match &mut self.state {
            Some(HandoverState::Moved(moved)) => Some(moved),
            _ => None,
        }
    }

    /// Makes this node the moved node of a handover.
    pub(super) fn start_moved(&mut self, moved: Moved<I>) {
        self.state = Some(HandoverState::Moved(moved));
    }

    pub(super) fn is_receiver(&self) -> bool {
        matches!(self.state, Some(HandoverState::Receiver(_)))
    }

    /// Returns whether this node awaits a link as the receiver of this handover.
    pub(super) fn is_receiving(&self, coordinator: I, nonce: u64) -> bool {
        let part = self.part().filter(|_| self.is_receiver());
        part.is_some_and(|part| part.is_of(coordinator, nonce) && !part.is_attached())
    }

    /// Returns whether the last handover with this nonce has given this node the link with `peer`.
    pub(super) fn was_received(&self, nonce: u64, peer: I) -> bool {
        self.last_received == Some((nonce, peer))
    }

    /// Takes the receiver's part, which has got the link with `other`, and frees the slot.
    pub(super) fn take_received(&mut self, other: I) -> Option<Receiver<I>> {
        match self.state.take() {
            Some(HandoverState::Receiver(receiver)) => {
                self.last_received = Some((receiver.part().nonce(), other));
                Some(receiver)
            }
            state => {
                self.state = state;
                None
            }
        }
    }

    /// Takes the moved node's part if both ends have agreed on the new link, and frees the slot.
    pub(super) fn take_completed(&mut self) -> Option<Moved<I>> {
        match self.state.take() {
            Some(HandoverState::Moved(moved)) if moved.part().is_attached() => Some(moved),
            state => {
                self.state = state;
                None
            }
        }
    }

    pub(super) fn part(&self) -> Option<&Participant<I>> {
        self.state.as_ref().and_then(HandoverState::part)
    }

    pub(super) fn part_mut(&mut self) -> Option<&mut Participant<I>> {
        self.state.as_mut().and_then(HandoverState::part_mut)
    }

    /// Takes this node's part as one end of the new link, and frees the slot.
    pub(super) fn take_part(&mut self) -> Option<Participant<I>> {
        self.part()?;
        match self.state.take()? {
            HandoverState::Moved(moved) => Some(moved.into_part()),
            HandoverState::Receiver(receiver) => Some(receiver.into_part()),
            _ => None,
        }
    }

    /// Splits a link for a newcomer. Returns none when no link can be split.
    pub(in crate::overlay) fn start_split<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        newcomer: I,
        terms: Terms<I, A>,
    ) -> Option<Next<I, A>> {
        let (coordinator, progress) = Coordinator::start_split(cx, newcomer, terms)?;
        self.state = Some(HandoverState::Coordinator(coordinator));
        Some(self.advance(cx, progress))
    }

    /// Moves a link to a neighbour. Returns whether there is one to ask.
    pub(in crate::overlay) fn start_move<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        reason: MoveReason<I>,
    ) -> bool {
        let coordinator = Coordinator::start_move(cx, reason);
        self.start(coordinator)
    }

    /// Moves a link to `receiver`.
    pub(in crate::overlay) fn start_move_to<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        reason: MoveReason<I>,
        receiver: I,
    ) {
        let coordinator = Coordinator::start_move_to(cx, reason, vec![receiver]);
        self.start(coordinator);
    }

    fn start(&mut self, coordinator: Option<Coordinator<I, A>>) -> bool {
        let is_started = coordinator.is_some();
        if let Some(coordinator) = coordinator {
            self.state = Some(HandoverState::Coordinator(coordinator));
        }
        is_started
    }

    /// Handles a neighbour's answer to a ProposeHandover.
    pub(in crate::overlay) fn on_handover_reply<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        terms: Option<Terms<I, A>>,
    ) -> Next<I, A> {
        if let Some(HandoverState::Coordinator(_)) = &self.state {
            return self.coordinate(cx, |role, cx| role.on_handover_reply(cx, from, terms));
        }
        if let Some(terms) = terms {
            cx.send_cancel(from, terms.nonce, true);
        }
        Next::Nothing
    }

    /// Handles the answer to a redirect hint: the peer's addresses if it has agreed.
    pub(in crate::overlay) fn on_redirected<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        nonce: u64,
        agreed: Option<Arc<[A]>>,
    ) -> Next<I, A> {
        self.coordinate(cx, |role, cx| role.on_redirected(cx, from, nonce, agreed))
    }

    /// Handles a neighbour's answer to the request to drop a redundant link.
    pub(in crate::overlay) fn on_drop_reply<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        is_agreed: bool,
    ) -> Next<I, A> {
        self.coordinate(cx, |role, cx| role.on_drop_reply(cx, from, is_agreed))
    }

    /// Handles a Report: from an end of the new link to the coordinator, or from the coordinator to a newcomer for which it has
    /// made room.
    pub(in crate::overlay) fn on_report<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        nonce: u64,
        linked: bool,
    ) -> Next<I, A> {
        if let Some(HandoverState::Coordinator(_)) = &self.state {
            return self.coordinate(cx, |role, cx| role.on_report(cx, from, nonce, linked));
        }
        if linked {
            self.end_receiving(from);
            cx.core.links.grant(from);
        }
        Next::Nothing
    }

    /// Lets the coordinator take a step, if this node is one.
    pub(super) fn coordinate<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        step: impl FnOnce(&mut Coordinator<I, A>, &mut Context<'_, I, A, R>) -> Progress<I>,
    ) -> Next<I, A> {
        match &mut self.state {
            Some(HandoverState::Coordinator(coordinator)) => {
                let progress = step(coordinator, cx);
                self.advance(cx, progress)
            }
            _ => Next::Nothing,
        }
    }

    fn advance<R: Rng>(&mut self, cx: &Context<'_, I, A, R>, progress: Progress<I>) -> Next<I, A> {
        match progress {
            Progress::Running => Next::Nothing,
            Progress::Ended => {
                self.state = None;
                Next::Nothing
            }
            Progress::DialAnchor => {
                self.state = None;
                Next::DialAnchor
            }
            Progress::Provisional(peer) => {
                self.hold_provisional(peer, cx.now + cx.core.options.provisional_timeout);
                Next::Nothing
            }
        }
    }
}
