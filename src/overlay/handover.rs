//! The two that get linked when a link moves: F, whose link with E moves, and C, who takes it.
//!
//! The rules kept here: a hint is obeyed only from a link and within the limits of `budget`; C agrees
//! only to its own outstanding nonce; F gives up its new link, never its old one, when E's word
//! does not come.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use super::address::{Address, in_scope};
use super::event::*;
use super::link::{Link, Lock, Origin, Part, Why};
use super::message::{Contact, Refusal, Request, Response, Role};
use super::state::{Overlay, Sent};
use crate::clock::Time;

/// How long the taker of a flip waits before it gives a link back: until the giver has had both
/// words and is free again.
const RETURN_PAUSE: Duration = Duration::from_secs(1);

impl<I, A, R> Overlay<I, A, R>
where
    I: Copy + Ord + std::hash::Hash + std::fmt::Debug,
    A: Address,
    R: Rng,
{
    /// A link tells us to connect to a peer, or to expect it.
    pub(super) fn on_redirect(
        &mut self,
        now: Time,
        from: I,
        nonce: u64,
        role: Role,
        to: Contact<I, A>,
        after: &mut Vec<Output<I, A>>,
    ) -> Response<I, A> {
        let (peer, address) = (to.id, to.addresses.first().cloned());
        let outcome = match self.obey(now, from, nonce, role, to, after) {
            Ok(()) => {
                return Response::Redirected {
                    refusal: None,
                    addresses: self.listens_for(from),
                };
            }
            Err(outcome) => outcome,
        };
        after.push(Output::Report(Report::Hint {
            from,
            to: peer,
            address,
            outcome,
        }));
        let refusal = match outcome {
            HintOutcome::TooMany => Refusal::TooMany,
            HintOutcome::Busy => Refusal::Busy,
            HintOutcome::NotDialable => Refusal::NotDialable,
            _ => Refusal::Unsuitable,
        };
        Response::Redirected {
            refusal: Some(refusal),
            addresses: Arc::new([]),
        }
    }

    fn obey(
        &mut self,
        now: Time,
        from: I,
        nonce: u64,
        role: Role,
        to: Contact<I, A>,
        after: &mut Vec<Output<I, A>>,
    ) -> Result<(), HintOutcome> {
        if to.id == self.me {
            return Err(HintOutcome::Ourselves);
        }
        if self.taken == Some((nonce, to.id)) {
            // The dial was quicker than this word about it.
            return Ok(());
        }
        if self.penalised(now, from) {
            return Err(HintOutcome::Busy);
        }
        let taking = match &self.lock {
            None => false,
            Some(Lock::Take(part))
                if part.giver == from && part.nonce == nonce && !part.attached =>
            {
                true
            }
            Some(_) => return Err(HintOutcome::Busy),
        };
        // The giver names another F when the first one failed; a link with that one has no use.
        if self.expected() != Some(to.id) {
            self.drop_unattached(after);
        }
        let early = taking && role == Role::Expect;
        let waits = |link: &Link<I, A>| {
            early && link.peer == to.id && link.direction == Direction::Inbound && !link.joined
        };
        if self.links.iter().any(waits) {
            // Its link is up already; what is missing is its Attach.
            if let Some(part) = self.part() {
                (part.other, part.role) = (Some(to.id), role);
            }
            return Ok(());
        }
        if self.linked(to.id) || self.closing.iter().any(|(id, _)| *id == to.id) {
            return Err(HintOutcome::AlreadyLinked);
        }
        if role == Role::Expect && !self.dialable {
            return Err(HintOutcome::NotDialable);
        }
        let addresses: Arc<[A]> = match role {
            Role::Dial => self.screen(now, from, &to.addresses)?,
            Role::Expect => Arc::new([]),
        };
        if let Some(Lock::Take(part)) = self.lock.as_mut().filter(|_| taking) {
            (part.other, part.role) = (Some(to.id), role);
        } else {
            let deadline = now + self.options.lock_timeout;
            self.lock = Some(Lock::Yield(Part {
                giver: from,
                nonce,
                other: Some(to.id),
                role,
                attached: false,
                pair: false,
                deadline,
            }));
        }
        if role == Role::Dial {
            let at = Target::Addresses(addresses);
            self.dial(now, Some(to.id), at, Purpose::Hint(from), after);
        }
        Ok(())
    }

    /// The addresses to dial for a hint, or why there are none.
    fn screen(&mut self, now: Time, from: I, addresses: &[A]) -> Result<Arc<[A]>, HintOutcome> {
        let allowed = in_scope(self.reach_of(from), addresses);
        if allowed.is_empty() {
            return Err(HintOutcome::Scope);
        }
        match self.budget.grant(now, &allowed) {
            granted if granted.is_empty() => Err(HintOutcome::TooMany),
            granted => Ok(granted.into()),
        }
    }

    fn part(&mut self) -> Option<&mut Part<I>> {
        match &mut self.lock {
            Some(Lock::Yield(part) | Lock::Take(part)) => Some(part),
            _ => None,
        }
    }

    /// Closes a link that was to be the handover's and on which both sides have not agreed.
    fn drop_unattached(&mut self, out: &mut Vec<Output<I, A>>) {
        let Some(part) = self.part() else { return };
        if let Some(other) = part.other.filter(|_| !part.attached) {
            part.other = None;
            let part = part.clone();
            let for_it = |link: &Link<I, A>| {
                link.peer == other && !link.settled && part.dialled_by(link.direction)
            };
            if self.links.iter().any(for_it) {
                self.close(other, Reason::Aborted, out);
            }
        }
    }

    /// The link that the handover is about is up. Whoever has dialled says what it is for.
    pub(super) fn on_expected_link(
        &mut self,
        peer: I,
        outbound: bool,
        out: &mut Vec<Output<I, A>>,
    ) {
        let Some(part) = self.part() else { return };
        let nonce = part.nonce;
        if part.role == Role::Dial && outbound {
            self.send(peer, Sent::Attach(nonce), Request::Attach { nonce }, out);
        }
    }

    /// The dialling side claims this link for a handover.
    pub(super) fn on_attach(
        &mut self,
        now: Time,
        from: I,
        nonce: u64,
        after: &mut Vec<Output<I, A>>,
    ) -> Response<I, A> {
        // The newcomer may hear of F by its Attach before it does from the giver: the nonce says
        // that the giver has sent it.
        let newcomer = matches!(self.lock, Some(Lock::Take(_)));
        let ours = self.part().is_some_and(|part| {
            let named = part.other == Some(from) || (newcomer && part.other.is_none());
            part.nonce == nonce && part.giver != from && named && part.role == Role::Expect
        });
        if ours {
            if let Some(part) = self.part() {
                part.other = Some(from);
            }
            self.attach(now, from, after);
        }
        Response::Done { ok: ours }
    }

    /// The dialled side has answered the claim.
    pub(super) fn on_attached(
        &mut self,
        now: Time,
        from: I,
        nonce: u64,
        agreed: bool,
        out: &mut Vec<Output<I, A>>,
    ) {
        let ours = self
            .part()
            .is_some_and(|part| part.nonce == nonce && part.other == Some(from));
        if !ours {
            return;
        }
        let outcome = if agreed {
            HintOutcome::Linked
        } else {
            HintOutcome::Rejected
        };
        self.hint_ended(from, outcome, out);
        if agreed {
            self.attach(now, from, out);
        } else {
            self.close(from, Reason::Aborted, out);
            self.fail_part(out);
        }
    }

    fn hint_ended(&mut self, to: I, outcome: HintOutcome, out: &mut Vec<Output<I, A>>) {
        let Some(part) = self.part() else { return };
        let from = part.giver;
        let address = self.links.iter().find(|link| link.peer == to);
        let address = address.and_then(|link| link.listens.first().cloned());
        out.push(Output::Report(Report::Hint {
            from,
            to,
            address,
            outcome,
        }));
    }

    /// Both sides have agreed on the new link: tell the giver.
    fn attach(&mut self, now: Time, other: I, out: &mut Vec<Output<I, A>>) {
        let Some(part) = self.part() else { return };
        if std::mem::replace(&mut part.attached, true) {
            return;
        }
        let (giver, nonce, pair) = (part.giver, part.nonce, part.pair);
        self.send(
            giver,
            Sent::Word,
            Request::Report {
                nonce,
                linked: true,
            },
            out,
        );
        if matches!(self.lock, Some(Lock::Take(_))) {
            // The taker is done: its new link and the giver's are both locked at their other ends.
            self.lock = None;
            self.taken = Some((nonce, other));
            self.settle(giver);
            if let Some(link) = self.link_mut(other) {
                link.settled = true;
                link.origin = Origin::Hint;
            }
            if pair {
                self.owed = Some((giver, now + RETURN_PAUSE));
            }
        }
    }

    /// The new link will not be: tell the giver. F is free, C waits for the next F.
    fn fail_part(&mut self, out: &mut Vec<Output<I, A>>) {
        let Some(part) = self.part() else { return };
        let (giver, nonce) = (part.giver, part.nonce);
        (part.other, part.attached) = (None, false);
        if matches!(self.lock, Some(Lock::Yield(_))) {
            self.lock = None;
        }
        if self.linked(giver) {
            self.send(
                giver,
                Sent::Word,
                Request::Report {
                    nonce,
                    linked: false,
                },
                out,
            );
        }
    }

    /// As `fail_part`, unless both sides have agreed already; whether it did.
    pub(super) fn fail_unattached(&mut self, out: &mut Vec<Output<I, A>>) -> bool {
        let open = self.part().is_some_and(|part| !part.attached);
        if open {
            self.fail_part(out);
        }
        open
    }

    /// The dial that a hint asked for has failed.
    pub(super) fn on_hint_dial_failed(
        &mut self,
        to: I,
        error: &DialError<I, A>,
        out: &mut Vec<Output<I, A>>,
    ) {
        let ours = |link: &Link<I, A>| link.peer == to && link.direction == Direction::Outbound;
        if self.expected() != Some(to) || self.links.iter().any(ours) {
            return;
        }
        let outcome = match error {
            DialError::Failed => HintOutcome::Unreachable,
            DialError::WrongPeer => HintOutcome::WrongPeer,
            DialError::Busy { .. } | DialError::Refused => HintOutcome::Rejected,
            DialError::Duplicate => HintOutcome::AlreadyLinked,
        };
        self.hint_ended(to, outcome, out);
        self.fail_part(out);
    }

    /// The giver takes the handover back, or has no room for us.
    pub(super) fn on_cancel(
        &mut self,
        now: Time,
        from: I,
        nonce: u64,
        keep: bool,
        contacts: Vec<Contact<I, A>>,
        after: &mut Vec<Output<I, A>>,
    ) -> Response<I, A> {
        self.learn(from, contacts, super::options::MAX_CONTACTS);
        if self
            .part()
            .is_some_and(|part| part.giver == from && part.nonce == nonce)
        {
            self.end_part(after);
        }
        // Only a link that we asked for and that was not granted yet can be taken back.
        let ours = |link: &Link<I, A>| link.peer == from && link.joined_through;
        if !keep && self.links.iter().any(ours) {
            self.leave_alone(now, from);
            self.close(from, Reason::Refused, after);
        } else if keep {
            self.granted(from);
        }
        Response::Done { ok: true }
    }

    /// Ends our part without the giver having moved its link: the old state holds. A new link that
    /// both sides agree on stays if there is room for it.
    fn end_part(&mut self, out: &mut Vec<Output<I, A>>) {
        self.drop_unattached(out);
        let Some(Lock::Yield(part) | Lock::Take(part)) = self.lock.take() else {
            return;
        };
        let Some(other) = part.other else { return };
        if self.links.len() > self.options.max_links {
            self.close(other, Reason::Aborted, out);
        } else {
            self.settle(other);
            if let Some(link) = self.link_mut(other) {
                link.origin = Origin::Hint;
            }
        }
    }

    /// A link has ended while a lock is held; says why it ended.
    pub(super) fn on_lock_link_down(
        &mut self,
        now: Time,
        link: &Link<I, A>,
        out: &mut Vec<Output<I, A>>,
    ) -> Reason {
        let peer = link.peer;
        let lost = match (link.leaving, link.thinned) {
            (true, _) => Reason::Leaving,
            (_, true) => Reason::Surplus,
            _ => Reason::Lost,
        };
        match &self.lock {
            Some(Lock::Visit { peer: held, .. } | Lock::Replace { peer: held, .. })
                if *held == peer =>
            {
                self.lock = None;
                lost
            }
            Some(Lock::Give(_)) => {
                self.on_give_link_down(now, peer, out);
                lost
            }
            Some(Lock::Yield(part)) if part.giver == peer && part.attached => {
                // The giver has both words: the new link stands for the old one, and is of its kind,
                // since the giver could only spend its own place.
                let other = part.other;
                self.lock = None;
                if let Some(link_) = other.and_then(|other| self.link_mut(other)) {
                    link_.settled = true;
                    link_.origin = link.origin;
                }
                Reason::Handover
            }
            Some(Lock::Yield(part) | Lock::Take(part)) if part.giver == peer => {
                self.end_part(out);
                lost
            }
            Some(Lock::Yield(part) | Lock::Take(part)) if part.other == Some(peer) => {
                self.fail_part(out);
                lost
            }
            _ => lost,
        }
    }

    /// Others need this node's lock: a handover that has led to nothing yet ends here.
    pub(super) fn give_up_part(&mut self, out: &mut Vec<Output<I, A>>) {
        if let Some(part) = self.part() {
            let (giver, nonce) = (part.giver, part.nonce);
            self.end_part(out);
            if self.linked(giver) {
                let linked = false;
                self.send(giver, Sent::Word, Request::Report { nonce, linked }, out);
            }
        }
    }

    /// Every lock ends.
    pub(super) fn on_lock_timeout(&mut self, now: Time, out: &mut Vec<Output<I, A>>) {
        match &self.lock {
            Some(Lock::Give(_)) => self.on_give_deadline(now, out),
            Some(Lock::Replace { .. }) => self.lock = None,
            Some(Lock::Yield(part) | Lock::Take(part)) => {
                let giver = part.giver;
                if part.role == Role::Dial
                    && !part.attached
                    && let Some(other) = part.other
                {
                    self.hint_ended(other, HintOutcome::Cancelled, out);
                }
                self.penalise(now, giver);
                self.offence(giver, "did not end a handover", out);
                self.end_part(out);
            }
            Some(Lock::Visit { peer, .. }) => {
                // A peer that does not speak our protocol is kept if a neighbour has room for one
                // of our links; one that has joined has had its answer.
                let peer = *peer;
                self.lock = None;
                if let Some(link) = self.link_mut(peer) {
                    link.thinned = false;
                }
                let silent = |link: &Link<I, A>| link.peer == peer && !link.joined && !link.settled;
                if self.links.iter().any(silent) {
                    if let Some(link) = self.link_mut(peer) {
                        link.plain = true;
                        link.joined = true;
                    }
                    if !self.start_move(now, Why::Room(peer), out) {
                        self.take_in_plain(now, peer, out);
                    }
                }
            }
            None => {}
        }
    }
}
