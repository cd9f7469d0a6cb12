//! Large messages that are valid and are forwarded with a delay.
//!
//! Entry type: [`DelayedForwards`], pure. The rule it keeps: messages are forwarded in the order of their times. During the
//! delay, peers that receive the message from another link announce that they do not want it (gossipsub 1.2, IDONTWANT), and
//! get no second copy.

use std::collections::VecDeque;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::gossipsub::MessageId;
use rand::{Rng, RngExt as _};

use crate::clock::Time;

/// Minimum delay of a message.
const MIN_DELAY: Duration = Duration::from_millis(2);
/// The delay grows with the message by its size over this rate, because the publisher takes as long to send it on its other
/// links.
const BYTES_PER_SECOND: f64 = 25e6;
/// Maximum random factor of the delay, so that of several nodes with a common neighbour one is the first. Like the other
/// values it is a guess, measured on one machine.
const MAX_FACTOR: f64 = 3.0;

/// Messages with the time at which each is forwarded, and the peer that sent it.
#[derive(Debug, Default)]
pub(super) struct DelayedForwards {
    queue: VecDeque<(Time, MessageId, PeerId)>,
}

impl DelayedForwards {
    /// Adds a message of `bytes` bytes that peer `from` has sent.
    pub(super) fn insert(
        &mut self,
        now: Time,
        id: MessageId,
        from: PeerId,
        bytes: usize,
        rng: &mut impl Rng,
    ) {
        let delay = MIN_DELAY + Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND);
        let at = now + delay.mul_f64(rng.random_range(1.0..=MAX_FACTOR));
        let place = self.queue.partition_point(|(other, ..)| *other <= at);
        self.queue.insert(place, (at, id, from));
    }

    /// Removes and returns the messages that are due by `now`.
    pub(super) fn take_due(&mut self, now: Time) -> Vec<(MessageId, PeerId)> {
        let due = self.queue.partition_point(|(at, ..)| *at <= now);
        let due = self.queue.drain(..due);
        due.map(|(_, id, from)| (id, from)).collect()
    }

    /// Returns when the next message is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.queue.front().map(|(at, ..)| *at)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn messages_are_due_in_order_after_a_delay_that_grows_with_their_size() {
        let mut forwards = DelayedForwards::default();
        let mut rng = StdRng::seed_from_u64(1);
        let peer = PeerId::random();
        let sizes = [1_000_000, 25_000, 500_000];
        for bytes in sizes {
            let id = MessageId::new(bytes.to_string().as_bytes());
            forwards.insert(Time::ZERO, id, peer, bytes, &mut rng);
        }
        assert!(forwards.take_due(Time::ZERO + MIN_DELAY).is_empty());
        let (mut last, mut taken) = (Time::ZERO, 0);
        while let Some(at) = forwards.deadline() {
            assert!(at >= last);
            taken += forwards.take_due(at).len();
            last = at;
        }
        assert_eq!(taken, sizes.len());
        let longest = MIN_DELAY + Duration::from_secs_f64(1_000_000.0 / BYTES_PER_SECOND);
        assert!(last <= Time::ZERO + longest.mul_f64(MAX_FACTOR));
    }
}
