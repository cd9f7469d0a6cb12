//! The clock driver: compares this machine's clock with those of the neighbours, and reports the result.
//!
//! Entry type: [`ClockWatch`]. The rule it keeps: it decides nothing; [`Clocks`] does.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::PeerId;

use crate::clock::{Time, UnixClock, span_ms};
use crate::gossip::{MAX_AHEAD_MS, VerifiedBatch};
use crate::node::clocks::{
    CHECK_CLOCK, CHECK_INTERVAL, ClockReport, ClockStatus, Clocks, DateRefused,
};
use crate::node::error::BroadcastError;
use crate::node::event::{Event, EventBus};

/// Maximum difference in milliseconds between two statements of a clock that nobody has set meanwhile: statements are
/// delayed on the way.
const MAX_DELAY_MS: u64 = 30_000;

/// The clocks of this machine and of the neighbours.
#[derive(Debug)]
pub(crate) struct ClockWatch {
    clocks: Clocks,
    stated: StatedClocks,
    unix: UnixClock,
    bus: EventBus,
    check_at: Time,
}

impl ClockWatch {
    /// Decides which clock to trust at the start of a node. `newest_ms` is the date of the log's newest message, `keep` the
    /// age up to which the log keeps messages.
    pub(crate) fn start(
        now: Time,
        unix: UnixClock,
        bus: EventBus,
        keep: Duration,
        newest_ms: Option<u64>,
    ) -> ClockWatch {
        let mut clocks = Clocks::new(keep);
        let mut reports = Vec::new();
        let trust = clocks.start(now, unix.system_ms(), newest_ms, &mut reports);
        unix.trust(trust.now_ms, trust.is_backed);
        let mut watch = ClockWatch {
            clocks,
            stated: StatedClocks::default(),
            unix,
            bus,
            check_at: now + CHECK_INTERVAL,
        };
        watch.report(reports);
        watch
    }

    /// Returns when [`ClockWatch::on_time`] is next due.
    pub(super) fn deadline(&self) -> Time {
        self.check_at
    }

    /// Compares the clocks, if that is due by `now`.
    pub(super) fn on_time(&mut self, now: Time) {
        if self.check_at <= now {
            self.check(now);
        }
    }

    fn check(&mut self, now: Time) {
        self.check_at = now + CHECK_INTERVAL;
        let mut reports = Vec::new();
        let (system_ms, trusted_ms) = (self.unix.system_ms(), self.unix.trusted_ms());
        let trust = self.clocks.check(now, system_ms, trusted_ms, &mut reports);
        self.unix.trust(trust.now_ms, trust.is_backed);
        self.report(reports);
    }

    /// Takes a peer's clock from its handshake, as an offset to the system clock. Returns the time on it.
    pub(super) fn on_handshake(&mut self, now: Time, peer_id: PeerId, offset_ms: i64) -> u64 {
        let theirs_ms = self.unix.system_ms().saturating_add_signed(offset_ms);
        self.stated.update(now, peer_id, theirs_ms);
        self.on_clock(now, peer_id, theirs_ms);
        theirs_ms
    }

    /// Takes a linked peer's clock from a request. Returns false when that was known already.
    pub(super) fn on_request(&mut self, now: Time, peer_id: PeerId, theirs_ms: u64) -> bool {
        let is_news = self.stated.update(now, peer_id, theirs_ms);
        if is_news {
            self.on_clock(now, peer_id, theirs_ms);
        }
        is_news
    }

    fn on_clock(&mut self, now: Time, peer_id: PeerId, theirs_ms: u64) {
        let own_ms = self.unix.now_ms();
        let report = self.clocks.record_peer(now, peer_id, theirs_ms, own_ms);
        self.report(report);
        // It may settle a doubt, or be the first to confirm the trusted clock.
        self.check(now);
    }

    /// Forgets the clock of a peer after its last link has ended.
    pub(super) fn on_link_down(&mut self, peer_id: &PeerId) {
        self.clocks.forget_peer(peer_id);
        self.stated.remove(peer_id);
    }

    /// Returns the state of the clocks.
    pub(super) fn status(&self, now: Time) -> ClockStatus {
        self.clocks.status(now, self.unix.now_ms())
    }

    /// Returns the reason why most of `peers` would refuse a batch for its date, if they would.
    pub(super) fn refusal(
        &self,
        now: Time,
        batch: &VerifiedBatch,
        peers: &[PeerId],
    ) -> Option<BroadcastError> {
        let refused = self.clocks.refusal(now, batch.sent_at_ms(), peers.iter());
        refused.map(|refused| BroadcastError::ClockWrong(refusal_text(refused)))
    }

    /// Returns the number of `peers` that accept the batch's date, as far as their clocks are known.
    pub(super) fn takers(&self, now: Time, batch: &VerifiedBatch, peers: &[PeerId]) -> usize {
        let sent_at_ms = batch.sent_at_ms();
        let takes = |peer_id: &&PeerId| self.clocks.would_accept(now, sent_at_ms, peer_id);
        peers.iter().filter(takes).count()
    }

    fn report(&mut self, reports: impl IntoIterator<Item = ClockReport>) {
        for report in reports {
            self.bus.emit(Event::Clock(report));
        }
    }
}

/// The clocks that linked peers have stated: for each, the Unix time in milliseconds on it when this node's clock started.
#[derive(Debug, Default)]
struct StatedClocks {
    start_ms: HashMap<PeerId, i64>,
}

impl StatedClocks {
    /// Updates a peer's clock to `theirs_ms` at `now`. Returns false when it only has run on since the last statement.
    fn update(&mut self, now: Time, peer_id: PeerId, theirs_ms: u64) -> bool {
        let theirs_ms = i64::try_from(theirs_ms).unwrap_or(i64::MAX);
        let now_ms = i64::try_from(now.since_start().as_millis()).unwrap_or(i64::MAX);
        let start_ms = theirs_ms.saturating_sub(now_ms);
        let known = self.start_ms.get(&peer_id);
        if known.is_some_and(|known| known.abs_diff(start_ms) < MAX_DELAY_MS) {
            return false;
        }
        self.start_ms.insert(peer_id, start_ms);
        true
    }

    fn remove(&mut self, peer_id: &PeerId) {
        self.start_ms.remove(peer_id);
    }
}

fn refusal_text(refused: DateRefused) -> String {
    let DateRefused {
        ahead_ms,
        refusing,
        neighbours,
    } = refused;
    let by = span_ms(ahead_ms.unsigned_abs());
    let (way, refuse) = match ahead_ms < 0 {
        true => ("behind", "keep nothing so old".to_owned()),
        false => {
            let limit = span_ms(MAX_AHEAD_MS);
            (
                "ahead of",
                format!("refuse what is dated more than {limit} ahead"),
            )
        }
    };
    format!(
        "this machine's clock is {by} {way} those of {refusing} of {neighbours} neighbours, which {refuse}; {CHECK_CLOCK}, \
         and send it again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_900_000_000_000;

    #[test]
    fn a_clock_that_is_set_is_news_and_one_that_runs_on_is_not() {
        let (peer, mut stated) = (PeerId::random(), StatedClocks::default());
        let mut says = |at_ms, theirs_ms| stated.update(Time::from_millis(at_ms), peer, theirs_ms);
        assert!(says(0, NOW_MS));
        assert!(!says(60_000, NOW_MS + 60_000 - MAX_DELAY_MS + 1));
        assert!(says(60_000, NOW_MS + 60_000 + MAX_DELAY_MS));
        assert!(!says(0, NOW_MS + MAX_DELAY_MS));
    }
}
