//! Whose clock is right: this machine's clock against the monotonic clock, the log and the neighbours' clocks.
//!
//! Entry type: [`Clocks`]. The rules it keeps: a clock that jumps is followed only when most neighbours' clocks agree
//! with it, or when it has stayed so for long ([`CONFIRM_AFTER`]) and no neighbour speaks against it; every difference
//! that matters is reported once, with whose clock it is as far as that can be told.

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

/// Clocks that differ by less are as good as equal: machines that nobody sets are off by a minute or two, and nothing
/// comes of it. In milliseconds.
const MAX_DIFFERENCE_MS: u64 = 120_000;

/// A jump that no neighbour confirms is followed after this, if none is linked that contradicts it: a machine that runs
/// alone must have its log's bounds some day, and who sets a clock wrong by accident has noticed by then.
pub(crate) const CONFIRM_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A clock that says less has not been told: a peer that says none sends 0, to which the handshake's time is added. In
/// milliseconds since 1970: no machine that has a link started its clock in that minute.
const MIN_CLOCK_MS: u64 = 60_000;

/// How often the clocks are compared. A jump has no effect before that: [`crate::clock::UnixMs`] sees it at once.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The time that is to be trusted from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trust {
    pub(crate) now_ms: u64,
    /// Most neighbours' clocks agree with it.
    pub(crate) is_backed: bool,
}

/// Why most neighbours would not take a batch with this date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DateRefused {
    /// How far ahead of their clocks the date is, the one that differs least; negative when it is behind.
    pub(crate) ahead_ms: i64,
    /// How many would refuse it.
    pub(crate) refusing: usize,
    /// How many neighbours' clocks are known.
    pub(crate) neighbours: usize,
}

/// A system clock that is not trusted.
#[derive(Clone, Debug)]
struct Doubt {
    /// Since when it has stood so, and nobody has contradicted it.
    since: Time,
    /// The Unix time at which this node's clock started, by the system clock as it is now.
    start_ms: i64,
    /// Whether it is to be reported with the next check.
    is_new: bool,
    /// What is reported of it, if anything is.
    report: Option<ClockReport>,
}

/// This machine's clock, and the neighbours' clocks.
#[derive(Debug)]
pub(crate) struct Clocks {
    /// The Unix time at which this node's clock started, by each neighbour's clock.
    peers: BTreeMap<PeerId, i64>,
    doubt: Option<Doubt>,
    /// What is trusted is only the least that the time can be: that of the newest message in the log. However many
    /// neighbours confirm it, nothing is dated by it.
    is_lower_bound: bool,
    keep: Duration,
}

impl Clocks {
    /// Without neighbours, in a node that keeps messages for `keep`.
    pub(crate) fn new(keep: Duration) -> Clocks {
        Clocks {
            peers: BTreeMap::new(),
            doubt: None,
            is_lower_bound: false,
            keep,
        }
    }

    /// What is to be trusted at the start, when the system clock says `system_ms` and the newest message in the log is
    /// of `newest_ms`, if there is any. A clock that is not soon after that message is in doubt: nothing is removed by
    /// it. It is reported when all that the log holds would be too old by it, or when it is before that message.
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

    /// Compares the system clock with what has been trusted so far and with the neighbours' clocks.
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

    /// The doubt about a system clock that says `system_ms`; a new one when it has jumped.
    fn doubt_of(&mut self, now: Time, system_ms: u64, ahead_ms: i64) -> &mut Doubt {
        let start_ms = start_of(now, system_ms);
        let before = self
            .doubt
            .take_if(|doubt| doubt.start_ms.abs_diff(start_ms) > MAX_CLOCK_STEP_MS);
        // It has moved from where it stood, however far that was from what is trusted.
        let ahead_ms = before.map_or(ahead_ms, |before| start_ms.saturating_sub(before.start_ms));
        self.doubt.get_or_insert(Doubt {
            since: now,
            start_ms,
            is_new: true,
            report: Some(ClockReport::new(ClockState::Jumped, ahead_ms)),
        })
    }

    /// A peer's clock says `theirs_ms` while this node's time is `own_ms`. Reports a difference that matters, when it
    /// was not reported before.
    pub(crate) fn heard(
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

    /// The last link with a peer is gone.
    pub(crate) fn lost(&mut self, peer_id: &PeerId) {
        self.peers.remove(peer_id);
    }

    /// Why most of these neighbours would refuse a batch that is dated `sent_at_ms`, if they would.
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

    /// Whether a neighbour's clock speaks for its taking what is dated `sent_at_ms`; true when it is not known.
    pub(crate) fn takes(&self, now: Time, sent_at_ms: u64, peer_id: &PeerId) -> bool {
        self.peers.get(peer_id).is_none_or(|start_ms| {
            !self.is_refused(start_of(now, sent_at_ms).saturating_sub(*start_ms))
        })
    }

    /// How the clocks stand, by a node whose time is `own_ms`.
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

    /// Too far ahead for any node, or older than what a node keeps that is set as this one is.
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

    /// How many neighbours' clocks agree with this time, as nearly as the date of a message has to.
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

/// The Unix time at which this node's clock started, by a clock that says `unix_ms` now.
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
