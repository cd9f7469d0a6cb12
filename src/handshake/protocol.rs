//! Names of the handshake's protocol: its id, the ends of a connection, the rounds, the kinds of frames, and the codes of
//! refusals.

use std::fmt;

/// The libp2p protocol id of the handshake.
pub const PROTOCOL: &str = "/diatribe/handshake/1.0.0";

/// Which end of the connection this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It dialled the connection: client of round 1, server of round 2.
    Dialer,
    /// It accepted the connection: server of round 1, client of round 2.
    Listener,
}

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Opens a round.
    Hello,
    /// Carries the server's proof.
    Challenge,
    /// Carries the client's proof.
    Answer,
    /// Ends the round with success.
    Pass,
    /// Ends the handshake: the server refuses.
    Reject,
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A round of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The dialer is the client, and the listener the server, which proves its key first.
    Round1,
    /// The listener is the client, and the dialer the server.
    Round2,
}

impl Stage {
    /// Returns the round's number on the wire.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Stage::Round1 => 1,
            Stage::Round2 => 2,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handshake round {}", self.number())
    }
}

/// The reason that a server gives to a peer that it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectCode {
    /// A malformed frame or an invalid proof. Unknown codes count as this one.
    Auth,
    /// The versions differ.
    Version,
    /// The network keys differ.
    Network,
    /// Another live node already runs with this identity.
    DuplicateIdentity,
    /// The server is full, or over its rate limit for handshakes.
    Busy,
    /// The operator's deny-list or allow-list, or a ban.
    Policy,
}

impl RejectCode {
    /// Returns the code's number on the wire.
    pub const fn number(self) -> u32 {
        match self {
            RejectCode::Auth => 1,
            RejectCode::Version => 2,
            RejectCode::Network => 3,
            RejectCode::DuplicateIdentity => 4,
            RejectCode::Busy => 5,
            RejectCode::Policy => 6,
        }
    }

    /// Returns the code of a number from the wire.
    pub const fn from_number(number: u32) -> RejectCode {
        match number {
            2 => RejectCode::Version,
            3 => RejectCode::Network,
            4 => RejectCode::DuplicateIdentity,
            5 => RejectCode::Busy,
            6 => RejectCode::Policy,
            _ => RejectCode::Auth,
        }
    }

    /// Returns the code's name in `proto/handshake.proto`.
    pub const fn name(self) -> &'static str {
        match self {
            RejectCode::Auth => "AUTH",
            RejectCode::Version => "VERSION",
            RejectCode::Network => "NETWORK",
            RejectCode::DuplicateIdentity => "DUPLICATE_IDENTITY",
            RejectCode::Busy => "BUSY",
            RejectCode::Policy => "POLICY",
        }
    }
}

impl fmt::Display for RejectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
