//! Large batches that have just come, for the neighbours that are about to fetch them.
//!
//! Entry type: [`Recent`]. The rule it keeps: it holds a bounded number of bytes for a short time; the log
//! has everything that is here.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Time;
use crate::model::{Found, Id};

/// Bytes that are held: as many as may be on their way from the neighbours.
const BYTES_MOST: usize = 8 << 20;

/// How long a batch is held. Neighbours fetch what they are offered within some round trips.
const HELD_FOR: Duration = Duration::from_secs(3);

/// The batches, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    batches: VecDeque<(Time, Id, Bytes)>,
    bytes: usize,
}

impl Recent {
    pub(super) fn add(&mut self, now: Time, id: Id, envelope: Bytes) {
        self.bytes += envelope.len();
        self.batches.push_back((now + HELD_FOR, id, envelope));
        while self.bytes > BYTES_MOST {
            self.drop_first();
        }
    }

    /// The answer to a fetch of these, if all are here; there are few of them.
    pub(super) fn found(&self, ids: &[Id]) -> Option<Found> {
        let envelope = |id: &Id| {
            let is_it = |(_, other, _): &&(Time, Id, Bytes)| other == id;
            self.batches
                .iter()
                .find(is_it)
                .map(|(.., bytes)| bytes.clone())
        };
        let [id] = ids else { return None };
        Some(Found {
            envelopes: vec![envelope(id)?],
            looked_at: 1,
            ..Found::default()
        })
    }

    pub(super) fn expire(&mut self, now: Time) {
        while self.deadline().is_some_and(|at| at <= now) {
            self.drop_first();
        }
    }

    /// When the next one has been held for long enough.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.batches.front().map(|(until, ..)| *until)
    }

    fn drop_first(&mut self) {
        if let Some((.., envelope)) = self.batches.pop_front() {
            self.bytes -= envelope.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(n: u8) -> (Id, Bytes) {
        ([n; 32], vec![n; 1 << 20].into())
    }

    #[test]
    fn the_newest_are_there_up_to_the_bound_and_for_a_while() {
        let mut recent = Recent::default();
        for n in 0..12 {
            let (id, envelope) = batch(n);
            recent.add(Time::from_millis(u64::from(n)), id, envelope);
        }
        let has = |recent: &Recent, n| recent.found(&[batch(n).0]).is_some();
        assert!(!has(&recent, 3) && has(&recent, 4) && has(&recent, 11));
        let found = recent.found(&[batch(7).0]).unwrap();
        assert_eq!((found.looked_at, found.envelopes), (1, vec![batch(7).1]));
        // The log answers what is for more than one.
        assert_eq!(recent.found(&[batch(7).0, batch(8).0]), None);
        recent.expire(Time::from_millis(10) + HELD_FOR);
        assert!(!has(&recent, 10) && has(&recent, 11));
        recent.expire(Time::from_millis(11) + HELD_FOR);
        assert_eq!((recent.deadline(), recent.bytes), (None, 0));
    }
}
