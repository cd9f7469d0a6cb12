//! The stages of a connection, and the error of one stage.
//!
//! Entry types: [`Stage`], [`StageError`]. The rule they keep: an error names the stage that failed, the cause, and a
//! remedy when one is known.

use std::fmt;

/// A stage of a connection until it is a link, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Stage {
    /// The address itself, before anything is sent.
    Address,
    /// The resolution of a DNS name to IP addresses.
    Resolve,
    /// The TCP connection.
    Tcp,
    /// TLS, for `/tls/ws` and `/wss`.
    Tls,
    /// The HTTP upgrade to WebSocket.
    Websocket,
    /// Noise: encryption, and proof of the peer id.
    Noise,
    /// Yamux: stream multiplexing.
    Yamux,
    /// Identify: the peer's description of itself.
    Identify,
    /// Round 1 of the handshake: the dialer is the client.
    #[cfg_attr(feature = "serde", serde(rename = "handshake_1"))]
    Handshake1,
    /// Round 2 of the handshake: the listener is the client.
    #[cfg_attr(feature = "serde", serde(rename = "handshake_2"))]
    Handshake2,
    /// The handshake succeeded, but the link is not kept: a limit, or a better connection to the same peer.
    Link,
}

impl Stage {
    /// Returns the name used in messages and JSON lines.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Address => "address",
            Stage::Resolve => "resolve",
            Stage::Tcp => "tcp",
            Stage::Tls => "tls",
            Stage::Websocket => "websocket",
            Stage::Noise => "noise",
            Stage::Yamux => "yamux",
            Stage::Identify => "identify",
            Stage::Handshake1 => "handshake_1",
            Stage::Handshake2 => "handshake_2",
            Stage::Link => "link",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Error code: the other end closed the connection, without any other fault.
pub(crate) const HUNG_UP: &str = "HUNG_UP";
/// Error code: a client requested something other than WebSocket.
pub(super) const NOT_WEBSOCKET: &str = "NOT_WEBSOCKET";
/// Error code: TLS with a client failed.
pub(super) const NOT_TLS: &str = "NOT_TLS";
/// Error code: a client connected and sent nothing in time.
pub(super) const SILENT: &str = "SILENT";

/// The failure of one stage of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StageError {
    /// The stage that failed.
    pub stage: Stage,
    /// The code that the peer sent (AUTH, NETWORK, …), or a short code of this program.
    pub code: Option<&'static str>,
    /// The cause, and the remedy when one is known.
    pub reason: String,
}

impl StageError {
    /// Creates an error of `stage` with `reason`, without a code.
    pub fn new(stage: Stage, reason: impl Into<String>) -> StageError {
        StageError {
            stage,
            code: None,
            reason: reason.into(),
        }
    }

    /// Returns whether the error concerns an unknown client of this node that never proved to be a libp2p peer.
    pub(crate) fn is_of_stranger(&self) -> bool {
        let codes = [HUNG_UP, NOT_WEBSOCKET, NOT_TLS, SILENT];
        self.stage < Stage::Noise && self.code.is_some_and(|code| codes.contains(&code))
    }

    /// Returns the error with `code` in place of its code.
    pub fn with_code(self, code: &'static str) -> StageError {
        StageError {
            code: Some(code),
            ..self
        }
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.reason)
    }
}

impl std::error::Error for StageError {}
