//! Joins: how this node joins through a peer that it has dialled, and how it serves a newcomer.
//!
//! Entry types: [`join`], [`JoinServer`]. The rules they keep: only a fresh inbound link may join, once; a newcomer gets two links
//! at most; and a false claim that it makes about itself costs only itself.

use rand::{Rng, RngExt};

use super::address::{Address, NodeId};
use super::context::Context;
use super::event::{Direction, Purpose};
use super::handover::{HandoverSlot, MoveReason, Next, Receiver};
use super::message::{Answer, Request, Response, Terms};
use super::options::MAX_CONTACTS;
use super::requests::Pending;

/// Maximum number of nonces of served joins that are remembered: more than can be served while one of them is open.
const MAX_NONCES: usize = 32;

/// Joins through a peer that this node has dialled for `purpose`: for two links if there is room for both, and the slot for
/// handovers is free.
pub(super) fn join<I: NodeId, A: Address, R: Rng>(
    cx: &mut Context<'_, I, A, R>,
    slot: &mut HandoverSlot<I, A>,
    peer: I,
    purpose: Option<Purpose<I>>,
) {
    let others = cx.core.links.occupied() - 1;
    let has_room = others + 2 <= cx.core.options.max_links && slot.is_free();
    let need = match purpose {
        Some(Purpose::TopUp) => 0,
        Some(Purpose::Anchor) => 1,
        _ if has_room && Receiver::<I>::may_start(cx.core) => 2,
        _ => 1,
    };
    let nonce = cx.core.rng.random();
    if need == 2 {
        let deadline = cx.now + cx.core.options.participant_timeout;
        slot.start_receiving(peer, nonce, false, deadline);
    }
    if let Some(link) = cx.core.links.get_mut(peer) {
        link.mark_revocable();
    }
    let terms = cx.core.terms(peer, nonce);
    cx.send(peer, Pending::Join, Request::Join { terms, need });
}

/// Serves newcomers.
#[derive(Clone, Debug)]
pub(super) struct JoinServer {
    /// Nonces of joins that were served, the newest first.
    nonces: Vec<u64>,
}

/// A Join that is served.
struct Newcomer<I, A> {
    peer: I,
    terms: Terms<I, A>,
    need: u32,
    /// Number of this node's other links.
    others: usize,
    /// There is a place for the newcomer without a handover.
    has_room: bool,
    /// The slot for handovers is free or held by the newcomer's provisional link, and no earlier handover with it has failed.
    may_hand_over: bool,
}

impl JoinServer {
    pub(super) fn new() -> JoinServer {
        JoinServer { nonces: Vec::new() }
    }

    /// Handles a Join of the linked peer `from`.
    pub(super) fn on_join<I: NodeId, A: Address, R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        slot: &mut HandoverSlot<I, A>,
        from: I,
        terms: Terms<I, A>,
        need: u32,
    ) -> (Response<I, A>, Next<I, A>) {
        let listens = cx.core.record_listens(from, &terms);
        let others = cx.core.links.len().saturating_sub(1);
        let has_place = others < cx.core.options.max_links;
        if let Some(answer) = self.check(cx, from, terms.nonce, has_place) {
            let contacts = Vec::new();
            return (Response::Joined { answer, contacts }, Next::Nothing);
        }
        if slot.expected() == Some(from) && slot.fail_unattached(cx) {
            // It was expected for a handover, but it has dialled by itself. On a full node its link is provisional.
            if !has_place && slot.is_free() {
                slot.hold_provisional(from, cx.now + cx.core.options.provisional_timeout);
            }
        }
        let contacts = cx.core.contacts_for_link(from, MAX_CONTACTS);
        let is_provisional = slot.is_held_by(from);
        let link = cx.core.links.get(from);
        // A link that had a place from the beginning keeps it, though another peer was admitted meanwhile.
        let has_room = has_place || link.is_some_and(|link| link.is_confirmed());
        let may_hand_over = (slot.is_free() || is_provisional) && !cx.is_penalised(from);
        if has_room {
            if is_provisional {
                // Another link has ended meanwhile: the newcomer's is within the limit now.
                slot.clear();
            }
            cx.core.links.confirm(from);
        }
        let newcomer = Newcomer {
            peer: from,
            terms: Terms {
                dialable: !listens.is_empty(),
                addresses: listens,
                ..terms
            },
            need,
            others,
            has_room,
            may_hand_over,
        };
        let (answer, next) = newcomer.serve(cx, slot);
        (Response::Joined { answer, contacts }, next)
    }

    /// Answers a Join that is not served: a second one on its link, one with a nonce that was used before, and one on a link that
    /// this node has dialled as well. Records any other as served.
    fn check<I: NodeId, A: Address, R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        from: I,
        nonce: u64,
        has_place: bool,
    ) -> Option<Answer> {
        let is_repeated = self.nonces.contains(&nonce);
        let link = cx.core.links.get_mut(from)?;
        let is_second = link.mark_joined();
        // Two nodes that dialled each other at once may each keep their own connection: then both join.
        let is_crossed = link.direction() == Direction::Outbound && !is_second && !is_repeated;
        if is_crossed && has_place {
            link.confirm();
        }
        let answer = match link.is_confirmed() {
            true => Answer::Accepted,
            false => Answer::Refused,
        };
        if is_second || is_repeated {
            cx.report_offence(from, "joined twice");
        }
        if is_second || is_repeated || is_crossed {
            return Some(answer);
        }
        self.nonces.truncate(MAX_NONCES - 1);
        self.nonces.insert(0, nonce);
        None
    }
}

impl<I: NodeId, A: Address> Newcomer<I, A> {
    /// Decides whether the newcomer's link stays, and starts the handover that it needs.
    fn serve<R: Rng>(
        self,
        cx: &mut Context<'_, I, A, R>,
        slot: &mut HandoverSlot<I, A>,
    ) -> (Answer, Next<I, A>) {
        // Below the wanted number of links the newcomer is taken as it is; so is one with two links already while there is room,
        // which brings mean degrees from 4 near to 5.
        let is_wanted = self.others < cx.core.options.wanted_links || self.terms.links.len() > 2;
        if self.has_room && (is_wanted || !self.may_hand_over) {
            return (Answer::Accepted, Next::Nothing);
        }
        let (may_split, may_move) = (
            self.need >= 2 && self.may_hand_over,
            self.need >= 1 && self.may_hand_over,
        );
        if may_split && let Some(next) = slot.start_split(cx, self.peer, self.terms) {
            return (Answer::Split, next);
        }
        if self.has_room {
            return (Answer::Accepted, Next::Nothing);
        }
        if may_move && slot.start_move(cx, MoveReason::Room(self.peer)) {
            return (Answer::Pending, Next::Nothing);
        }
        // No neighbour can receive a link: an idle or crowded one yields.
        if may_move && cx.make_room(self.peer) {
            slot.clear();
            cx.core.links.confirm(self.peer);
            return (Answer::Accepted, Next::Nothing);
        }
        (Answer::Refused, Next::Nothing)
    }
}
