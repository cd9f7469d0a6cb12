//! The loop's part in clocks: what peers say of theirs, and what follows from it.
//!
//! Entry type: [`ClockWatch`]. The rule it keeps: it decides nothing; [`Clocks`] does.

use std::time::Duration;

use libp2p::PeerId;

use crate::clock::{Time, UnixClock, span_ms};
use crate::gossip::{MAX_AHEAD_MS, VerifiedBatch};
use crate::node::clocks::{
    CHECK_CLOCK, CHECK_INTERVAL, ClockReport, ClockStatus, Clocks, DateRefused,
};
use crate::node::error::BroadcastError;
use crate::node::event::{Event, EventBus};

/// The clocks of this machine and of the neighbours, and when they are compared next.
#[derive(Debug)]
pub(crate) struct ClockWatch {
    clocks: Clocks,
    unix: UnixClock,
    bus: EventBus,
    check_at: Time,
}

impl ClockWatch {
    /// Decides what to trust at the start of a node whose log's newest message is of `newest_ms`.
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
            unix,
            bus,
            check_at: now + CHECK_INTERVAL,
        };
        watch.report(reports);
        watch
    }

    /// When the clocks are compared next.
    pub(super) fn deadline(&self) -> Time {
        self.check_at
    }

    /// Compares the clocks, when it is time.
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

    /// A peer's clock was ahead of the system clock by `offset_ms` just now; returns what it says.
    pub(super) fn on_offset(&mut self, now: Time, peer_id: PeerId, offset_ms: i64) -> u64 {
        let theirs_ms = self.unix.system_ms().saturating_add_signed(offset_ms);
        self.on_clock(now, peer_id, theirs_ms);
        theirs_ms
    }

    /// A peer's clock says `theirs_ms`.
    pub(super) fn on_clock(&mut self, now: Time, peer_id: PeerId, theirs_ms: u64) {
        let own_ms = self.unix.now_ms();
        let report = self.clocks.record_peer(now, peer_id, theirs_ms, own_ms);
        self.report(report);
        // It may confirm what is in doubt, or the first to confirm what is trusted.
        self.check(now);
    }

    /// The last link with a peer is gone.
    pub(super) fn on_link_down(&mut self, peer_id: &PeerId) {
        self.clocks.forget_peer(peer_id);
    }

    /// How the clocks stand.
    pub(super) fn status(&self, now: Time) -> ClockStatus {
        self.clocks.status(now, self.unix.now_ms())
    }

    /// Why most of `peers` would refuse a batch for its date, if they would.
    pub(super) fn refusal(
        &self,
        now: Time,
        batch: &VerifiedBatch,
        peers: &[PeerId],
    ) -> Option<BroadcastError> {
        let refused = self.clocks.refusal(now, batch.sent_at_ms(), peers.iter());
        refused.map(|refused| BroadcastError::ClockWrong(why_refused(refused)))
    }

    /// How many of `peers` take a batch of this date, as far as their clocks tell.
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

fn why_refused(refused: DateRefused) -> String {
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
