//! Reports and status of clocks, with their texts for people.
//!
//! Entry types: [`ClockReport`], [`ClockStatus`].

use std::fmt;

use libp2p::PeerId;

use super::MAX_DIFFERENCE_MS;
use crate::clock::span_ms;
use crate::gossip::MAX_AHEAD_MS;

/// The subject of a [`ClockReport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ClockState {
    /// A linked peer's clock differs from this node's.
    Differs,
    /// This machine's clock has jumped while the node runs. It is not followed for now: nothing is removed by it.
    Jumped,
    /// At the start this machine's clock does not fit the newest message in the log. Nothing is removed by it for now.
    Unconfirmed,
    /// A clock that had jumped, or was unconfirmed, has been confirmed and is followed now.
    Confirmed,
    /// A clock that had jumped has returned to the expected time.
    Right,
    /// An author dates its messages too far ahead: this node refuses them.
    AuthorAhead,
}

impl ClockState {
    /// Returns the name used in JSON lines.
    pub fn name(self) -> &'static str {
        match self {
            ClockState::Differs => "differs",
            ClockState::Jumped => "jumped",
            ClockState::Unconfirmed => "unconfirmed",
            ClockState::Confirmed => "confirmed",
            ClockState::Right => "right",
            ClockState::AuthorAhead => "author_ahead",
        }
    }
}

/// The wrong clock of two, as far as the other neighbours' clocks decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum WrongClock {
    /// This machine's clock is wrong.
    Own,
    /// The peer's clock is wrong.
    Peer,
    /// One of the two is wrong.
    Unknown,
}

impl WrongClock {
    /// Returns the name used in JSON lines.
    pub fn name(self) -> &'static str {
        match self {
            WrongClock::Own => "own",
            WrongClock::Peer => "peer",
            WrongClock::Unknown => "unknown",
        }
    }
}

/// A report that a clock is or was wrong. As text it says what happened, the consequence and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClockReport {
    /// The subject of the report.
    pub state: ClockState,
    /// The peer with the clock, or the author of the messages; none for this machine's clock.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialize::optional_text")
    )]
    pub peer_id: Option<PeerId>,
    /// The clock that is wrong.
    pub wrong: WrongClock,
    /// Milliseconds by which the clock in question is ahead; negative when it is behind. A peer's clock is compared
    /// with this node's; this machine's clock with its earlier time or with the newest message in the log.
    pub ahead_ms: i64,
    /// Number of neighbours' clocks that support the report.
    pub agreeing: usize,
    /// Number of other neighbours with a known clock.
    pub neighbours: usize,
}

impl ClockReport {
    pub(super) fn new(state: ClockState, ahead_ms: i64) -> ClockReport {
        ClockReport {
            state,
            peer_id: None,
            wrong: WrongClock::Own,
            ahead_ms,
            agreeing: 0,
            neighbours: 0,
        }
    }

    /// Creates the report of a message of `author` that was refused for a date `ahead_ms` after this node's time.
    pub(crate) fn author_ahead(author: PeerId, ahead_ms: u64) -> ClockReport {
        let ahead_ms = i64::try_from(ahead_ms).unwrap_or(i64::MAX);
        ClockReport {
            peer_id: Some(author),
            wrong: WrongClock::Unknown,
            ..ClockReport::new(ClockState::AuthorAhead, ahead_ms)
        }
    }

    /// Returns the report of a peer's clock that is `ahead_ms` milliseconds ahead of this machine's, when no other
    /// clock is known; none when the difference is irrelevant.
    pub fn of_peer(peer_id: PeerId, ahead_ms: i64) -> Option<ClockReport> {
        (ahead_ms.unsigned_abs() > MAX_DIFFERENCE_MS).then(|| ClockReport {
            peer_id: Some(peer_id),
            wrong: WrongClock::Unknown,
            ..ClockReport::new(ClockState::Differs, ahead_ms)
        })
    }

    pub(super) fn with_neighbours(self, agreeing: usize, neighbours: usize) -> ClockReport {
        ClockReport {
            agreeing,
            neighbours,
            ..self
        }
    }

    /// Returns the report as text, with the peer named by `name`.
    pub fn text(&self, name: impl Fn(&PeerId) -> String) -> String {
        let peer = self.peer_id.as_ref().map(name).unwrap_or_default();
        let by = span_ms(self.ahead_ms.unsigned_abs());
        let (agreeing, neighbours) = (self.agreeing, self.neighbours);
        let clocks = format!("{agreeing} of {neighbours} neighbours' clocks");
        match self.state {
            ClockState::Differs => self.differs(&peer, &by),
            ClockState::Jumped => {
                let way = way(self.ahead_ms, "has jumped ahead", "has been set back");
                let dates = match agreeing * 2 > neighbours {
                    true => format!(" and messages are dated as before, which {clocks} confirm,"),
                    false => String::new(),
                };
                format!(
                    "this machine's clock {way} by {by} while the program runs: nothing is removed for its age{dates} \
                     until most neighbours' clocks agree with the new time, or it has stayed for 24 h; {CHECK_CLOCK}"
                )
            }
            ClockState::Unconfirmed => {
                let way = way(self.ahead_ms, "after", "before");
                format!(
                    "this machine's clock is {by} {way} the newest message in the log: nothing is removed for its age \
                     until most neighbours' clocks agree with it, or it has stayed for 24 h; {CHECK_CLOCK}"
                )
            }
            ClockState::Confirmed if agreeing > 0 => {
                format!("this machine's clock is trusted again: {clocks} agree with it")
            }
            ClockState::Confirmed => {
                "this machine's clock is trusted again: it has stayed for 24 h".to_owned()
            }
            ClockState::Right => {
                "this machine's clock is right again; nothing was removed because of it".to_owned()
            }
            ClockState::AuthorAhead => format!(
                "{peer} dates its messages {by} ahead of this machine's clock: they are refused here, as is what is dated \
                 more than {} ahead; one of the two clocks is wrong: {CHECK_CLOCK}, and tell whoever runs {peer}",
                span_ms(MAX_AHEAD_MS)
            ),
        }
    }

    fn differs(&self, peer: &str, by: &str) -> String {
        let way = way(self.ahead_ms, "ahead of", "behind");
        let others = match self.agreeing {
            1 => "another neighbour's clock agrees".to_owned(),
            n => format!("{n} other neighbours' clocks agree"),
        };
        let whose = match self.wrong {
            WrongClock::Own => {
                format!("{others} with it, so that this machine's clock is wrong: {CHECK_CLOCK}")
            }
            WrongClock::Peer => format!(
                "{others} with this machine's, so that the clock of {peer} is wrong: whoever runs it must set it"
            ),
            WrongClock::Unknown => {
                format!("one of the two is wrong: {CHECK_CLOCK}, here and there")
            }
        };
        let refused = match (
            self.ahead_ms.unsigned_abs() > MAX_AHEAD_MS,
            self.ahead_ms > 0,
        ) {
            (false, _) => "",
            (true, true) => "; until then what it sends is refused here",
            (true, false) => "; until then what this node sends is refused there",
        };
        format!("the clock of {peer} is {by} {way} this machine's: {whose}{refused}")
    }
}

impl fmt::Display for ClockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(PeerId::to_string))
    }
}

/// The remedy for a wrong clock.
pub(crate) const CHECK_CLOCK: &str =
    "check it with `timedatectl`, and set it with `timedatectl set-ntp true` or `date`";

fn way(ahead_ms: i64, ahead: &'static str, behind: &'static str) -> &'static str {
    match ahead_ms < 0 {
        true => behind,
        false => ahead,
    }
}

/// The status of this machine's clock and of its neighbours'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ClockStatus {
    /// The reason why this machine's clock is not followed; none when it is.
    pub in_doubt: Option<ClockReport>,
    /// Number of linked peers with a known clock.
    pub neighbours: usize,
    /// The reports of linked peers with a differing clock.
    pub differing: Vec<ClockReport>,
}
