//! Upkeep: the moves that keep the graph random, once in each round: shuffle, flip, anchor swap, top-up.
//!
//! The shuffle is HyParView's (Leitão et al., 2007), between neighbours instead of over a random walk: a walk's end would need a
//! connection of its own. A flip is a 1-flipper step (Mahlmann and Schindelhauer, 2005) in two handovers, there and back, so that
//! the graph stays connected after either of them.
//!
//! Entry type: [`Upkeep`]. The rule it keeps: one move in a round at most, and newcomers that wait have priority over it.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::address::{Address, NodeId};
use super::context::Context;
use super::dialer::Dialer;
use super::handover::{HandoverSlot, MoveReason};
use super::link::Link;
use super::message::{Contact, Request, Response};
use super::options::{MAX_CONTACTS, MAX_OFFERED};
use super::requests::Pending;
use crate::clock::Time;

/// Share of the rounds in which a full node that has too few links of its own choice asks for one to move, while none of its
/// links is idle.
const OWN_LINK_ROUNDS: f64 = 0.3;
/// Time after which the receiver of a flip returns a link: the coordinator has both Reports by then and is free again.
const RETURN_DELAY: Duration = Duration::from_secs(1);

/// The rounds of one node.
#[derive(Clone, Debug)]
pub(super) struct Upkeep<I> {
    next_round: Time,
    /// The peer to which a link is to be returned for a flip, and when.
    owed: Option<(I, Time)>,
}

impl<I: NodeId> Upkeep<I> {
    pub(super) fn new(first_round: Time) -> Upkeep<I> {
        Upkeep {
            next_round: first_round,
            owed: None,
        }
    }

    pub(super) fn deadline(&self) -> Time {
        let owed = self.owed.map_or(self.next_round, |(_, at)| at);
        owed.min(self.next_round)
    }

    /// Schedules the return of a link to `peer`.
    pub(super) fn owe_link(&mut self, now: Time, peer: I) {
        self.owed = Some((peer, now + RETURN_DELAY));
    }

    /// Runs everything that is due: returns a link, probes a silent peer, and starts a round.
    pub(super) fn run<A: Address, R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        slot: &mut HandoverSlot<I, A>,
        dialer: &mut Dialer<I, A>,
    ) {
        self.return_link(cx, slot);
        probe(cx);
        if cx.now < self.next_round {
            return;
        }
        self.next_round = cx.now + cx.core.jitter(cx.core.options.round);
        if cx.core.links.is_empty() {
            return;
        }
        if cx.core.rng.random_bool(cx.core.options.shuffle) {
            shuffle(cx);
        }
        let is_waited_for = cx.core.waitlist.has_priority(cx.now, &cx.core.options);
        if slot.is_free() && !is_waited_for && !dialer.is_dialling_anchor() {
            cx.core.waitlist.record_own_turn(cx.now);
            start_move(cx, slot, dialer);
        }
    }

    /// Returns a link for a flip in which this node was the receiver.
    fn return_link<A: Address, R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        slot: &mut HandoverSlot<I, A>,
    ) {
        let Some((peer, _)) = self.owed.filter(|(_, at)| *at <= cx.now) else {
            return;
        };
        self.owed = None;
        let links = &cx.core.links;
        let has_spare = links.len() > cx.core.options.wanted_links;
        if slot.is_free() && links.contains(peer) && has_spare {
            slot.start_move_to(cx, MoveReason::Return, peer);
        }
    }
}

/// Starts at most one move, by chance.
fn start_move<I: NodeId, A: Address, R: Rng>(
    cx: &mut Context<'_, I, A, R>,
    slot: &mut HandoverSlot<I, A>,
    dialer: &mut Dialer<I, A>,
) {
    let is_full = cx.core.links.len() >= cx.core.options.max_links;
    let eviction = cx.eviction();
    let (lacks_own, has_idle) = (eviction.lacks_own_links(), eviction.has_idle());
    // Without an idle link only in some rounds: the other moves keep the graph random, and go on meanwhile.
    let wants_own = is_full && lacks_own && (has_idle || cx.core.rng.random_bool(OWN_LINK_ROUNDS));
    if wants_own {
        // By moving another link out of the way, or, when no neighbour takes part in that, in place of one.
        if !slot.start_move(cx, MoveReason::Swap) {
            dialer.dial_anchor(cx);
        }
    } else if cx.core.rng.random_bool(cx.core.options.anchor_swap) {
        match is_full {
            true => {
                slot.start_move(cx, MoveReason::Swap);
            }
            false => dialer.dial_anchor(cx),
        }
    } else if cx.core.rng.random_bool(cx.core.options.flip) {
        flip(cx, slot);
    } else if cx.core.rng.random_bool(cx.core.options.top_up) {
        // One link more than wanted: mean degrees near 5 cost one hop in eight less than 4 do.
        let is_enough = cx.core.links.len() >= cx.core.options.wanted_links;
        if is_enough && !is_full {
            dialer.dial_top_up(cx);
        }
    }
}

fn flip<I: NodeId, A: Address, R: Rng>(
    cx: &mut Context<'_, I, A, R>,
    slot: &mut HandoverSlot<I, A>,
) {
    if cx.core.links.len() >= cx.core.options.wanted_links
        && let Some(receiver) = random_link(cx)
    {
        slot.start_move_to(cx, MoveReason::Flip, receiver);
    }
}

/// Exchanges contacts with a random link.
fn shuffle<I: NodeId, A: Address, R: Rng>(cx: &mut Context<'_, I, A, R>) {
    let Some(to) = random_link(cx) else { return };
    let mut offered = cx.core.contacts_for_link(to, MAX_OFFERED - 1);
    let addresses = cx.core.listens_for(to);
    if !addresses.is_empty() {
        let id = cx.core.me;
        offered.push(Contact { id, addresses });
    }
    cx.send(to, Pending::Shuffle, Request::Shuffle { offered });
}

/// Handles a peer's Shuffle. Rate limit: its contacts are read once in half a round, so that no peer can fill the hearsay with
/// accomplices.
pub(super) fn on_shuffle<I: NodeId, A: Address, R: Rng>(
    cx: &mut Context<'_, I, A, R>,
    from: I,
    offered: Vec<Contact<I, A>>,
) -> Response<I, A> {
    let contacts = cx.core.contacts_for_link(from, MAX_CONTACTS);
    let interval = cx.core.options.round / 2;
    let link = cx.core.links.get_mut(from);
    if link.is_some_and(|link| link.try_offer(cx.now, interval)) {
        cx.core.learn_from_link(from, offered, MAX_OFFERED);
    }
    Response::Contacts(contacts)
}

/// Asks one link that has brought nothing yet for contacts, once: an honest peer that speaks the overlay answers.
fn probe<I: NodeId, A: Address, R: Rng>(cx: &mut Context<'_, I, A, R>) {
    let (now, after) = (cx.now, cx.core.options.first_after / 2);
    let mut links = cx
        .core
        .links
        .iter_mut()
        .filter(|link| link.is_full_member());
    let silent = links.find_map(|link| {
        let is_due = link.activity_mut().try_probe(now, after);
        is_due.then(|| link.peer())
    });
    if let Some(to) = silent {
        let offered = Vec::new();
        cx.send(to, Pending::Shuffle, Request::Shuffle { offered });
    }
}

fn random_link<I: NodeId, A: Address, R: Rng>(cx: &mut Context<'_, I, A, R>) -> Option<I> {
    let links = cx.core.links.iter().filter(|link| link.is_full_member());
    let able: Vec<I> = links.map(Link::peer).collect();
    (!able.is_empty()).then(|| able[cx.core.rng.random_range(0..able.len())])
}
