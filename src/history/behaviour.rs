//! Data checking on links: one request-response protocol behind the gate.
//!
//! Entry function: [`behaviour`]. What is asked and answered, and when, is [`super::Checks`]' part.

use std::time::Duration;

use super::message::{MAX_REQUEST, MAX_RESPONSE, PROTOCOL};
use crate::wire::{self, Exchange, Limits};

/// Exchanges that may be open at once on a link.
const STREAMS: usize = 8;
/// How long an exchange may take. A response of a mebibyte over a slow link takes a while.
const TIME: Duration = Duration::from_secs(10);

/// Makes the behaviour.
pub fn behaviour() -> Exchange {
    let limits = Limits {
        request: MAX_REQUEST,
        response: MAX_RESPONSE,
    };
    wire::exchange(PROTOCOL, limits, STREAMS, TIME)
}
