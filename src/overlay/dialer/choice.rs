//! The choice of peers to dial: entry nodes, verified peers, hearsay, and anchors.
//!
//! Entry function: [`Dialer::run`]. The rule it keeps: without links the entry nodes are first; with too few they are first in
//! half of the cases, and in the others they are dialled only when no other peer is known.

use rand::{Rng, RngExt};

use super::{Dialer, EntryNode, QUICK_INTERVAL, backoff};
use crate::overlay::address::{Address, NodeId};
use crate::overlay::context::{Context, Core};
use crate::overlay::event::{Purpose, Report, Target};
use crate::overlay::link::Link;
use crate::overlay::message::Request;
use crate::overlay::peer_store::Known;
use crate::overlay::requests::Pending;

impl<I: NodeId, A: Address> Dialer<I, A> {
    /// Starts all dials that are due. `is_free` says that the node is in no handover.
    pub(in crate::overlay) fn run<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>, is_free: bool) {
        while self.is_due(cx.core, cx.now, is_free) {
            if !self.dial_next(cx) {
                self.on_none_to_dial(cx);
            }
        }
    }

    /// Dials a peer. Returns whether there was one to dial.
    fn dial_next<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) -> bool {
        if cx.core.links.len() >= cx.core.options.min_links {
            return self.dial_picked(cx);
        }
        let is_entry_first = cx.core.links.is_empty() || !cx.core.rng.random_bool(0.5);
        (is_entry_first && self.dial_entry(cx))
            || self.dial_picked(cx)
            || (!is_entry_first && self.dial_entry(cx))
    }

    /// Dials a random entry node without a running back-off. Returns whether there was one.
    fn dial_entry<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) -> bool {
        let engaged = self.engaged(cx.core);
        let is_ready = |at: &usize| {
            let entry = &self.entries[*at];
            let is_free = entry.seen.is_none_or(|id| !engaged.contains(&id));
            entry.retry_at <= cx.now && !self.is_dialling_entry(*at) && is_free
        };
        let ready: Vec<usize> = (0..self.entries.len()).filter(is_ready).collect();
        if ready.is_empty() {
            return false;
        }
        let at = ready[cx.core.rng.random_range(0..ready.len())];
        self.dial(cx, self.entries[at].id, Target::Entry(at), Purpose::Entry);
        true
    }

    fn dial_picked<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) -> bool {
        match self.pick(cx) {
            Some(known) => self.dial_known(cx, known, Purpose::Seek),
            None => false,
        }
    }

    /// Dials one peer more than wanted, if one is known.
    pub(in crate::overlay) fn dial_top_up<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) {
        if let Some(known) = self.pick(cx) {
            self.dial_known(cx, known, Purpose::TopUp);
        }
    }

    /// Picks a known peer that is neither linked nor being dialled.
    fn pick<R: Rng>(&self, cx: &mut Context<'_, I, A, R>) -> Option<Known<I, A>> {
        let engaged = self.engaged(cx.core);
        let opens_at = |addresses: &[A]| self.limiter.opens_at(cx.now, addresses);
        let Core { peers, rng, .. } = &mut *cx.core;
        peers.pick(cx.now, rng, |id| !engaged.contains(&id), opens_at)
    }

    /// Dials a peer of this node's own choice: an anchor, or else an entry node, or else any verified peer, or else an entry
    /// node that has never answered.
    pub(in crate::overlay) fn dial_anchor<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) {
        let engaged = self.engaged(cx.core);
        let is_free = |id: I| !engaged.contains(&id);
        let Core { peers, rng, .. } = &mut *cx.core;
        if let Some(known) = peers.pick_anchor(cx.now, rng, is_free) {
            self.dial_known(cx, known, Purpose::Anchor);
            return;
        }
        let mut entries = self.entries.iter();
        if let Some(at) = entries.position(|entry| entry.seen.is_some_and(is_free)) {
            return self.dial(
                cx,
                self.entries[at].seen,
                Target::Entry(at),
                Purpose::Anchor,
            );
        }
        let opens_at = |addresses: &[A]| self.limiter.opens_at(cx.now, addresses);
        if let Some(known) = peers.pick_verified(cx.now, rng, is_free, opens_at) {
            self.dial_known(cx, known, Purpose::Anchor);
            return;
        }
        let is_unseen = |at: &usize| {
            let entry = &self.entries[*at];
            entry.seen.is_none() && entry.retry_at <= cx.now && !self.is_dialling_entry(*at)
        };
        if let Some(at) = (0..self.entries.len()).find(is_unseen) {
            self.dial(cx, None, Target::Entry(at), Purpose::Anchor);
        }
    }

    /// Asks a linked peer for contacts, and waits until a known peer may be dialled again.
    fn on_none_to_dial<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>) {
        let links = cx.core.links.iter().filter(|link| !link.is_plain());
        let able: Vec<I> = links.map(Link::peer).collect();
        if !able.is_empty() {
            let to = able[cx.core.rng.random_range(0..able.len())];
            let offered = Vec::new();
            cx.send(to, Pending::Shuffle, Request::Shuffle { offered });
        }
        let engaged = self.engaged(cx.core);
        let opens_at = |addresses: &[A]| self.limiter.opens_at(cx.now, addresses);
        let peers = &cx.core.peers;
        let known = peers.next_retry(|id| !engaged.contains(&id), opens_at);
        let is_free = |entry: &&EntryNode<I>| entry.seen.is_none_or(|id| !engaged.contains(&id));
        let entries = self.entries.iter().filter(is_free);
        let entries = entries.map(|entry| entry.retry_at).min();
        let entries = entries.filter(|_| cx.core.links.len() < cx.core.options.min_links);
        let next = known.into_iter().chain(entries);
        let next = next.filter(|at| *at > cx.now).min();
        // While a dial is in flight its outcome decides.
        if !able.is_empty() || (next.is_none() && !self.is_dialling()) {
            self.count_failure();
        }
        let max = cx.core.options.max_backoff;
        let wait = backoff(cx, self.failures, max);
        let wait = next.map_or(wait, |next| {
            next.since(cx.now).min(wait).max(QUICK_INTERVAL)
        });
        self.next_at = cx.now + wait;
        if cx.core.links.is_empty() && !self.is_dialling() && self.failures > 0 {
            let (failures, backoff) = (self.failures, wait);
            cx.report(Report::Searching { failures, backoff });
        }
    }
}
