//! The time of a call and the intervals of rounds, shared by the parts of anti-entropy ("data checking").

use std::time::Duration;

use crate::clock::{Time, UnixMs};

/// Delay before a failed round is repeated.
pub(super) const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Time after which a round ends when another one waits for its room.
pub(super) const ROUND_TIMEOUT: Duration = Duration::from_secs(5);

/// Minimum interval between notices to a neighbour about a room. `quota.rs` bounds those that we accept.
pub(super) const NOTIFY_INTERVAL: Duration = Duration::from_secs(1);

/// The time of a call, on both clocks.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Time,
    pub(super) unix: UnixMs,
}

/// Returns the size of a message on its stream, with its length prefix.
pub(super) fn framed(len: usize) -> u64 {
    let length = (usize::BITS - (len | 1).leading_zeros()).div_ceil(7);
    len as u64 + u64::from(length)
}
