//! Upload cache: large batches that have just been stored, for the neighbours that are about to fetch them.
//!
//! Entry type: [`Recent`], pure. The rule it keeps: it holds a bounded number of bytes for a short time, and the log has
//! everything in it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Time;
use crate::model::{Found, Id};

/// Maximum number of cached bytes: as many as neighbours may have on the way to this node.
const MAX_BYTES: usize = 8 << 20;

/// How long a batch is cached. Neighbours fetch an announced batch within some round trips.
const CACHE_TIMEOUT: Duration = Duration::from_secs(3);

/// The cached batches, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    batches: VecDeque<(Time, Id, Bytes)>,
    bytes: usize,
}

impl Recent {
    /// Caches a batch, and drops the oldest ones past [`MAX_BYTES`].
    pub(super) fn insert(&mut self, now: Time, id: Id, envelope: Bytes) {
        self.bytes += envelope.len();
        self.batches.push_back((now + CACHE_TIMEOUT, id, envelope));
        while self.bytes > MAX_BYTES {
            self.drop_first();
        }
    }

    /// Returns the answer to a fetch of one cached batch. The log answers fetches of several.
    pub(super) fn find(&self, ids: &[Id]) -> Option<Found> {
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

    /// Drops the batches that were cached long enough by `now`.
    pub(super) fn expire(&mut self, now: Time) {
        while self.deadline().is_some_and(|at| at <= now) {
            self.drop_first();
        }
    }

    /// Returns when [`Recent::expire`] is next due.
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
            recent.insert(Time::from_millis(u64::from(n)), id, envelope);
        }
        let has = |recent: &Recent, n| recent.find(&[batch(n).0]).is_some();
        assert!(!has(&recent, 3) && has(&recent, 4) && has(&recent, 11));
        let found = recent.find(&[batch(7).0]).unwrap();
        assert_eq!((found.looked_at, found.envelopes), (1, vec![batch(7).1]));
        // The log answers fetches of several.
        assert_eq!(recent.find(&[batch(7).0, batch(8).0]), None);
        recent.expire(Time::from_millis(10) + CACHE_TIMEOUT);
        assert!(!has(&recent, 10) && has(&recent, 11));
        recent.expire(Time::from_millis(11) + CACHE_TIMEOUT);
        assert_eq!((recent.deadline(), recent.bytes), (None, 0));
    }
}
