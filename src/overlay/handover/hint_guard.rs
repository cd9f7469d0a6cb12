//! The guard for redirect hints: the rules and the rate limit by which a hint is accepted or refused.
//!
//! Entry type: [`Hint`]. The rules it keeps: a hint counts only from a linked peer that is under no penalty; it never leads to
//! this node or to a peer that is linked already; and it is followed only to addresses in the scope of the link that
//! carries it, within the rate limit that all addresses named by others share. So hints cannot be used to aim nodes at a victim.

use std::sync::Arc;

use rand::Rng;

use crate::overlay::address::{Address, NodeId, in_scope};
use crate::overlay::context::Context;
use crate::overlay::dial_rate_limit::DialRateLimiter;
use crate::overlay::event::{DialError, HintOutcome};
use crate::overlay::message::{Contact, Refusal, Role};

/// A redirect hint of a linked peer.
#[derive(Clone, Debug)]
pub(in crate::overlay) struct Hint<I, A> {
    /// The coordinator that sent it.
    pub(in crate::overlay) from: I,
    pub(in crate::overlay) nonce: u64,
    pub(in crate::overlay) role: Role,
    /// The peer to connect to, or to expect.
    pub(in crate::overlay) to: Contact<I, A>,
}

impl<I: NodeId, A: Address> Hint<I, A> {
    /// Checks that the hint leads to a peer to which this node may connect.
    ///
    /// # Errors
    ///
    /// The outcome with which the hint ends when the peer is linked already, or when it would dial this node and cannot.
    pub(super) fn check_target<R: Rng>(
        &self,
        cx: &Context<'_, I, A, R>,
    ) -> Result<(), HintOutcome> {
        let links = &cx.core.links;
        if links.contains(self.to.id) || links.is_closing(self.to.id) {
            return Err(HintOutcome::AlreadyLinked);
        }
        if self.role == Role::Expect && !cx.core.is_dialable() {
            return Err(HintOutcome::NotDialable);
        }
        Ok(())
    }

    /// Returns the addresses to dial; none when this node is to be dialled. Counts them against the rate limit.
    ///
    /// # Errors
    ///
    /// The outcome with which the hint ends when its link may name none of the addresses, or the rate limit allows none.
    pub(super) fn screen<R: Rng>(
        &self,
        cx: &Context<'_, I, A, R>,
        limiter: &mut DialRateLimiter<A>,
    ) -> Result<Arc<[A]>, HintOutcome> {
        if self.role == Role::Expect {
            return Ok(Arc::new([]));
        }
        let allowed = in_scope(cx.core.links.reach_of(self.from), &self.to.addresses);
        if allowed.is_empty() {
            return Err(HintOutcome::Scope);
        }
        match limiter.grant(cx.now, &allowed) {
            granted if granted.is_empty() => Err(HintOutcome::TooMany),
            granted => Ok(granted.into()),
        }
    }
}

/// Returns the refusal by which the coordinator learns of a hint's outcome.
pub(super) fn refusal_of(outcome: HintOutcome) -> Refusal {
    match outcome {
        HintOutcome::TooMany => Refusal::TooMany,
        HintOutcome::Busy => Refusal::Busy,
        HintOutcome::NotDialable => Refusal::NotDialable,
        _ => Refusal::Unsuitable,
    }
}

/// Returns the outcome of a hint whose dial has failed.
pub(super) fn outcome_of<I, A: Address>(error: &DialError<I, A>) -> HintOutcome {
    match error {
        DialError::Failed => HintOutcome::Unreachable,
        DialError::WrongPeer => HintOutcome::WrongPeer,
        DialError::Busy { .. } | DialError::Refused => HintOutcome::Rejected,
        DialError::Duplicate => HintOutcome::AlreadyLinked,
    }
}
