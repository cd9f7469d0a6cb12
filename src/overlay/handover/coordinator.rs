//! The coordinator of a handover: it moves one of its links to the receiver, a newcomer or a neighbour.
//!
//! Entry type: [`Coordinator`]. The rule it keeps: the link with the moved node is closed only after both the receiver and the
//! moved node have confirmed the new link; on any other outcome it stays.

mod choice;
mod redirect;
mod redundant_link;
mod timeouts;

use rand::Rng;

use crate::clock::Time;
use crate::overlay::address::{Address, NodeId};
use crate::overlay::context::Context;
use crate::overlay::event::Reason;
use crate::overlay::message::{Request, Terms};
use crate::overlay::requests::Pending;
use choice::{movable_links, pick_candidates};
pub(super) use redundant_link::is_redundant;

/// The reason for which a link is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::overlay) enum MoveReason<I> {
    /// A newcomer receives it.
    Split,
    /// To make room for the provisional link with this peer.
    Room(I),
    /// To mix the graph; the receiver returns a link afterwards.
    Flip,
    /// The second half of a flip.
    Return,
    /// To make room for a link with an anchor.
    Swap,
}

/// The state of the handover after a step.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::overlay) enum Progress<I> {
    /// Answers are awaited.
    Running,
    /// The handover is over.
    Ended,
    /// The handover is over, and there is room for a link with an anchor.
    DialAnchor,
    /// The handover is over without room for this peer, whose link is provisional again until the peer goes.
    Provisional(I),
}

/// The coordinator's part.
#[derive(Clone, Debug)]
pub(in crate::overlay) struct Coordinator<I, A> {
    reason: MoveReason<I>,
    /// Neighbours that may still be asked to receive the link, the next one last.
    candidates: Vec<I>,
    /// The receiver that is asked, or has agreed.
    receiver: I,
    /// The receiver's terms, once it has agreed.
    terms: Option<Terms<I, A>>,
    /// Peers of links that may move, the next one last; drawn when the terms are known.
    movable: Vec<I>,
    /// The peer of the link that moves.
    moved: Option<I>,
    /// Neighbours that may still be asked to drop a redundant link, when no receiver has room.
    droppable: Option<Vec<I>>,
    receiver_confirmed: bool,
    moved_confirmed: bool,
    /// The peer of which an answer is awaited, and its timeout.
    awaited: Option<(I, Time)>,
    /// Timeout of the whole handover.
    deadline: Time,
}

impl<I: NodeId, A: Address> Coordinator<I, A> {
    fn new<R: Rng>(
        cx: &Context<'_, I, A, R>,
        reason: MoveReason<I>,
        receiver: I,
        candidates: Vec<I>,
    ) -> Coordinator<I, A> {
        Coordinator {
            reason,
            candidates,
            receiver,
            terms: None,
            movable: Vec::new(),
            moved: None,
            droppable: None,
            receiver_confirmed: false,
            moved_confirmed: false,
            awaited: None,
            deadline: cx.now + cx.core.options.coordinator_timeout,
        }
    }

    /// Splits a link for a newcomer, which has joined on these terms. Returns none when no link can be split.
    pub(in crate::overlay) fn start_split<R: Rng>(
        cx: &mut Context<'_, I, A, R>,
        newcomer: I,
        terms: Terms<I, A>,
    ) -> Option<(Coordinator<I, A>, Progress<I>)> {
        let movable = movable_links(cx, newcomer, &terms.links);
        if movable.is_empty() {
            return None;
        }
        let mut coordinator = Coordinator::new(cx, MoveReason::Split, newcomer, Vec::new());
        (coordinator.terms, coordinator.movable) = (Some(terms), movable);
        let progress = coordinator.try_next_move(cx);
        Some((coordinator, progress))
    }

    /// Moves a link to a neighbour. Returns none when there is no neighbour to ask.
    pub(in crate::overlay) fn start_move<R: Rng>(
        cx: &mut Context<'_, I, A, R>,
        reason: MoveReason<I>,
    ) -> Option<Coordinator<I, A>> {
        let mut candidates = pick_candidates(cx);
        candidates.retain(|peer| !cx.is_penalised(*peer));
        Coordinator::start_move_to(cx, reason, candidates)
    }

    /// Moves a link to one of `candidates`, which are asked in turn, the last one first.
    pub(in crate::overlay) fn start_move_to<R: Rng>(
        cx: &mut Context<'_, I, A, R>,
        reason: MoveReason<I>,
        mut candidates: Vec<I>,
    ) -> Option<Coordinator<I, A>> {
        let receiver = candidates.pop()?;
        let mut coordinator = Coordinator::new(cx, reason, receiver, candidates);
        coordinator.propose(cx, receiver);
        Some(coordinator)
    }

    fn propose<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>, receiver: I) {
        self.receiver = receiver;
        let pair = self.reason == MoveReason::Flip;
        self.await_answer(cx, receiver);
        cx.send(
            receiver,
            Pending::ProposeHandover,
            Request::ProposeHandover { pair },
        );
    }

    /// Takes a neighbour's answer to the question whether it receives a link.
    pub(super) fn on_handover_reply<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        terms: Option<Terms<I, A>>,
    ) -> Progress<I> {
        let is_asked = self.receiver == from && self.terms.is_none();
        match terms {
            Some(mut terms) if is_asked => {
                self.end_await(from);
                terms.addresses = cx.core.usable_addresses(from, &terms);
                terms.dialable = !terms.addresses.is_empty();
                self.movable = movable_links(cx, from, &terms.links);
                self.terms = Some(terms);
                self.try_next_move(cx)
            }
            Some(terms) => {
                cx.send_cancel(from, terms.nonce, true);
                Progress::Running
            }
            None if is_asked => self.try_next_candidate(cx),
            None => Progress::Running,
        }
    }

    /// Asks the next neighbour to receive the link, or else one to drop a redundant link.
    fn try_next_candidate<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) -> Progress<I> {
        self.terms = None;
        match self.candidates.pop() {
            Some(receiver) => {
                self.propose(cx, receiver);
                Progress::Running
            }
            None => self.try_drop_next(cx),
        }
    }

    /// Takes the report of the moved node or of the receiver on whether they are linked.
    pub(super) fn on_report<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        nonce: u64,
        linked: bool,
    ) -> Progress<I> {
        if self.nonce() != Some(nonce) {
            return Progress::Running;
        }
        self.end_await(from);
        if from == self.receiver {
            self.receiver_confirmed = linked;
        } else if Some(from) == self.moved {
            self.moved_confirmed = linked;
        } else {
            return Progress::Running;
        }
        if self.receiver_confirmed && self.moved_confirmed {
            return self.commit(cx);
        }
        if linked {
            return Progress::Running;
        }
        if self.moved != Some(from) {
            self.cancel_moved(cx, nonce);
        }
        self.try_next_move(cx)
    }

    /// Closes the old link, because both ends have confirmed the new one.
    pub(super) fn commit<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) -> Progress<I> {
        cx.core.links.record_move(cx.now);
        cx.core.links.confirm(self.receiver);
        if let Some(moved) = self.moved {
            cx.close(moved, Reason::Handover);
        }
        match self.reason {
            MoveReason::Room(peer) => {
                cx.core.links.confirm(peer);
                let (nonce, linked) = (self.nonce().unwrap_or(0), true);
                cx.notify(peer, Request::Report { nonce, linked });
                Progress::Ended
            }
            MoveReason::Swap => Progress::DialAnchor,
            MoveReason::Split | MoveReason::Flip | MoveReason::Return => Progress::Ended,
        }
    }

    /// Ends the handover; the old link stays. A peer for which there is no room gets contacts, and a moment to go by itself.
    pub(super) fn abort<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) -> Progress<I> {
        let nonce = self.nonce();
        if let Some(nonce) = nonce {
            self.cancel_moved(cx, nonce);
        }
        let newcomer = match self.reason {
            MoveReason::Split => Some(self.receiver),
            MoveReason::Room(peer) => Some(peer),
            MoveReason::Flip | MoveReason::Return | MoveReason::Swap => None,
        };
        if let Some(nonce) = nonce.filter(|_| newcomer != Some(self.receiver)) {
            cx.send_cancel(self.receiver, nonce, true);
        }
        let eviction = cx.eviction();
        let is_swap = self.reason == MoveReason::Swap;
        if is_swap && eviction.lacks_own_links() && eviction.can_replace() {
            // No neighbour takes part in the move: the link of this node's own choice replaces another one.
            return Progress::DialAnchor;
        }
        let Some(newcomer) = newcomer.filter(|peer| cx.core.links.contains(*peer)) else {
            return Progress::Ended;
        };
        let has_room = cx.core.links.len() <= cx.core.options.max_links;
        let keep = has_room || cx.make_room(newcomer);
        if keep {
            cx.core.links.confirm(newcomer);
        }
        cx.send_cancel(newcomer, nonce.unwrap_or(0), keep);
        match keep {
            true => Progress::Ended,
            false => Progress::Provisional(newcomer),
        }
    }

    /// Aborts the handover if the link that has ended belongs to it.
    pub(super) fn on_link_down<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        peer: I,
    ) -> Progress<I> {
        let is_newcomer = self.reason == MoveReason::Room(peer);
        match is_newcomer || self.moved == Some(peer) || self.receiver == peer {
            true => self.abort(cx),
            false => Progress::Running,
        }
    }

    fn nonce(&self) -> Option<u64> {
        self.terms.as_ref().map(|terms| terms.nonce)
    }

    fn cancel_moved<R: Rng>(&self, cx: &mut Context<'_, I, A, R>, nonce: u64) {
        if let Some(moved) = self.moved {
            cx.send_cancel(moved, nonce, true);
        }
    }

    fn await_answer<R: Rng>(&mut self, cx: &Context<'_, I, A, R>, from: I) {
        self.awaited = Some((from, cx.now + cx.core.options.answer_timeout));
    }

    fn end_await(&mut self, from: I) {
        if self.awaited.is_some_and(|(awaited, _)| awaited == from) {
            self.awaited = None;
        }
    }
}
