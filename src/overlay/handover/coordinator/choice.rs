//! The choice of the neighbours that a coordinator asks, and of the links that it may move.
//!
//! Entry functions: [`pick_candidates`], [`movable_links`]. The rule they keep: only confirmed links take part with peers that
//! speak the overlay and answer, in random order; the oldest link of this node's own choice is never moved.

use rand::Rng;
use rand::seq::SliceRandom;

use crate::overlay::address::{Address, NodeId};
use crate::overlay::context::Context;
use crate::overlay::link::{Link, Origin};
use crate::overlay::options::MAX_RETRIES;

/// Maximum number of neighbours that are asked to receive a link before the node counts as without room.
const MAX_CANDIDATES: usize = 3;

/// Number of links of this node's own choice that are never moved, the oldest: a peer that joins again and again can be given
/// all the others.
const KEPT: usize = 1;

/// Returns some neighbours that may be asked to take part in a move, in random order.
pub(super) fn pick_candidates<I: NodeId, A: Address, R: Rng>(
    cx: &mut Context<'_, I, A, R>,
) -> Vec<I> {
    let eviction = cx.eviction();
    let able = cx.core.links.iter().filter(|link| eviction.is_able(link));
    let mut candidates: Vec<I> = able.map(Link::peer).collect();
    candidates.shuffle(&mut cx.core.rng);
    candidates.truncate(MAX_CANDIDATES);
    candidates
}

/// Returns the peers of links that may move to `receiver`, which has links with the peers `taken`, in random order; those that
/// others have picked are last, to be moved first, so that a flip does not add to them.
pub(super) fn movable_links<I: NodeId, A: Address, R: Rng>(
    cx: &mut Context<'_, I, A, R>,
    receiver: I,
    taken: &[I],
) -> Vec<I> {
    let eviction = cx.eviction();
    let links = &cx.core.links;
    let own = links.iter().filter(|link| link.is_own_choice());
    let kept: Vec<I> = own.map(Link::peer).take(KEPT).collect();
    let fit = |link: &&Link<I, A>| {
        let peer = link.peer();
        let is_free = peer != receiver && !taken.contains(&peer) && !kept.contains(&peer);
        eviction.is_able(link) && is_free
    };
    let movable = links.iter().filter(fit);
    let mut movable: Vec<(bool, I)> = movable
        .map(|link| (link.origin() == Origin::Hint, link.peer()))
        .collect();
    movable.shuffle(&mut cx.core.rng);
    movable.sort_by_key(|(is_hinted, _)| *is_hinted);
    let from = movable.len().saturating_sub(1 + MAX_RETRIES);
    movable.drain(from..).map(|(_, peer)| peer).collect()
}
