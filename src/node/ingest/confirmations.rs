//! Own batches that count as sent only after neighbours have confirmed that they store them.
//!
//! Entry type: [`Confirmations`], pure. The rule it keeps: each batch is answered once, either when enough neighbours hold
//! it or after [`CONFIRM_TIMEOUT`]. The number of waiting batches is bounded by their senders, each of which holds a share of
//! the outbox's quota.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::PeerId;

use crate::clock::Time;
use crate::model::{Id, Item, MIN_RETENTION_MS};

/// How long a batch waits for confirmations. A link that answers nothing in this time is lost.
pub(crate) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval at which neighbours that have not confirmed are asked again: new links appear, and requests get lost.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Unconfirmed batches; `W` is the value to return with the result, such as the senders.
#[derive(Debug)]
pub(super) struct Confirmations<W> {
    needed: usize,
    all: BTreeMap<Id, Waiting<W>>,
    /// For each neighbour, the Unix time in milliseconds on its clock when this node's clock started.
    clocks: BTreeMap<PeerId, i64>,
}

#[derive(Debug)]
struct Waiting<W> {
    room: String,
    item: Item,
    holders: BTreeSet<PeerId>,
    ask_at: Time,
    until: Time,
    senders: W,
}

/// A question to all neighbours in the room except `holders`, which have confirmed: do they store the batch?
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) room: String,
    pub(super) item: Item,
    pub(super) holders: BTreeSet<PeerId>,
}

impl<W> Confirmations<W> {
    /// Returns an empty set of batches, each of which needs `needed` neighbours.
    pub(super) fn new(needed: usize) -> Confirmations<W> {
        Confirmations {
            needed,
            all: BTreeMap::new(),
            clocks: BTreeMap::new(),
        }
    }

    /// Returns the number of neighbours that must hold a batch.
    pub(super) fn needed(&self) -> usize {
        self.needed
    }

    /// Adds a batch that is stored here and that neighbours are to confirm.
    pub(super) fn insert(&mut self, now: Time, room: &str, item: Item, senders: W) {
        let waiting = Waiting {
            room: room.to_owned(),
            item,
            holders: BTreeSet::new(),
            ask_at: now + ASK_INTERVAL,
            until: now + CONFIRM_TIMEOUT,
            senders,
        };
        self.all.insert(item.id, waiting);
    }

    /// Sets the time on a neighbour's clock: `theirs_ms` at `now`.
    pub(super) fn set_clock(&mut self, now: Time, peer_id: PeerId, theirs_ms: u64) {
        let theirs_ms = i64::try_from(theirs_ms).unwrap_or(i64::MAX);
        let start_ms = theirs_ms.saturating_sub(millis(now.since_start()));
        self.clocks.insert(peer_id, start_ms);
    }

    /// Forgets the clock of a neighbour after its last link has ended. Its confirmations remain.
    pub(super) fn on_link_down(&mut self, peer_id: &PeerId) {
        self.clocks.remove(peer_id);
    }

    /// Counts a neighbour that does not lack the batch. Returns the senders and the number of holders when there are enough.
    /// A neighbour that may find the batch too old to keep, by its own clock, does not lack it either, and is not counted.
    pub(super) fn on_holds(&mut self, now: Time, peer_id: PeerId, id: &Id) -> Option<(W, usize)> {
        let waiting = self.all.get_mut(id)?;
        let sent_at_ms = i64::try_from(waiting.item.sent_at_ms).unwrap_or(i64::MAX);
        let is_surely_kept = self.clocks.get(&peer_id).is_none_or(|start_ms| {
            let theirs_ms = start_ms.saturating_add(millis(now.since_start()));
            sent_at_ms > theirs_ms.saturating_sub(MIN_RETENTION_MS as i64)
        });
        if is_surely_kept {
            waiting.holders.insert(peer_id);
        }
        if waiting.holders.len() < self.needed {
            return None;
        }
        let waiting = self.all.remove(id)?;
        Some((waiting.senders, waiting.holders.len()))
    }

    /// Returns when a question or a timeout is next due.
    pub(super) fn deadline(&self) -> Option<Time> {
        let times = self
            .all
            .values()
            .map(|waiting| waiting.until.min(waiting.ask_at));
        times.min()
    }

    /// Returns the questions that are due by `now`, and schedules the next ones.
    pub(super) fn take_questions(&mut self, now: Time) -> Vec<Question> {
        let due = self
            .all
            .values_mut()
            .filter(|waiting| waiting.ask_at <= now);
        due.map(|waiting| {
            waiting.ask_at = now + ASK_INTERVAL;
            Question {
                room: waiting.room.clone(),
                item: waiting.item,
                holders: waiting.holders.clone(),
            }
        })
        .collect()
    }

    /// Removes and returns the batches that have timed out by `now`, with the senders and the number of holders of each.
    pub(super) fn expire(&mut self, now: Time) -> Vec<(Id, W, usize)> {
        let over = self.all.extract_if(.., |_, waiting| waiting.until <= now);
        over.map(|(id, waiting)| (id, waiting.senders, waiting.holders.len()))
            .collect()
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_900_000_000_000;

    fn item(n: u8) -> Item {
        Item {
            sent_at_ms: NOW_MS,
            id: [n; 32],
        }
    }

    fn after(time: Duration) -> Time {
        Time::ZERO + time
    }

    #[test]
    fn a_batch_is_answered_for_once_when_as_many_hold_it_as_must() {
        let peers: Vec<PeerId> = (0..3).map(|_| PeerId::random()).collect();
        let mut confirmations = Confirmations::new(2);
        confirmations.insert(Time::ZERO, "lobby", item(1), "who");
        let mut holds =
            |peer: usize, n: u8| confirmations.on_holds(Time::ZERO, peers[peer], &[n; 32]);
        assert_eq!((holds(0, 1), holds(0, 1), holds(1, 2)), (None, None, None));
        assert_eq!((holds(1, 1), holds(2, 1)), (Some(("who", 2)), None));
        assert_eq!(
            (
                confirmations.deadline(),
                confirmations.expire(after(CONFIRM_TIMEOUT))
            ),
            (None, vec![])
        );
    }

    #[test]
    fn who_does_not_confirm_is_asked_again_and_waited_for_until_the_time_is_over() {
        let (peer, mut confirmations) = (PeerId::random(), Confirmations::new(2));
        confirmations.insert(Time::ZERO, "lobby", item(1), "who");
        assert_eq!(confirmations.deadline(), Some(after(ASK_INTERVAL)));
        assert_eq!(confirmations.on_holds(Time::ZERO, peer, &[1; 32]), None);
        let question = Question {
            room: "lobby".to_owned(),
            item: item(1),
            holders: BTreeSet::from([peer]),
        };
        assert_eq!(
            confirmations.take_questions(after(ASK_INTERVAL)),
            [question]
        );
        assert_eq!(confirmations.take_questions(after(ASK_INTERVAL)), []);
        assert_eq!(
            confirmations.expire(after(CONFIRM_TIMEOUT - ASK_INTERVAL)),
            []
        );
        assert_eq!(
            confirmations.expire(after(CONFIRM_TIMEOUT)),
            [([1; 32], "who", 1)]
        );
    }

    #[test]
    fn a_neighbour_for_which_a_batch_may_be_too_old_has_not_confirmed_it() {
        for (ahead_ms, is_confirmed) in [
            (0, true),
            (MIN_RETENTION_MS - 1, true),
            (MIN_RETENTION_MS, false),
        ] {
            let (peer, mut confirmations) = (PeerId::random(), Confirmations::new(1));
            confirmations.set_clock(Time::ZERO, peer, NOW_MS + ahead_ms);
            confirmations.insert(Time::ZERO, "lobby", item(1), ());
            let holds = confirmations.on_holds(Time::ZERO, peer, &[1; 32]);
            assert_eq!(holds.is_some(), is_confirmed, "{ahead_ms}");
        }
    }
}
