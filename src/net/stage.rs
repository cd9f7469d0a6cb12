//! The stages of a link coming up, and what went wrong at which.
//!
//! Entry types: [`Stage`], [`StageError`]. The rule they keep: an error says at which stage it
//! happened, what was wrong, and what to do about it when that is known.

use std::fmt;

/// A stage of a link coming up, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Stage {
    /// The address itself: what it names, before anything is sent.
    Address,
    /// A DNS name to IP addresses.
    Resolve,
    /// The TCP connection.
    Tcp,
    /// TLS, for `/tls/ws` and `/wss`.
    Tls,
    /// The HTTP upgrade to WebSocket.
    Websocket,
    /// Encryption, and proof of the peer id.
    Noise,
    /// Stream multiplexing.
    Yamux,
    /// What the peer says of itself.
    Identify,
    /// Round 1 of the handshake: the dialer is the client.
    #[cfg_attr(feature = "serde", serde(rename = "handshake_1"))]
    Handshake1,
    /// Round 2 of the handshake: the listener is the client.
    #[cfg_attr(feature = "serde", serde(rename = "handshake_2"))]
    Handshake2,
    /// The link is proved but not kept: limits, or a better connection to the same peer.
    Link,
}

impl Stage {
    /// The name in messages and JSON lines.
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

/// The code of an error that is nothing but a connection that the other end has closed.
pub(crate) const HUNG_UP: &str = "HUNG_UP";
/// The code of a visitor that asks for something else than WebSocket.
pub(super) const NOT_WEBSOCKET: &str = "NOT_WEBSOCKET";
/// The code of a visitor with which TLS did not come up.
pub(super) const NOT_TLS: &str = "NOT_TLS";
/// The code of a visitor that has connected and did not go on.
pub(super) const SILENT: &str = "SILENT";

/// What went wrong at a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct StageError {
    /// Where.
    pub stage: Stage,
    /// The code that went over the wire (AUTH, NETWORK, …), or a short word of our own.
    pub code: Option<&'static str>,
    /// What was wrong, and what to do when that is known.
    pub reason: String,
}

impl StageError {
    /// An error of `stage` with `reason`.
    pub fn new(stage: Stage, reason: impl Into<String>) -> StageError {
        StageError {
            stage,
            code: None,
            reason: reason.into(),
        }
    }

    /// Whether it tells of somebody who connected to this node and of whom nothing is known, not even that it is a peer.
    pub(crate) fn is_of_stranger(&self) -> bool {
        let codes = [HUNG_UP, NOT_WEBSOCKET, NOT_TLS, SILENT];
        self.stage < Stage::Noise && self.code.is_some_and(|code| codes.contains(&code))
    }

    /// The same, with a code.
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
