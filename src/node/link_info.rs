//! The state of a link, as the application sees it.
//!
//! Entry type: [`LinkInfo`]. The rule it keeps: it is a copy of the moment at which it was asked for.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};

use super::event::Direction;
use super::links::Link;
use crate::clock::Time;

/// The present state of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LinkInfo {
    /// The peer.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::model::serialize::text")
    )]
    pub peer_id: PeerId,
    /// The address of the other end.
    pub address: Multiaddr,
    /// The side that dialled.
    pub direction: Direction,
    /// The last measured round-trip time, if there is one.
    pub rtt: Option<Duration>,
    /// The age of the link.
    pub age: Duration,
    /// Milliseconds by which the peer's clock was ahead of this node's in the handshake.
    pub clock_offset_ms: i64,
}

impl LinkInfo {
    pub(super) fn of(link: &Link, now: Time) -> LinkInfo {
        LinkInfo {
            peer_id: link.peer_id,
            address: link.address.clone(),
            direction: link.direction,
            rtt: link.rtt,
            age: now.since(link.since),
            clock_offset_ms: link.clock_offset_ms,
        }
    }
}
