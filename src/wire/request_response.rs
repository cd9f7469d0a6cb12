//! The request-response behaviour of every protocol, over the bounded codec.
//!
//! Entry function: [`request_response`].

use std::time::Duration;

use libp2p::StreamProtocol;
use libp2p::request_response::{Behaviour, Config, ProtocolSupport};

use super::codec::{FrameCodec, Limits};

/// libp2p's request-response behaviour over [`FrameCodec`].
pub type RequestResponse = Behaviour<FrameCodec>;

/// Returns the behaviour of `protocol` with these frame limits. A connection has at most `streams` streams of it at once.
/// A stream fails after `time`, and after `idle` without progress if that is given.
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
