//! Own batches that count as sent only when neighbours have confirmed that they stored them.
//!
//! Entry type: [`Confirmations`]. The rule it keeps: a batch is answered for once: when enough neighbours hold it, or when
//! [`CONFIRM_TIMEOUT`] is over. How many wait is bounded by those who wait: each holds a share of the outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::PeerId;

use crate::clock::Time;
use crate::model::{Id, Item, MIN_RETENTION_MS};

/// How long neighbours are waited for. A link that has not answered anything for so long is lost.
pub(crate) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// After this those that have not confirmed it are asked again: links come up meanwhile, and questions get lost.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// What a neighbour says of its clock differs by less than this while nobody sets it: what it says takes a while to come.
const SAME_CLOCK_MS: u64 = 30_000;

/// What is waited for, and `W`, who waits.
#[derive(Debug)]
pub(super) struct Confirmations<W> {
    needed: usize,
    all: BTreeMap<Id, Waiting<W>>,
    /// The Unix time at which this node's clock started, by each neighbour's clock.
    clocks: BTreeMap<PeerId, i64>,
}

#[derive(Debug)]
struct Waiting<W> {
    room: String,
    item: Item,
    holders: BTreeSet<PeerId>,
    ask_at: Time,
    until: Time,
    who: W,
}

/// Neighbours that are to be asked whether they hold a batch: those in the room but for `holders`, who have said so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) room: String,
    pub(super) item: Item,
    pub(super) holders: BTreeSet<PeerId>,
}

impl<W> Confirmations<W> {
    /// Batches count as sent when `needed` neighbours hold them.
    pub(super) fn new(needed: usize) -> Confirmations<W> {
        Confirmations {
            needed,
            all: BTreeMap::new(),
            clocks: BTreeMap::new(),
        }
    }

    /// How many neighbours must hold a batch.
    pub(super) fn needed(&self) -> usize {
        self.needed
    }

    /// A batch is stored here; `who` waits until it is at neighbours too.
    pub(super) fn add(&mut self, now: Time, room: &str, item: Item, who: W) {
        let waiting = Waiting {
            room: room.to_owned(),
            item,
            holders: BTreeSet::new(),
            ask_at: now + ASK_INTERVAL,
            until: now + CONFIRM_TIMEOUT,
            who,
        };
        self.all.insert(item.id, waiting);
    }

    /// A neighbour's clock says `theirs_ms` now; whether that is another time than what was known of it.
    pub(super) fn set_clock(&mut self, now: Time, peer_id: PeerId, theirs_ms: u64) -> bool {
        let theirs_ms = i64::try_from(theirs_ms).unwrap_or(i64::MAX);
        let start_ms = theirs_ms.saturating_sub(millis(now.since_start()));
        let known = self.clocks.get(&peer_id);
        let is_known = known.is_some_and(|known| known.abs_diff(start_ms) < SAME_CLOCK_MS);
        if !is_known {
            self.clocks.insert(peer_id, start_ms);
        }
        !is_known
    }

    /// The last link with a neighbour is gone. What it holds it still holds.
    pub(super) fn lost(&mut self, peer_id: &PeerId) {
        self.clocks.remove(peer_id);
    }

    /// A neighbour does not lack this batch; who waited for that, if they need wait no more, and how many hold it. One by
    /// whose clock the batch is so old that it might not keep it has said nothing by that.
    pub(super) fn holds(&mut self, now: Time, peer_id: PeerId, id: &Id) -> Option<(W, usize)> {
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
        Some((waiting.who, waiting.holders.len()))
    }

    /// When something is to be done.
    pub(super) fn deadline(&self) -> Option<Time> {
        let times = self
            .all
            .values()
            .map(|waiting| waiting.until.min(waiting.ask_at));
        times.min()
    }

    /// What neighbours are to be asked again.
    pub(super) fn questions(&mut self, now: Time) -> Vec<Question> {
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

    /// Those whose time is over by `now`: the batch, who waited, and how many neighbours hold it.
    pub(super) fn expire(&mut self, now: Time) -> Vec<(Id, W, usize)> {
        let over = self.all.extract_if(.., |_, waiting| waiting.until <= now);
        over.map(|(id, waiting)| (id, waiting.who, waiting.holders.len()))
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
        confirmations.add(Time::ZERO, "lobby", item(1), "who");
        let mut holds = |peer: usize, n: u8| confirmations.holds(Time::ZERO, peers[peer], &[n; 32]);
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
        confirmations.add(Time::ZERO, "lobby", item(1), "who");
        assert_eq!(confirmations.deadline(), Some(after(ASK_INTERVAL)));
        assert_eq!(confirmations.holds(Time::ZERO, peer, &[1; 32]), None);
        let question = Question {
            room: "lobby".to_owned(),
            item: item(1),
            holders: BTreeSet::from([peer]),
        };
        assert_eq!(confirmations.questions(after(ASK_INTERVAL)), [question]);
        assert_eq!(confirmations.questions(after(ASK_INTERVAL)), []);
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
    fn a_clock_that_is_set_is_news_and_one_that_runs_on_is_not() {
        let (peer, mut confirmations) = (PeerId::random(), Confirmations::<()>::new(1));
        let mut says =
            |at_ms, theirs_ms| confirmations.set_clock(Time::from_millis(at_ms), peer, theirs_ms);
        assert!(says(0, NOW_MS));
        assert!(!says(60_000, NOW_MS + 60_000 - SAME_CLOCK_MS + 1));
        assert!(says(60_000, NOW_MS + 60_000 + SAME_CLOCK_MS));
        assert!(!says(0, NOW_MS + SAME_CLOCK_MS));
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
            confirmations.add(Time::ZERO, "lobby", item(1), ());
            let holds = confirmations.holds(Time::ZERO, peer, &[1; 32]);
            assert_eq!(holds.is_some(), is_confirmed, "{ahead_ms}");
        }
    }
}
