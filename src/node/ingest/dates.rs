//! Finds messages that are dated earlier than they can have been sent.
//!
//! Entry type: [`Dates`]. The rule it keeps: it reports and decides nothing. A message's date is its author's word:
//! what is dated too early is stored, delivered and passed on like everything else.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::PeerId;

use crate::gossip::MAX_AHEAD_MS;
use crate::model::RoomName;
use crate::node::event::DatedThan;

/// How long a message that comes live can have been on its way: as far as two honest clocks may differ, in
/// milliseconds.
const MAX_UNDER_WAY_MS: u64 = MAX_AHEAD_MS;
/// How far an honest clock is set back while a process runs, in milliseconds.
const MAX_STEP_BACK_MS: u64 = 10_000;
/// Maximum number of streams whose dates are remembered; past it the memory starts anew.
const MAX_STREAMS: usize = 1024;

/// What one process of an author says in one room.
pub(super) type Stream = (PeerId, [u8; 16], RoomName);

/// The newest date of each stream.
#[derive(Debug, Default)]
pub(super) struct Dates {
    newest: HashMap<Stream, Dated>,
}

/// A batch's place in its stream, and its date.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dated {
    pub(super) first_seq: u64,
    pub(super) sent_at_ms: u64,
}

impl Dates {
    /// Takes note of a batch that was stored at `now_ms`; by how much it is back-dated, if it is, and what shows
    /// it.
    pub(super) fn check(
        &mut self,
        stream: Stream,
        dated: Dated,
        is_live: bool,
        now_ms: u64,
    ) -> Option<(Duration, DatedThan)> {
        let against_earlier = self.note(stream, dated);
        let late_by = now_ms.saturating_sub(dated.sent_at_ms);
        let against_arrival = (is_live && late_by > MAX_UNDER_WAY_MS)
            .then(|| (Duration::from_millis(late_by), DatedThan::Arrival));
        let against_earlier =
            against_earlier.map(|by_ms| (Duration::from_millis(by_ms), DatedThan::EarlierMessage));
        against_earlier.or(against_arrival)
    }

    /// Remembers a date; by how many milliseconds it is before that of an earlier message, if that is too much.
    fn note(&mut self, stream: Stream, dated: Dated) -> Option<u64> {
        if self.newest.len() >= MAX_STREAMS && !self.newest.contains_key(&stream) {
            self.newest.clear();
        }
        let newest = self.newest.entry(stream).or_insert(dated);
        if dated.first_seq < newest.first_seq {
            // It was fetched, after later ones: these are compared with what came before them.
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
    fn what_is_dated_before_an_earlier_message_is_found() {
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
        // What is fetched comes in any order.
        assert_eq!(check(2, NOW_MS - HOUR_MS, false), None);
    }

    #[test]
    fn what_comes_live_and_is_old_is_found() {
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
            dates.note(stream(n), dated(1, n));
            assert!(dates.newest.len() <= MAX_STREAMS);
        }
    }
}
