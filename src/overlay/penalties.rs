//! Penalties: peers that failed in a handover get no other for a while.
//!
//! Entry type: [`Penalties`]. The rule it keeps: at most [`MAX_PENALTIES`] peers are remembered, the newest.

use crate::clock::Time;

/// Maximum number of penalised peers that are remembered.
const MAX_PENALTIES: usize = 64;

/// Peers under a penalty, and when it ends.
#[derive(Clone, Debug)]
pub(super) struct Penalties<I> {
    entries: Vec<(I, Time)>,
}

impl<I: Copy + PartialEq> Penalties<I> {
    pub(super) fn new() -> Penalties<I> {
        Penalties {
            entries: Vec::new(),
        }
    }

    /// Penalises `peer` until `until`, in place of an earlier penalty.
    pub(super) fn add(&mut self, now: Time, peer: I, until: Time) {
        self.entries.retain(|(id, end)| *end > now && *id != peer);
        self.entries.truncate(MAX_PENALTIES - 1);
        self.entries.insert(0, (peer, until));
    }

    pub(super) fn contains(&self, now: Time, peer: I) -> bool {
        let active = |(id, until): &(I, Time)| *id == peer && *until > now;
        self.entries.iter().any(active)
    }
}
