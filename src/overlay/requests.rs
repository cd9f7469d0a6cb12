//! Requests of this node's that await their response.
//!
//! Entry type: [`Requests`]. The rule it keeps: a response counts once, from the peer that was asked, and only while its link
//! lasts.

use super::event::ExchangeId;

/// The purpose of a request, which decides the meaning of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    Shuffle,
    Join,
    ProposeHandover,
    /// The redirect hint of the handover with this nonce.
    Redirect(u64),
    /// The claim of the handover with this nonce.
    Attach(u64),
    DropRedundantLink,
    /// A notification: its response has no meaning.
    Notify,
}

/// The requests that await their response.
#[derive(Clone, Debug)]
pub(super) struct Requests<I> {
    pending: Vec<(ExchangeId, I, Pending)>,
}

impl<I: Copy + PartialEq> Requests<I> {
    pub(super) fn new() -> Requests<I> {
        Requests {
            pending: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, id: ExchangeId, to: I, pending: Pending) {
        self.pending.push((id, to, pending));
    }

    /// Removes the request `id` if it was sent to `from`, and returns its purpose.
    pub(super) fn take(&mut self, from: I, id: ExchangeId) -> Option<Pending> {
        let ours = |(known, to, _): &(ExchangeId, I, Pending)| *known == id && *to == from;
        let at = self.pending.iter().position(ours)?;
        Some(self.pending.swap_remove(at).2)
    }

    /// Forgets all requests to `peer`.
    pub(super) fn forget(&mut self, peer: I) {
        self.pending.retain(|(_, to, _)| *to != peer);
    }

    /// Forgets the requests of a coordinator to `peer`: their answers are no longer awaited.
    pub(super) fn forget_coordination(&mut self, peer: I) {
        let of_coordinator = |pending: &Pending| {
            matches!(
                pending,
                Pending::Redirect(_) | Pending::ProposeHandover | Pending::DropRedundantLink
            )
        };
        self.pending
            .retain(|(_, to, pending)| !(*to == peer && of_coordinator(pending)));
    }
}
