//! The side that moves a link: E moves its link with F to C, where C is a newcomer (a split) or a
//! neighbour (a flip, or room for a visitor).
//!
//! This is one half of the 1-flipper (Mahlmann and Schindelhauer, 2005): the edge E–F becomes C–F
//! while E–C stays, so that a walk over E–F can go E–C–F and the graph stays connected.
//!
//! The rule kept here: E–F is dropped only with both words, C's and F's; every other end keeps it.

use std::sync::Arc;

use rand::Rng;
use rand::seq::SliceRandom;

use super::address::{Address, in_scope};
use super::event::*;
use super::link::{Give, Link, Lock, Origin, Why};
use super::message::{Contact, Request, Response, Role, Terms};
use super::options::{MAX_CONTACTS, MAX_RETRIES};
use super::state::{Overlay, Sent};
use crate::clock::Time;

/// Neighbours that are asked to take a link before there is no room.
const MAX_TAKERS: usize = 3;

/// Links of our own choice that we do not move, the oldest: whoever joins through us again and again
/// gets the others.
const KEPT: usize = 1;

impl<I, A, R> Overlay<I, A, R>
where
    I: Copy + Ord + std::hash::Hash + std::fmt::Debug,
    A: Address,
    R: Rng,
{
    /// Splits a link for a newcomer; `false` when none can be split.
    pub(super) fn start_split(
        &mut self,
        now: Time,
        newcomer: I,
        terms: Terms<I, A>,
        out: &mut Vec<Output<I, A>>,
    ) -> bool {
        let victims = self.victims(now, newcomer, &terms.links);
        if victims.is_empty() {
            return false;
        }
        let mut give = self.give(now, Why::Split, vec![newcomer]);
        give.terms = Some(terms);
        give.victims = victims;
        self.lock = Some(Lock::Give(give));
        self.next_victim(now, out);
        true
    }

    /// Moves a link to a neighbour; `false` when there is none to ask.
    pub(super) fn start_move(
        &mut self,
        now: Time,
        why: Why<I>,
        out: &mut Vec<Output<I, A>>,
    ) -> bool {
        let mut takers = self.takers(now);
        takers.retain(|peer| !self.penalised(now, *peer));
        self.start_move_to(now, why, takers, out)
    }

    /// Some neighbours that may be asked to take part in a move, in random order.
    pub(super) fn takers(&mut self, now: Time) -> Vec<I> {
        let able = self.links.iter().filter(|link| self.is_able(now, link));
        let mut takers: Vec<I> = able.map(|link| link.peer).collect();
        takers.shuffle(&mut self.rng);
        takers.truncate(MAX_TAKERS);
        takers
    }

    pub(super) fn start_move_to(
        &mut self,
        now: Time,
        why: Why<I>,
        takers: Vec<I>,
        out: &mut Vec<Output<I, A>>,
    ) -> bool {
        if takers.is_empty() {
            return false;
        }
        let give = self.give(now, why, takers);
        let (taker, pair) = (give.taker, why == Why::Flip);
        self.lock = Some(Lock::Give(give));
        self.await_answer(now, taker);
        self.send(
            taker,
            Sent::ProposeHandover,
            Request::ProposeHandover { pair },
            out,
        );
        true
    }

    fn give(&self, now: Time, why: Why<I>, mut takers: Vec<I>) -> Give<I, A> {
        let taker = takers.pop().unwrap_or(self.me);
        Give {
            why,
            takers,
            taker,
            terms: None,
            victims: Vec::new(),
            victim: None,
            thinning: None,
            taker_reported: false,
            victim_reported: false,
            awaited: None,
            deadline: now + self.options.give_timeout,
        }
    }

    /// Links that may move to this taker, in random order; of those that others have picked for us
    /// the first, so that a flip does not add to them.
    fn victims(&mut self, now: Time, taker: I, taken: &[I]) -> Vec<I> {
        let fit = |link: &&Link<I, A>| {
            self.is_able(now, link) && link.peer != taker && !taken.contains(&link.peer)
        };
        let own = self
            .links
            .iter()
            .filter(|link| link.origin == Origin::Chosen && !link.plain);
        let kept: Vec<I> = own.map(|link| link.peer).take(KEPT).collect();
        let mut victims: Vec<(bool, I)> = self
            .links
            .iter()
            .filter(fit)
            .filter(|link| !kept.contains(&link.peer))
            .map(|link| (link.origin == Origin::Hint, link.peer))
            .collect();
        victims.shuffle(&mut self.rng);
        victims.sort_by_key(|(hinted, _)| *hinted);
        let from = victims.len().saturating_sub(1 + MAX_RETRIES);
        victims.drain(from..).map(|(_, peer)| peer).collect()
    }

    /// The neighbour has answered whether it takes a link.
    pub(super) fn on_taken(
        &mut self,
        now: Time,
        from: I,
        terms: Option<Terms<I, A>>,
        out: &mut Vec<Output<I, A>>,
    ) {
        let asked = match &self.lock {
            Some(Lock::Give(give)) => give.taker == from && give.terms.is_none(),
            _ => false,
        };
        match terms {
            Some(mut terms) if asked => {
                self.end_await(from);
                let addresses: &[A] = if terms.dialable {
                    &terms.addresses
                } else {
                    &[]
                };
                terms.addresses = in_scope(self.reach_of(from), addresses).into();
                terms.dialable = !terms.addresses.is_empty();
                let victims = self.victims(now, from, &terms.links);
                if let Some(Lock::Give(give)) = &mut self.lock {
                    give.victims = victims;
                    give.terms = Some(terms);
                }
                self.next_victim(now, out);
            }
            Some(terms) => self.cancel(from, terms.nonce, true, out),
            None if asked => self.next_taker(now, out),
            None => {}
        }
    }

    fn next_taker(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        let Some(Lock::Give(give)) = &mut self.lock else {
            return;
        };
        give.terms = None;
        match give.takers.pop() {
            Some(taker) => {
                give.taker = taker;
                let pair = give.why == Why::Flip;
                self.await_answer(now, taker);
                self.send(
                    taker,
                    Sent::ProposeHandover,
                    Request::ProposeHandover { pair },
                    out,
                );
            }
            None => self.next_thinning(now, out),
        }
    }

    /// Sends the redirect hint to the next link that may move.
    fn next_victim(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        let Some(Lock::Give(give)) = &mut self.lock else {
            return;
        };
        (give.victim, give.victim_reported, give.taker_reported) = (None, false, false);
        give.awaited = None;
        let Some(terms) = &give.terms else { return };
        // A link that may not know where the taker is cannot be told to dial it.
        let reach_of = |victim| self.links.iter().find(|link| link.peer == victim);
        let named = |victim| in_scope(reach_of(victim).map(|link| link.reach), &terms.addresses);
        while terms.dialable
            && give
                .victims
                .last()
                .is_some_and(|victim| named(*victim).is_empty())
        {
            give.victims.pop();
        }
        let Some(victim) = give.victims.pop() else {
            // One that can be dialled finds others quickly. For one that cannot, of whom there may be
            // many, somebody may take one of our links.
            let stuck = give.why == Why::Split && !terms.dialable;
            let newcomer = stuck.then_some(give.taker);
            return match newcomer.filter(|_| self.links.len() > self.options.max_links) {
                Some(newcomer) if self.start_move(now, Why::Room(newcomer), out) => {}
                _ => self.abort_give(now, out),
            };
        };
        give.victim = Some(victim);
        let (nonce, taker) = (terms.nonce, give.taker);
        let addresses: Arc<[A]> = match terms.dialable {
            true => named(victim).into(),
            false => Arc::new([]),
        };
        let role = if terms.dialable {
            Role::Dial
        } else {
            Role::Expect
        };
        if terms.dialable {
            let address = addresses.first().cloned();
            out.push(Output::Report(Report::Redirected {
                told: victim,
                to: taker,
                address,
            }));
        }
        let to = Contact {
            id: taker,
            addresses,
        };
        self.await_answer(now, victim);
        self.send(
            victim,
            Sent::Redirect(nonce),
            Request::Redirect { nonce, role, to },
            out,
        );
    }

    /// F or C has agreed to the redirect (with its addresses), or has not.
    pub(super) fn on_redirected(
        &mut self,
        now: Time,
        from: I,
        nonce: u64,
        agreed: Option<Arc<[A]>>,
        out: &mut Vec<Output<I, A>>,
    ) {
        let Some(Lock::Give(give)) = &self.lock else {
            return;
        };
        let Some(terms) = give.terms.as_ref().filter(|terms| terms.nonce == nonce) else {
            return;
        };
        let (taker, victim, dialable) = (give.taker, give.victim, terms.dialable);
        if from == taker && agreed.is_some() {
            return self.end_await(from);
        }
        if Some(from) == victim {
            // What F says of itself, as far as its link may say it and C's may hear it.
            let narrow = self.reach_of(from).max(self.reach_of(taker));
            let agreed = agreed.map(|addresses| Arc::<[A]>::from(in_scope(narrow, &addresses)));
            match agreed {
                Some(addresses) if dialable || !addresses.is_empty() => {
                    let role = if dialable { Role::Expect } else { Role::Dial };
                    if !dialable {
                        let address = addresses.first().cloned();
                        out.push(Output::Report(Report::Redirected {
                            told: taker,
                            to: from,
                            address,
                        }));
                    }
                    let to = Contact {
                        id: from,
                        addresses,
                    };
                    self.await_answer(now, taker);
                    self.send(
                        taker,
                        Sent::Redirect(nonce),
                        Request::Redirect { nonce, role, to },
                        out,
                    );
                }
                Some(_) => {
                    self.cancel(from, nonce, true, out);
                    self.next_victim(now, out);
                }
                None => self.next_victim(now, out),
            }
        } else if from == taker && agreed.is_none() && !give.taker_reported {
            if let Some(victim) = victim {
                self.cancel(victim, nonce, true, out);
            }
            self.next_victim(now, out);
        }
    }

    /// F or C says that they are linked, or will not be.
    pub(super) fn on_report(
        &mut self,
        now: Time,
        from: I,
        nonce: u64,
        linked: bool,
        after: &mut Vec<Output<I, A>>,
    ) -> Response<I, A> {
        let done = Response::Done { ok: true };
        let Some(Lock::Give(give)) = &mut self.lock else {
            // The giver's own word to a visitor: room was made.
            if linked {
                self.end_taking(from);
                self.granted(from);
            }
            return done;
        };
        if give.terms.as_ref().is_none_or(|terms| terms.nonce != nonce) {
            return done;
        }
        if give.awaited.is_some_and(|(awaited, _)| awaited == from) {
            give.awaited = None;
        }
        let victim = give.victim;
        if from == give.taker {
            give.taker_reported = linked;
        } else if Some(from) == victim {
            give.victim_reported = linked;
        } else {
            return done;
        }
        if give.taker_reported && give.victim_reported {
            self.commit_give(now, after);
        } else if !linked {
            if let Some(victim) = victim.filter(|victim| *victim != from) {
                self.cancel(victim, nonce, true, after);
            }
            self.next_victim(now, after);
        }
        done
    }

    /// Both words are there: the old link may go.
    pub(super) fn commit_give(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        let Some(Lock::Give(give)) = self.lock.take() else {
            return;
        };
        self.handed_over = now;
        self.settle(give.taker);
        if let Some(victim) = give.victim {
            self.close(victim, Reason::Handover, out);
        }
        match give.why {
            Why::Room(visitor) => {
                self.settle(visitor);
                let nonce = give.terms.map_or(0, |terms| terms.nonce);
                self.send(
                    visitor,
                    Sent::Word,
                    Request::Report {
                        nonce,
                        linked: true,
                    },
                    out,
                );
            }
            Why::Swap => self.dial_anchor(now, out),
            Why::Split | Why::Flip | Why::Return => {}
        }
    }

    /// The handover ends; E–F stays. A visitor for whom there is no room gets alternatives, and a
    /// moment to go by itself.
    pub(super) fn abort_give(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        let Some(Lock::Give(give)) = self.lock.take() else {
            return;
        };
        let nonce = give.terms.as_ref().map(|terms| terms.nonce);
        if let (Some(victim), Some(nonce)) = (give.victim, nonce) {
            self.cancel(victim, nonce, true, out);
        }
        let visitor = match give.why {
            Why::Split => Some(give.taker),
            Why::Room(visitor) => Some(visitor),
            Why::Flip | Why::Return | Why::Swap => None,
        };
        if let Some(nonce) = nonce.filter(|_| visitor != Some(give.taker)) {
            self.cancel(give.taker, nonce, true, out);
        }
        if give.why == Why::Swap && self.lacks_own_links() && self.can_replace(now) {
            // No neighbour takes part in moves: the link of our own choice replaces another.
            return self.dial_anchor(now, out);
        }
        let Some(visitor) = visitor.filter(|visitor| self.linked(*visitor)) else {
            return;
        };
        let keep = self.links.len() <= self.options.max_links || self.make_room(now, visitor, out);
        if keep {
            self.settle(visitor);
        } else {
            let deadline = now + self.options.visit_timeout;
            self.lock = Some(Lock::Visit {
                peer: visitor,
                deadline,
            });
        }
        self.cancel(visitor, nonce.unwrap_or(0), keep, out);
    }

    pub(super) fn cancel(&mut self, to: I, nonce: u64, keep: bool, out: &mut Vec<Output<I, A>>) {
        if !self.linked(to) {
            return;
        }
        let contacts = if keep {
            Vec::new()
        } else {
            self.contacts_for(to, self.reach_of(to), MAX_CONTACTS)
        };
        self.send(
            to,
            Sent::Word,
            Request::Cancel {
                nonce,
                keep,
                contacts,
            },
            out,
        );
    }

    /// A link of the giver's has ended in the middle.
    pub(super) fn on_give_link_down(&mut self, now: Time, peer: I, out: &mut Vec<Output<I, A>>) {
        let Some(Lock::Give(give)) = &self.lock else {
            return;
        };
        let visitor = give.why == Why::Room(peer);
        if visitor || give.victim == Some(peer) || give.taker == peer {
            self.abort_give(now, out);
        }
    }

    fn await_answer(&mut self, now: Time, of: I) {
        let until = now + self.options.answer_timeout;
        if let Some(Lock::Give(give)) = &mut self.lock {
            give.awaited = Some((of, until));
        }
    }

    fn end_await(&mut self, of: I) {
        if let Some(Lock::Give(give)) = &mut self.lock
            && give.awaited.is_some_and(|(awaited, _)| awaited == of)
        {
            give.awaited = None;
        }
    }

    /// Time is up for an answer, or for all of the handover.
    pub(super) fn on_give_deadline(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        match &self.lock {
            Some(Lock::Give(give)) if give.deadline > now => self.on_no_answer(now, out),
            _ => self.on_give_timeout(now, out),
        }
    }

    /// Somebody has not answered in a handover: the next one is tried. A newcomer that asks for a
    /// second link and does not answer then is put out.
    fn on_no_answer(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        let Some(Lock::Give(give)) = &mut self.lock else {
            return;
        };
        let Some((silent, _)) = give.awaited.take() else {
            return;
        };
        let nonce = give.terms.as_ref().map(|terms| terms.nonce);
        let (taker, victim, why) = (give.taker, give.victim, give.why);
        let thinning = give.thinning.is_some();
        let open = |sent: &Sent| {
            matches!(
                sent,
                Sent::Redirect(_) | Sent::ProposeHandover | Sent::DropRedundantLink
            )
        };
        self.exchanges
            .retain(|(_, to, sent)| !(*to == silent && open(sent)));
        if let Some(link) = self.link_mut(silent) {
            link.deaf = true;
        }
        let (Some(nonce), false) = (nonce, thinning) else {
            return match thinning {
                true => self.next_thinning(now, out),
                false => self.next_taker(now, out),
            };
        };
        if let Some(victim) = victim {
            self.cancel(victim, nonce, true, out);
        }
        if silent != taker {
            return self.next_victim(now, out);
        }
        self.penalise(now, taker);
        if why == Why::Split && self.links.len() > self.options.max_links {
            return self.put_out(now, taker, out);
        }
        if let Some(Lock::Give(give)) = &mut self.lock {
            give.victim = None;
        }
        self.abort_give(now, out);
    }

    /// The giver has waited long enough. Who did not do his part gets no other handover for a while.
    pub(super) fn on_give_timeout(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        if let Some(Lock::Give(give)) = &self.lock {
            let silent = match give.awaited {
                Some((awaited, _)) => Some(awaited),
                None if give.taker_reported => give.victim,
                None => Some(give.taker),
            };
            let newcomer = (give.why == Why::Split).then_some(give.taker);
            if let Some(silent) = silent {
                self.penalise(now, silent);
            }
            if let Some(network) = newcomer
                .filter(|newcomer| Some(*newcomer) == silent)
                .and_then(|newcomer| self.links.iter().find(|link| link.peer == newcomer))
                .map(|link| A::network(link.host))
            {
                self.note_wasted(now, network);
            }
        }
        self.abort_give(now, out);
    }
}
