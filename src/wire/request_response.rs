//! A request-response behaviour over the bounded codec, the same for every protocol.
//!
//! Entry function: [`request_response`].

use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p::request_response::{Behaviour, Config, ProtocolSupport};

use super::codec::{FrameCodec, Limits};

/// libp2p's request-response over frames.
pub type RequestResponse = Behaviour<FrameCodec>;

/// `protocol` with these limits, at most `streams` at once on a connection, each for at most `time`, and for at
/// most `idle` without that anything moves, if that is given.
pub fn request_response(
    protocol: &'static str,
    limits: Limits,
    streams: usize,
    time: Duration,
    idle: Option<Duration>,
) -> RequestResponse {
    let config = Config::default()
        .with_max_concurrent_streams(streams)
        .with_request_timeout(time);
    let codec = FrameCodec::new(limits);
    Behaviour::with_codec(
        idle.map_or(codec, |idle| codec.idle(idle)),
        [(StreamProtocol::new(protocol), ProtocolSupport::Full)],
        config,
    )
}
