//! Deadlines of a handshake: one for the step that is due next, one for the whole.
//!
//! Entry type: [`Deadlines`]. The rule it keeps: a handshake that waits for its caller has no step due, but its whole
//! still ends after [`HANDSHAKE_TIMEOUT`].

use std::time::Duration;

use super::protocol::FrameKind;
use super::reason::Reason;
use crate::clock::Time;

/// Maximum time that a side waits for a frame that is due.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum time from the connection to the end of round 2.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The deadlines of one handshake.
pub(super) struct Deadlines {
    whole: Time,
    /// Time until which the next step is due, and the failure if it does not happen by then.
    step: Option<(Time, Reason)>,
}

impl Deadlines {
    /// Returns the deadlines of a handshake that begins at `now`; no step is due.
    pub(super) fn new(now: Time) -> Deadlines {
        Deadlines {
            whole: now + HANDSHAKE_TIMEOUT,
            step: None,
        }
    }

    /// Makes a frame of the peer due.
    pub(super) fn expect_frame(&mut self, now: Time, kind: FrameKind) {
        self.step = Some((now + FRAME_TIMEOUT, Reason::NoFrame(kind)));
    }

    /// Makes the peer's reading of our Pass due.
    pub(super) fn expect_pass_taken(&mut self, now: Time) {
        self.step = Some((now + FRAME_TIMEOUT, Reason::PassNotTaken));
    }

    /// Makes no step of the peer due.
    pub(super) fn expect_nothing(&mut self) {
        self.step = None;
    }

    /// Returns the earlier of the two deadlines.
    pub(super) fn next(&self) -> Time {
        match &self.step {
            Some((step, _)) => self.whole.min(*step),
            None => self.whole,
        }
    }

    /// Returns the failure if a deadline has passed at `now`.
    pub(super) fn expired(&self, now: Time) -> Option<Reason> {
        if self.next() > now {
            return None;
        }
        Some(match &self.step {
            Some((step, reason)) if *step <= self.whole => reason.clone(),
            _ => Reason::TooSlow,
        })
    }
}
