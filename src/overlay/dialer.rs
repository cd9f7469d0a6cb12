//! The dialer: dials in flight, the entry nodes, back-off after failures, and when the next dial is due.
//!
//! Entry type: [`Dialer`]. The rules it keeps: a node without links never stops dialling, and never dials in step with others;
//! a node that has enough links dials nobody. `choice` picks the peers.

mod choice;

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use super::address::{Address, NodeId};
use super::context::{Context, Core};
use super::dial_rate_limit::DialRateLimiter;
use super::event::{DialError, DialId, Output, Purpose, Target};
use super::message::Contact;
use super::options::{MAX_REFERRALS, Options};
use super::peer_store::Known;
use super::scope::Reach;
use crate::clock::Time;

/// Number of failed dials in a row before the back-off grows: after a third of all nodes died at once most of an old address
/// book is still valid, and waiting does not help.
const MAX_QUICK_FAILURES: u32 = 8;
/// Interval between the first of these dials.
const QUICK_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum back-off while there are peers to dial, before jitter. Each failing peer has its own growing back-off, so that a
/// book of dead peers costs one dial in this time at most, and a peer that is back is found soon.
const MAX_STEADY_INTERVAL: Duration = Duration::from_secs(2);
/// Time after which a dial no longer delays the next one: its host is most likely gone.
const SLOW_DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of dials in flight, slow ones included.
const MAX_IN_FLIGHT: usize = 8;

/// A dial in flight.
#[derive(Clone, Debug)]
pub(super) struct Dial<I> {
    id: DialId,
    /// The peer that must answer; none for an entry node without an id.
    pub(super) peer: Option<I>,
    pub(super) purpose: Purpose<I>,
    /// The position of the configured entry node, if it is one.
    entry: Option<usize>,
    started: Time,
    deadline: Time,
}

/// A configured entry node.
#[derive(Clone, Debug)]
struct EntryNode<I> {
    /// The id that was configured.
    id: Option<I>,
    /// The peer that has answered there, or else the id that was configured.
    seen: Option<I>,
    failures: u32,
    retry_at: Time,
}

/// The dials of one node.
#[derive(Clone, Debug)]
pub(super) struct Dialer<I, A> {
    dials: Vec<Dial<I>>,
    entries: Vec<EntryNode<I>>,
    limiter: DialRateLimiter<A>,
    /// Time of the next dial, if one is wanted.
    next_at: Time,
    /// Number of dials that have failed in a row.
    failures: u32,
}

impl<I: NodeId, A: Address> Dialer<I, A> {
    pub(super) fn new(now: Time, options: &Options) -> Dialer<I, A> {
        Dialer {
            dials: Vec::new(),
            entries: Vec::new(),
            limiter: DialRateLimiter::new(options),
            next_at: now,
            failures: 0,
        }
    }

    /// Sets the configured entry nodes, and makes the next dial due.
    pub(super) fn set_entries(&mut self, now: Time, entries: Vec<Option<I>>) {
        let entry = |id| EntryNode {
            id,
            seen: id,
            failures: 0,
            retry_at: now,
        };
        self.entries = entries.into_iter().map(entry).collect();
        self.next_at = now;
    }

    /// Returns the rate limiter for dials to addresses that others have named.
    pub(super) fn limiter_mut(&mut self) -> &mut DialRateLimiter<A> {
        &mut self.limiter
    }

    pub(super) fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    #[cfg(test)]
    pub(super) fn forget_dials(&mut self) {
        self.dials.clear();
    }

    fn is_dialling(&self) -> bool {
        !self.dials.is_empty()
    }

    fn is_dialling_entry(&self, at: usize) -> bool {
        self.dials.iter().any(|dial| dial.entry == Some(at))
    }

    /// Returns whether a dial for a link of the node's own choice is in flight.
    pub(super) fn is_dialling_anchor(&self) -> bool {
        let mut dials = self.dials.iter();
        dials.any(|dial| dial.purpose == Purpose::Anchor)
    }

    /// Returns whether a dial to `peer` that follows a redirect hint is in flight.
    pub(super) fn is_dialling_hint(&self, peer: I) -> bool {
        let hint =
            |dial: &Dial<I>| dial.peer == Some(peer) && matches!(dial.purpose, Purpose::Hint(_));
        self.dials.iter().any(hint)
    }

    /// Returns whether a connection to `peer` is of this node's own choice: for an anchor, or dialled by the operator and not
    /// by the overlay.
    pub(super) fn is_chosen(&self, peer: I) -> bool {
        let to_peer = |dial: &&Dial<I>| dial.peer.is_none_or(|dialled| dialled == peer);
        let mut dials = self.dials.iter().filter(to_peer).peekable();
        dials.peek().is_none() || dials.any(|dial| dial.purpose == Purpose::Anchor)
    }

    /// Returns the time of the next timeout of a dial.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.dials.iter().map(|dial| dial.deadline).min()
    }

    /// Returns a dial that has timed out by `now`.
    pub(super) fn timed_out(&self, now: Time) -> Option<DialId> {
        let found = self.dials.iter().find(|dial| dial.deadline <= now);
        found.map(|dial| dial.id)
    }

    /// Returns the time at which the next dial is wanted, if any is. `is_free` says that the node is in no handover.
    pub(super) fn next_dial<R: Rng>(&self, core: &Core<I, A, R>, is_free: bool) -> Option<Time> {
        if self.wants_dial(core, self.next_at, is_free) {
            return Some(self.next_at);
        }
        // A dial that is slow by then no longer delays the next one.
        let slow = self
            .dials
            .iter()
            .map(|dial| dial.started + SLOW_DIAL_TIMEOUT);
        slow.filter(|at| *at > self.next_at && self.wants_dial(core, *at, is_free))
            .min()
    }

    /// Returns whether one more dial is due now.
    fn is_due<R: Rng>(&self, core: &Core<I, A, R>, now: Time, is_free: bool) -> bool {
        self.next_at <= now && self.wants_dial(core, now, is_free)
    }

    fn wants_dial<R: Rng>(&self, core: &Core<I, A, R>, now: Time, is_free: bool) -> bool {
        let own = |dial: &&Dial<I>| {
            !matches!(dial.purpose, Purpose::Hint(_)) && now < dial.started + SLOW_DIAL_TIMEOUT
        };
        let (links, dials) = (core.links.len(), self.dials.iter().filter(own).count());
        let max_dials = match links {
            0 => core.options.max_dials,
            n if n < core.options.min_links => 2,
            _ => 1,
        };
        let has_room = dials < max_dials && self.dials.len() < MAX_IN_FLIGHT;
        (is_free || links == 0) && has_room && links + dials < core.options.wanted_links
    }

    /// Makes the next dial due and ends the back-off.
    pub(super) fn restart(&mut self, now: Time) {
        self.failures = 0;
        self.next_at = now;
    }

    /// Makes the next dial due, unless the node is in back-off.
    pub(super) fn restart_unless_failing(&mut self, now: Time) {
        if self.failures == 0 {
            self.hurry(now);
        }
    }

    /// Makes the next dial due, and leaves the back-off as it is.
    pub(super) fn hurry(&mut self, now: Time) {
        self.next_at = self.next_at.min(now);
    }

    /// Counts one more failure in a row.
    fn count_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Dials `peer` at `to`.
    pub(super) fn dial<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        peer: Option<I>,
        to: Target<A>,
        purpose: Purpose<I>,
    ) {
        let id = DialId(cx.core.fresh_id());
        let entry = match (&to, peer, purpose) {
            // An anchor that is known by its id is no dial of the entry node's.
            (Target::Entry(_), Some(_), Purpose::Anchor) => None,
            (Target::Entry(at), ..) => Some(*at),
            (Target::Addresses(_), ..) => None,
        };
        self.dials.push(Dial {
            id,
            peer,
            purpose,
            entry,
            started: cx.now,
            deadline: cx.now + cx.core.options.connect_timeout,
        });
        cx.out.push(Output::Dial {
            dial: id,
            peer,
            to,
            purpose,
        });
    }

    /// Dials a known peer: at all its addresses if this node has dialled it there before, or else at those that the rate limit
    /// grants. Returns whether it is dialled.
    pub(super) fn dial_known<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        known: Known<I, A>,
        purpose: Purpose<I>,
    ) -> bool {
        let Contact { id, addresses } = known.contact;
        let addresses: Arc<[A]> = match known.proved {
            true => addresses,
            false => self.limiter.grant(cx.now, &addresses).into(),
        };
        let is_dialled = !addresses.is_empty();
        if is_dialled {
            self.dial(cx, Some(id), Target::Addresses(addresses), purpose);
        }
        is_dialled
    }

    /// Removes the dial that led to a link with `peer`: `dial` if it is known, or else one to the peer. `address` is the address
    /// at which the peer has proved its key.
    pub(super) fn on_link_up(
        &mut self,
        peer: I,
        dial: Option<DialId>,
        address: Option<&A>,
    ) -> Option<Dial<I>> {
        let ours = |known: &Dial<I>| match dial {
            Some(dial) => known.id == dial,
            None => known.peer == Some(peer),
        };
        let at = self.dials.iter().position(ours)?;
        let found = self.dials.swap_remove(at);
        let entry = found.entry.filter(|_| dial.is_some());
        if let Some(entry) = entry.and_then(|at| self.entries.get_mut(at)) {
            (entry.seen, entry.failures) = (Some(peer), 0);
        }
        self.refund(&found, address);
        Some(found)
    }

    /// Removes a dial that has failed.
    pub(super) fn remove(&mut self, id: DialId) -> Option<Dial<I>> {
        let at = self.dials.iter().position(|dial| dial.id == id)?;
        Some(self.dials.swap_remove(at))
    }

    /// Takes the consequences of a failed dial that followed no hint: back-off for its entry node or peer, and for the next
    /// dial.
    pub(super) fn on_failed<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        dial: &Dial<I>,
        error: DialError<I, A>,
    ) {
        if error == DialError::Duplicate {
            return;
        }
        let is_busy = matches!(error, DialError::Busy { .. });
        let has_referrals =
            matches!(&error, DialError::Busy { referrals, .. } if !referrals.is_empty());
        if let Some(at) = dial.entry.filter(|at| *at < self.entries.len()) {
            let failures = self.entries[at].failures.saturating_add(1);
            let max = match is_busy {
                true => cx.core.options.max_busy_backoff,
                false => cx.core.options.max_backoff,
            };
            let wait = backoff(cx, failures, max);
            (self.entries[at].failures, self.entries[at].retry_at) = (failures, cx.now + wait);
        }
        if let DialError::Busy { remote, referrals } = error {
            learn_referrals(cx, remote.reach, referrals);
            self.refund(dial, remote.address.as_ref());
            let until = cx.now + cx.core.jitter(cx.core.options.max_busy_backoff);
            if let Some(peer) = dial.peer {
                cx.core.peers.postpone(until, peer);
            }
        } else {
            self.count_failure();
            if let Some(peer) = dial.peer {
                let Core { peers, rng, .. } = &mut *cx.core;
                peers.record_failure(cx.now, rng, peer);
            }
        }
        let wait = if has_referrals && cx.core.links.len() < cx.core.options.min_links {
            Duration::ZERO
        } else if self.failures <= MAX_QUICK_FAILURES {
            cx.core.jitter(QUICK_INTERVAL)
        } else {
            backoff(cx, self.failures - MAX_QUICK_FAILURES, MAX_STEADY_INTERVAL)
        };
        self.next_at = cx.now + wait;
    }

    /// Refunds a dial to the rate limiter, because the peer was at its address. Dials that follow hints count all the same:
    /// each costs two more nodes a handover.
    fn refund(&mut self, dial: &Dial<I>, address: Option<&A>) {
        let is_hint = matches!(dial.purpose, Purpose::Hint(_));
        if let Some(address) = address.filter(|_| !is_hint) {
            self.limiter.refund(address);
        }
    }

    /// Learns the contacts that a full node has named when it refused this one. With too few links they are dialled at once.
    pub(super) fn on_referrals<R: Rng>(
        &mut self,
        cx: &mut Context<'_, I, A, R>,
        reach: Reach,
        contacts: Vec<Contact<I, A>>,
    ) {
        let is_wanted = !contacts.is_empty() && cx.core.links.len() < cx.core.options.min_links;
        learn_referrals(cx, reach, contacts);
        if is_wanted {
            self.hurry(cx.now);
        }
    }

    /// Postpones dials to a peer that has no room for this node: places become free quickly, but not at once.
    pub(super) fn on_refused<R: Rng>(&mut self, cx: &mut Context<'_, I, A, R>, peer: I) {
        let until = cx.now + cx.core.jitter(cx.core.options.max_busy_backoff);
        cx.core.peers.postpone(until, peer);
        let entries = self.entries.iter_mut();
        for entry in entries.filter(|entry| entry.seen == Some(peer)) {
            entry.retry_at = until;
        }
    }

    /// Returns the peers that must not be dialled: this node, and all that are linked, closing, expected or being dialled.
    fn engaged<R: Rng>(&self, core: &Core<I, A, R>) -> Vec<I> {
        let dials = self.dials.iter().filter_map(|dial| dial.peer);
        let engaged = core.links.engaged().chain(dials);
        std::iter::once(core.me).chain(engaged).collect()
    }
}

fn learn_referrals<I: NodeId, A: Address, R: Rng>(
    cx: &mut Context<'_, I, A, R>,
    reach: Reach,
    referrals: Vec<Contact<I, A>>,
) {
    cx.core.learn(Some(reach), referrals, MAX_REFERRALS);
}

/// Returns an exponential back-off with jitter: `max` at most, and up to half more.
fn backoff<I: NodeId, A: Address, R: Rng>(
    cx: &mut Context<'_, I, A, R>,
    failures: u32,
    max: Duration,
) -> Duration {
    let doubled = cx.core.options.backoff * (1 << failures.min(16));
    cx.core.jitter(doubled.min(max))
}
