//! Fairness at a full node: networks with waiting newcomers, networks that wasted a provisional link, and the node's own moves.
//!
//! Entry type: [`Waitlist`]. The rules it keeps: while other networks wait, one that has its share of the links, or wasted a
//! provisional link lately, is served after them; and newcomers never keep the node from moving its own links for long.

use std::time::Duration;

use super::options::Options;
use crate::clock::Time;

/// Maximum number of waiting networks that are remembered: two suffice to tell a network that has its share from the others.
const MAX_WAITING: usize = 8;
/// Maximum number of networks with a wasted provisional link that are remembered.
const MAX_WASTED: usize = 16;
/// Maximum time for which refused newcomers keep a node from moving its links.
const MAX_WITHOUT_MOVE: Duration = Duration::from_secs(30);

/// Newcomers that were refused lately, by network. `H` names a network.
#[derive(Clone, Debug)]
pub(super) struct Waitlist<H> {
    /// Time at which a newcomer was last refused for want of room.
    last_refusal: Option<Time>,
    /// Networks of newcomers that were refused for want of room, and when, the newest first.
    waiting: Vec<(H, Time)>,
    /// Networks of newcomers that wasted a provisional link, and when, the newest first.
    wasted: Vec<(H, Time)>,
    /// Time at which the node last had its turn to move a link for its own sake.
    last_own_turn: Time,
}

impl<H: Copy + PartialEq> Waitlist<H> {
    pub(super) fn new(now: Time) -> Waitlist<H> {
        Waitlist {
            last_refusal: None,
            waiting: Vec::new(),
            wasted: Vec::new(),
            last_own_turn: now,
        }
    }

    /// Records that a newcomer of `network` was refused; it retries soon.
    pub(super) fn record_refusal(&mut self, now: Time, network: H) {
        self.last_refusal = Some(now);
        push_recent(&mut self.waiting, MAX_WAITING, (network, now));
    }

    /// Records that a newcomer of `network` got a provisional link and made no use of it.
    pub(super) fn record_waste(&mut self, now: Time, network: H) {
        push_recent(&mut self.wasted, MAX_WASTED, (network, now));
    }

    /// Returns whether a newcomer of `network` may get a provisional link of the full node now. `has_share` says that the network has its share
    /// of the links already.
    pub(super) fn may_admit(
        &self,
        now: Time,
        network: H,
        has_share: bool,
        options: &Options,
    ) -> bool {
        let pause = options.max_busy_backoff * 2;
        let waits = |(other, at): &(H, Time)| *other != network && now.since(*at) < pause;
        let wasted =
            |(other, at): &(H, Time)| *other == network && now.since(*at) < options.penalty;
        // The node's own moves have priority once they are overdue, however many newcomers wait.
        if now.since(self.last_own_turn) >= MAX_WITHOUT_MOVE.max(options.round * 3) {
            return false;
        }
        let is_last = has_share || self.wasted.iter().any(wasted);
        !(is_last && self.waiting.iter().any(waits))
    }

    /// Returns whether newcomers have priority over a move for the node's own sake.
    pub(super) fn has_priority(&self, now: Time, options: &Options) -> bool {
        let pause = options.max_busy_backoff * 2;
        let is_waiting = self.last_refusal.is_some_and(|at| now.since(at) < pause);
        is_waiting && now.since(self.last_own_turn) < MAX_WITHOUT_MOVE
    }

    /// Records that the node has its turn to move a link.
    pub(super) fn record_own_turn(&mut self, now: Time) {
        self.last_own_turn = now;
    }
}

/// Puts `entry` first, in place of an older one of its network, and drops the oldest beyond `max`.
fn push_recent<H: PartialEq>(list: &mut Vec<(H, Time)>, max: usize, entry: (H, Time)) {
    list.retain(|(other, _)| *other != entry.0);
    list.truncate(max - 1);
    list.insert(0, entry);
}
