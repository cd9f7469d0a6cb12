//! The report of a probe: one step for each stage, and the peer that answered.
//!
//! Entry types: [`ProbeStep`], [`Probed`]. The rule it keeps: the peer's own statements are marked as unverified.

use std::time::Duration;

use libp2p::PeerId;

use crate::net::stage::{Stage, StageError};

/// The result of one stage.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ProbeStep {
    /// The stage. TLS is part of [`Stage::Websocket`] unless TLS itself failed.
    pub stage: Stage,
    /// The duration of the stage. Identify and the handshake run at the same time.
    pub took: Duration,
    /// Success, or the error of the stage.
    pub result: Result<(), StageError>,
}

/// The result of a successful probe.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Probed {
    /// The peer that answered.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialize::text")
    )]
    pub peer_id: PeerId,
    /// The peer's agent string: its own account, unverified.
    pub agent: String,
    /// Whether the peer could dial this machine, if a node listened here. None when the addresses do not decide it: a
    /// firewall may be in between.
    pub can_dial_back: Option<bool>,
    /// Difference between the peer's clock and this machine's, in milliseconds, by the peer's own account; negative
    /// when the peer's clock is behind.
    pub clock_offset_ms: i64,
}
