//! Data checking on links: one request-response protocol behind the gate.
//!
//! Entry function: [`behaviour`]. What is asked and answered, and when, is [`super::AntiEntropy`]' part.

use std::time::Duration;

use super::message::{MAX_REQUEST, MAX_RESPONSE, PROTOCOL};
use crate::wire::{self, Limits, RequestResponse};

/// Exchanges that may be open at once on a link: those of a comparison each way, an offer and two fetches
/// of what was offered each way, and one to spare for each of those whose end is on its way.
const STREAMS: usize = 16;
/// How long an exchange may take: the largest answer, over a line of 80 kbit/s.
const TIME: Duration = Duration::from_secs(120);
/// How long nothing may move in it: as long as gossip's queues hold a message for a slow link.
const IDLE: Duration = Duration::from_secs(30);

/// Makes the behaviour.
pub fn behaviour() -> RequestResponse {
    let limits = Limits {
        request: MAX_REQUEST,
        response: MAX_RESPONSE,
    };
    wire::request_response(PROTOCOL, limits, STREAMS, TIME, Some(IDLE))
}
