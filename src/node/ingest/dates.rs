//! Detection of back-dated messages: dated earlier than they can have been sent.
//!
//! Entry type: [`Dates`], pure. The rule it keeps: it only reports. A message's date is its author's claim, and a message
//! that is dated too early is stored, delivered and relayed as usual.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::PeerId;

use crate::gossip::MAX_AHEAD_MS;
use crate::model::RoomName;
use crate::node::event::DatedThan;

/// Maximum apparent age of a live message in milliseconds: the difference allowed between two honest clocks.
const MAX_UNDER_WAY_MS: u64 = MAX_AHEAD_MS;
/// Maximum step back of an honest clock while a process runs, in milliseconds.
const MAX_STEP_BACK_MS: u64 = 10_000;
/// Maximum number of streams with a remembered date; past it all are forgotten.
const MAX_STREAMS: usize = 1024;

/// The messages of one process of an author in one room.
pub(super) type Stream = (PeerId, [u8; 16], RoomName);

/// The newest date of each stream.
#[derive(Debug, Default)]
pub(super) struct Dates {
    newest: HashMap<Stream, Dated>,
}

/// A batch's position in its stream, and its date.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dated {
    pub(super) first_seq: u64,
    pub(super) sent_at_ms: u64,
}

impl Dates {
    /// Records a batch that was stored at `now_ms`. Returns by how much it is back-dated, if it is, and the evidence.
    pub(super) fn check(
        &mut self,
        stream: Stream,
        dated: Dated,
        is_live: bool,
        now_ms: u64,
    ) -> Option<(Duration, DatedThan)> {
        let against_earlier = self.record(stream, dated);
        let late_by = now_ms.saturating_sub(dated.sent_at_ms);
        let against_arrival = (is_live && late_by > MAX_UNDER_WAY_MS)
            .then(|| (Duration::from_millis(late_by), DatedThan::Arrival));
        let against_earlier =
            against_earlier.map(|by_ms| (Duration::from_millis(by_ms), DatedThan::EarlierMessage));
        against_earlier.or(against_arrival)
    }

    /// Records a date. Returns by how many milliseconds it precedes that of an earlier message, if that is too much.
    fn record(&mut self, stream: Stream, dated: Dated) -> Option<u64> {
        if self.newest.len() >= MAX_STREAMS && !self.newest.contains_key(&stream) {
            self.newest.clear();
        }
        let newest = self.newest.entry(stream).or_insert(dated);
        if dated.first_seq < newest.first_seq {
            // Fetched after later ones, which were compared with the ones before them.
            return None;
        }
        let before = std::mem::replace(newest, dated);
        let by_ms = before.sent_at_ms.saturating_sub(dated.sent_at_ms);
        (by_ms > MAX_STEP_BACK_MS).then_some(by_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_900_000_000_000;
    const HOUR_MS: u64 = 3_600_000;

    fn stream(instance: u64) -> Stream {
        let mut instance_id = [0; 16];
        instance_id[..8].copy_from_slice(&instance.to_be_bytes());
        let author = crate::identity::Identity::from_seed(&[1; 32]);
        (author.peer_id(), instance_id, "lobby".parse().unwrap())
    }

    fn dated(first_seq: u64, sent_at_ms: u64) -> Dated {
        Dated {
            first_seq,
            sent_at_ms,
        }
    }

    #[test]
    fn a_message_dated_before_an_earlier_one_is_found() {
        let (mut dates, stream) = (Dates::default(), stream(1));
        let mut check = |seq, sent_at_ms, is_live| {
            dates.check(stream.clone(), dated(seq, sent_at_ms), is_live, NOW_MS)
        };
        assert_eq!(check(1, NOW_MS - 1000, true), None);
        // A clock that was set back a little.
        assert_eq!(check(2, NOW_MS - 11_000, true), None);
        let earlier = Some((Duration::from_secs(60), DatedThan::EarlierMessage));
        assert_eq!(check(3, NOW_MS - 71_000, true), earlier);
        assert_eq!(check(4, NOW_MS - 71_000, true), None);
        // Fetched batches arrive in any order.
        assert_eq!(check(2, NOW_MS - HOUR_MS, false), None);
    }

    #[test]
    fn an_old_message_that_arrives_live_is_found() {
        let mut dates = Dates::default();
        let mut check = |instance, sent_at_ms, is_live| {
            dates.check(stream(instance), dated(1, sent_at_ms), is_live, NOW_MS)
        };
        assert_eq!(check(1, NOW_MS - HOUR_MS, false), None);
        let arrival = Some((Duration::from_secs(3600), DatedThan::Arrival));
        assert_eq!(check(2, NOW_MS - HOUR_MS, true), arrival);
        // Its author's clock may be a little slow, or fast.
        assert_eq!(check(3, NOW_MS - MAX_AHEAD_MS, true), None);
        assert_eq!(check(4, NOW_MS + MAX_AHEAD_MS, true), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut dates = Dates::default();
        for n in 0..3 * MAX_STREAMS as u64 {
            dates.record(stream(n), dated(1, n));
            assert!(dates.newest.len() <= MAX_STREAMS);
        }
    }
}
