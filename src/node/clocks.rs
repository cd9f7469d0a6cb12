//! Compares this machine's clock with the monotonic clock, the log and the neighbours' clocks, and decides which time
//! to trust.
//!
//! Entry type: [`Clocks`]. The rules it keeps: a clock that jumps is followed only when most neighbours' clocks agree
//! with it, or after [`CONFIRM_AFTER`] without contradiction by a neighbour; every relevant difference is reported
//! once, naming the wrong clock as far as that is known.

mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::PeerId;

pub(crate) use self::report::CHECK_CLOCK;
pub use self::report::{ClockReport, ClockState, ClockStatus, WrongClock};
use crate::clock::{MAX_CLOCK_STEP_MS, Time};
use crate::gossip::MAX_AHEAD_MS;

/// Maximum difference between clocks that counts as none, in milliseconds: clocks that nobody sets are off by a minute
/// or two, without any consequence.
const MAX_DIFFERENCE_MS: u64 = 120_000;

/// A jump that no neighbour confirms is followed after this time, if no linked neighbour contradicts it: a machine that
/// runs alone must apply its log's bounds eventually, and an operator who set the clock wrong by accident has noticed
/// by then.
pub(crate) const CONFIRM_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A lower clock value means that the peer reported none: such a peer sends 0, to which the handshake's duration is
/// added. In milliseconds since 1970.
const MIN_CLOCK_MS: u64 = 60_000;

/// Interval between comparisons of the clocks. A jump has no effect before that: [`crate::clock::UnixMs`] notices it at
/// once.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The time to trust from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trust {
    pub(crate) now_ms: u64,
    /// Whether most neighbours' clocks agree with it.
    pub(crate) is_backed: bool,
}

/// Most neighbours would refuse a batch with this date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DateRefused {
    /// Difference between the date and the closest of the refusing clocks, in milliseconds; negative when the date is
    /// behind.
    pub(crate) ahead_ms: i64,
    /// Number of neighbours that would refuse it.
    pub(crate) refusing: usize,
    /// Number of neighbours with a known clock.
    pub(crate) neighbours: usize,
}

/// A system clock that is not trusted.
#[derive(Clone, Debug)]
struct Doubt {
    /// Time since when the clock has run steadily and without contradiction.
    since: Time,
    /// Unix time of the start of this node, by the current system clock.
    start_ms: i64,
    /// Whether the next check has to report it.
    is_new: bool,
    /// The report about it, if there is any.
    report: Option<ClockReport>,
}

/// This machine's clock, and the neighbours' clocks.
#[derive(Debug)]
pub(crate) struct Clocks {
    /// Unix time of the start of this node, by each neighbour's clock.
    peers: BTreeMap<PeerId, i64>,
    doubt: Option<Doubt>,
    /// Whether the trusted time is only a lower bound, taken from the newest message in the log. Nothing is dated by
    /// it, even if neighbours confirm it.
    is_lower_bound: bool,
    keep: Duration,
}

impl Clocks {
    /// Creates the state of a node without neighbours that keeps messages for `keep`.
    pub(crate) fn new(keep: Duration) -> Clocks {
        Clocks {
            peers: BTreeMap::new(),
            doubt: None,
            is_lower_bound: false,
            keep,
        }
    }

    /// Returns the time to trust at the start, given the system clock and the date of the newest message in the log, if
    /// there is any. A clock that is not close to that date is in doubt: retention removes nothing by it. A report is
    /// made when all messages in the log would be too old by that clock, or when the clock is before the newest of
    /// them.
    pub(crate) fn start(
        &mut self,
        now: Time,
        system_ms: u64,
        newest_ms: Option<u64>,
        out: &mut Vec<ClockReport>,
    ) -> Trust {
        let trusted_ms = newest_ms.unwrap_or(0);
        if system_ms.abs_diff(trusted_ms) <= MAX_CLOCK_STEP_MS {
            return self.trust(now, system_ms);
        }
        let ahead_ms = signed_difference(system_ms, trusted_ms);
        let is_past_everything = ahead_ms > millis(self.keep);
        let is_told = newest_ms.is_some() && (is_past_everything || ahead_ms < 0);
        let report = is_told.then(|| ClockReport::new(ClockState::Unconfirmed, ahead_ms));
        out.extend(report.clone());
        self.is_lower_bound = ahead_ms > 0;
        self.doubt = Some(Doubt {
            since: now,
            start_ms: start_of(now, system_ms),
            is_new: false,
            report,
        });
        self.trust(now, trusted_ms)
    }

    /// Compares the system clock with the trusted time and with the neighbours' clocks.
    pub(crate) fn check(
        &mut self,
        now: Time,
        system_ms: u64,
        trusted_ms: u64,
        out: &mut Vec<ClockReport>,
    ) -> Trust {
        let ahead_ms = signed_difference(system_ms, trusted_ms);
        if ahead_ms.unsigned_abs() <= MAX_CLOCK_STEP_MS {
            if self
                .doubt
                .take()
                .is_some_and(|doubt| doubt.report.is_some())
            {
                out.push(ClockReport::new(ClockState::Right, ahead_ms));
            }
            self.is_lower_bound = false;
            return self.trust(now, system_ms);
        }
        let (agreeing, neighbours) = (self.agreeing(now, system_ms), self.peers.len());
        let backing = self.agreeing(now, trusted_ms);
        let doubt = self.doubt_of(now, system_ms, ahead_ms);
        if neighbours > 0 && agreeing * 2 <= neighbours {
            doubt.since = now;
        }
        let has_stayed = now.since(doubt.since) >= CONFIRM_AFTER;
        let is_confirmed = agreeing * 2 > neighbours || has_stayed;
        let is_new = std::mem::replace(&mut doubt.is_new, false);
        let report = doubt.report.clone();
        if is_confirmed {
            self.doubt = None;
            self.is_lower_bound = false;
            out.extend(report.map(|report| {
                ClockReport::new(ClockState::Confirmed, report.ahead_ms)
                    .with_neighbours(agreeing, neighbours)
            }));
            return self.trust(now, system_ms);
        }
        if is_new {
            out.extend(report.map(|report| report.with_neighbours(backing, neighbours)));
        }
        self.trust(now, trusted_ms)
    }

    /// Returns the doubt about a system clock at `system_ms`; a new one when the clock has jumped.
    fn doubt_of(&mut self, now: Time, system_ms: u64, ahead_ms: i64) -> &mut Doubt {
        let start_ms = start_of(now, system_ms);
        let before = self
            .doubt
            .take_if(|doubt| doubt.start_ms.abs_diff(start_ms) > MAX_CLOCK_STEP_MS);
        // The jump is measured from the previous doubtful time, not from the trusted one.
        let ahead_ms = before.map_or(ahead_ms, |before| start_ms.saturating_sub(before.start_ms));
        self.doubt.get_or_insert(Doubt {
            since: now,
            start_ms,
            is_new: true,
            report: Some(ClockReport::new(ClockState::Jumped, ahead_ms)),
        })
    }

    /// Records a peer's clock `theirs_ms` at this node's time `own_ms`. Returns a report when a relevant difference is
    /// new.
    pub(crate) fn record_peer(
        &mut self,
        now: Time,
        peer_id: PeerId,
        theirs_ms: u64,
        own_ms: u64,
    ) -> Option<ClockReport> {
        if theirs_ms < MIN_CLOCK_MS {
            self.peers.remove(&peer_id);
            return None;
        }
        let is_told = |start_ms: i64| {
            let ahead_ms = start_ms.saturating_sub(start_of(now, own_ms));
            ahead_ms.unsigned_abs() > MAX_DIFFERENCE_MS
        };
        let start_ms = start_of(now, theirs_ms);
        let before = self.peers.insert(peer_id, start_ms);
        let is_news = is_told(start_ms) && !before.is_some_and(is_told);
        is_news.then(|| self.difference(now, peer_id, start_ms, own_ms))
    }

    /// Forgets the clock of a peer without a link.
    pub(crate) fn forget_peer(&mut self, peer_id: &PeerId) {
        self.peers.remove(peer_id);
    }

    /// Returns the refusal of a batch dated `sent_at_ms`, if most of these neighbours would refuse it by their clocks.
    pub(crate) fn refusal<'a>(
        &self,
        now: Time,
        sent_at_ms: u64,
        peers: impl Iterator<Item = &'a PeerId>,
    ) -> Option<DateRefused> {
        let clocks: Vec<i64> = peers
            .filter_map(|peer_id| self.peers.get(peer_id).copied())
            .collect();
        let ahead = clocks
            .iter()
            .map(|start_ms| start_of(now, sent_at_ms).saturating_sub(*start_ms));
        let refusing: Vec<i64> = ahead
            .filter(|ahead_ms| self.is_refused(*ahead_ms))
            .collect();
        if refusing.len() * 2 <= clocks.len() {
            return None;
        }
        let ahead_ms = refusing
            .iter()
            .copied()
            .min_by_key(|ms| ms.unsigned_abs())?;
        Some(DateRefused {
            ahead_ms,
            refusing: refusing.len(),
            neighbours: clocks.len(),
        })
    }

    /// Returns whether a neighbour would accept the date `sent_at_ms` by its clock; true when its clock is unknown.
    pub(crate) fn would_accept(&self, now: Time, sent_at_ms: u64, peer_id: &PeerId) -> bool {
        self.peers.get(peer_id).is_none_or(|start_ms| {
            !self.is_refused(start_of(now, sent_at_ms).saturating_sub(*start_ms))
        })
    }

    /// Returns the status of the clocks for a node with the time `own_ms`.
    pub(crate) fn status(&self, now: Time, own_ms: u64) -> ClockStatus {
        let reports = self.peers.iter().filter_map(|(peer_id, start_ms)| {
            let ahead_ms = start_ms.saturating_sub(start_of(now, own_ms));
            (ahead_ms.unsigned_abs() > MAX_DIFFERENCE_MS)
                .then(|| self.difference(now, *peer_id, *start_ms, own_ms))
        });
        let differing: Vec<ClockReport> = reports.collect();
        ClockStatus {
            in_doubt: self.doubt.as_ref().and_then(|doubt| doubt.report.clone()),
            neighbours: self.peers.len(),
            differing,
        }
    }

    /// Returns whether a date is too far ahead for any node, or older than the retention of a node with the same
    /// settings.
    fn is_refused(&self, ahead_ms: i64) -> bool {
        ahead_ms > MAX_AHEAD_MS as i64 || ahead_ms < -millis(self.keep)
    }

    fn difference(&self, now: Time, peer_id: PeerId, start_ms: i64, own_ms: u64) -> ClockReport {
        let own_start_ms = start_of(now, own_ms);
        let others = self.peers.iter().filter(|(other, _)| **other != peer_id);
        let like = |than: i64| {
            let is_like = |(_, other): &(&PeerId, &i64)| other.abs_diff(than) <= MAX_DIFFERENCE_MS;
            others.clone().filter(is_like).count()
        };
        let (with_it, with_us) = (like(start_ms), like(own_start_ms));
        let wrong = match with_it.cmp(&with_us) {
            std::cmp::Ordering::Greater => WrongClock::Own,
            std::cmp::Ordering::Less => WrongClock::Peer,
            std::cmp::Ordering::Equal => WrongClock::Unknown,
        };
        ClockReport {
            peer_id: Some(peer_id),
            wrong,
            ..ClockReport::new(ClockState::Differs, start_ms.saturating_sub(own_start_ms))
        }
        .with_neighbours(with_it.max(with_us), self.peers.len().saturating_sub(1))
    }

    /// Returns the number of neighbours' clocks that agree with this time within [`MAX_CLOCK_STEP_MS`].
    fn agreeing(&self, now: Time, unix_ms: u64) -> usize {
        let start_ms = start_of(now, unix_ms);
        let agrees = |other: &&i64| other.abs_diff(start_ms) <= MAX_CLOCK_STEP_MS;
        self.peers.values().filter(agrees).count()
    }

    fn trust(&self, now: Time, now_ms: u64) -> Trust {
        Trust {
            now_ms,
            is_backed: !self.is_lower_bound && self.agreeing(now, now_ms) * 2 > self.peers.len(),
        }
    }
}

/// Returns the Unix time of the start of this node, by a clock that is at `unix_ms` now.
fn start_of(now: Time, unix_ms: u64) -> i64 {
    let unix_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    unix_ms.saturating_sub(millis(now.since_start()))
}

fn signed_difference(a_ms: u64, b_ms: u64) -> i64 {
    let difference = i128::from(a_ms) - i128::from(b_ms);
    i64::try_from(difference).unwrap_or(match difference < 0 {
        true => i64::MIN,
        false => i64::MAX,
    })
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
