//! Room where everybody is full: one edge of a triangle goes.
//!
//! Entry type: [`Overlay`]. The rule kept here: the edge goes only while both its ends are locked
//! and have a third node in common, so that they stay connected by it.

use rand::Rng;

use super::address::Address;
use super::event::*;
use super::link::{Link, Lock, Why};
use super::message::{Request, Response};
use super::options::MAX_NAMED_LINKS;
use super::state::{Overlay, Sent};
use crate::clock::Time;

impl<I, A, R> Overlay<I, A, R>
where
    I: Copy + Ord + std::hash::Hash + std::fmt::Debug,
    A: Address,
    R: Rng,
{
    /// No neighbour has room to take a link. For a visitor or an anchor one edge of a triangle may
    /// go instead: its ends stay connected by the third node, since both are locked meanwhile, and
    /// so no second edge of the triangle can go. Without this, full components never meet again.
    pub(super) fn next_thinning(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        let Some(Lock::Give(give)) = &mut self.lock else {
            return;
        };
        if !matches!(give.why, Why::Room(_) | Why::Swap) {
            return self.abort_give(now, out);
        }
        let mut candidates = match give.thinning.take() {
            Some(candidates) => candidates,
            None => self.takers(now),
        };
        let Some(to) = candidates.pop() else {
            return self.abort_give(now, out);
        };
        let Some(Lock::Give(give)) = &mut self.lock else {
            return;
        };
        give.taker = to;
        give.thinning = Some(candidates);
        give.awaited = Some((to, now + self.options.answer_timeout));
        let settled = self
            .links
            .iter()
            .filter(|link| link.settled && link.peer != to);
        let links = settled
            .map(|link| link.peer)
            .take(MAX_NAMED_LINKS)
            .collect();
        self.send(
            to,
            Sent::DropRedundantLink,
            Request::DropRedundantLink { links },
            out,
        );
    }

    /// A neighbour asks to do without our link.
    pub(super) fn on_thin(&mut self, now: Time, from: I, links: &[I]) -> Response<I, A> {
        let settled = |link: &&Link<I, A>| link.settled && !link.plain && link.peer != from;
        let shared = self
            .links
            .iter()
            .filter(settled)
            .any(|link| links.contains(&link.peer));
        let spare = self.links.len() > self.options.wanted_links;
        let ok = self.lock.is_none() && shared && spare && !self.penalised(now, from);
        if ok {
            let deadline = now + self.options.visit_timeout;
            self.lock = Some(Lock::Visit {
                peer: from,
                deadline,
            });
            if let Some(link) = self.link_mut(from) {
                link.thinned = true;
            }
        }
        Response::Done { ok }
    }

    /// The neighbour has answered.
    pub(super) fn on_thinned(&mut self, now: Time, from: I, ok: bool, out: &mut Vec<Output<I, A>>) {
        let asked = match &self.lock {
            Some(Lock::Give(give)) => give.thinning.is_some() && give.taker == from,
            _ => false,
        };
        if !asked {
            return;
        }
        if ok {
            self.close(from, Reason::Surplus, out);
            self.commit_give(now, out);
        } else {
            self.next_thinning(now, out);
        }
    }
}
