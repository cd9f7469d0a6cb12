//! What a node reports of clocks.
//!
//! Entry types: [`ClockReport`], [`ClockStatus`].

use std::fmt;

use libp2p::PeerId;

use super::MAX_DIFFERENCE_MS;
use crate::clock::span_ms;
use crate::gossip::MAX_AHEAD_MS;

/// What a [`ClockReport`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum ClockState {
    /// A linked peer's clock differs from this node's.
    Differs,
    /// This machine's clock has jumped while the node runs. It is not followed for now: nothing is removed by it.
    Jumped,
    /// At the start this machine's clock fits badly to the newest message in the log. Nothing is removed by it for now.
    Unconfirmed,
    /// A clock that had jumped, or was unconfirmed, is followed now: it has been confirmed.
    Confirmed,
    /// A clock that had jumped is back where it belongs.
    Right,
    /// An author dates its messages too far ahead: they are refused here.
    AuthorAhead,
}

impl ClockState {
    /// The name in JSON lines.
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

/// Whose clock is wrong, as far as the other neighbours' clocks tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum WrongClock {
    /// This machine's.
    Own,
    /// The peer's.
    Peer,
    /// One of the two.
    Unknown,
}

impl WrongClock {
    /// The name in JSON lines.
    pub fn name(self) -> &'static str {
        match self {
            WrongClock::Own => "own",
            WrongClock::Peer => "peer",
            WrongClock::Unknown => "unknown",
        }
    }
}

/// A clock that is, or was, wrong. As text it says what happened, what it means and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ClockReport {
    /// What it is about.
    pub state: ClockState,
    /// Whose clock or messages, if it is not this machine's clock.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialize::optional_text")
    )]
    pub peer_id: Option<PeerId>,
    /// Whose clock is wrong.
    pub wrong: WrongClock,
    /// By how many milliseconds the clock in question is ahead; behind when it is negative. That of the peer against
    /// this node's, or this machine's against what it was before or against the newest message in the log.
    pub ahead_ms: i64,
    /// How many neighbours' clocks speak for what is said.
    pub agreeing: usize,
    /// How many other neighbours' clocks are known.
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

    /// A message of `author` that was refused, because it is dated `ahead_ms` after this node's time.
    pub(crate) fn author_ahead(author: PeerId, ahead_ms: u64) -> ClockReport {
        let ahead_ms = i64::try_from(ahead_ms).unwrap_or(i64::MAX);
        ClockReport {
            peer_id: Some(author),
            wrong: WrongClock::Unknown,
            ..ClockReport::new(ClockState::AuthorAhead, ahead_ms)
        }
    }

    /// Returns the report of a peer's clock that is `ahead_ms` milliseconds ahead of this machine's, when no other clock is
    /// known; none when the difference is too small to matter.
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

    /// The report as text, with the name that `name` gives to the peer.
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

/// What to do about a clock.
pub(crate) const CHECK_CLOCK: &str =
    "check it with `timedatectl`, and set it with `timedatectl set-ntp true` or `date`";

fn way(ahead_ms: i64, ahead: &'static str, behind: &'static str) -> &'static str {
    match ahead_ms < 0 {
        true => behind,
        false => ahead,
    }
}

/// How this machine's clock stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ClockStatus {
    /// Why this machine's clock is not followed, if it is not.
    pub in_doubt: Option<ClockReport>,
    /// Linked peers whose clocks are known.
    pub neighbours: usize,
    /// Those of them whose clocks differ.
    pub differing: Vec<ClockReport>,
}
