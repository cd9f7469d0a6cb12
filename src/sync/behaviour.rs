//! Network behaviour of anti-entropy ("data checking"): one request-response protocol behind the gate.
//!
//! Entry function: [`behaviour`]. [`super::AntiEntropy`] decides on requests and responses.

use std::time::Duration;

use super::message::{MAX_REQUEST, MAX_RESPONSE, PROTOCOL};
use crate::wire::{self, Limits, RequestResponse};

/// Maximum number of exchanges in progress per link: those of a round each way, an announcement and two fetches of
/// announced batches each way, and a spare one for each of those that is about to end.
const STREAMS: usize = 16;
/// Maximum time of an exchange: the largest response, at 80 kbit/s.
const TIME: Duration = Duration::from_secs(120);
/// Maximum idle time of an exchange: as long as gossip's queues hold a message for a slow link.
const IDLE: Duration = Duration::from_secs(30);

/// Returns the behaviour.
pub fn behaviour() -> RequestResponse {
    let limits = Limits {
        request: MAX_REQUEST,
        response: MAX_RESPONSE,
    };
    wire::request_response(PROTOCOL, limits, STREAMS, TIME, Some(IDLE))
}
