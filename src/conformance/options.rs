//! The options of a conformance run.
//!
//! Entry type: [`Options`].

use super::case::Case;
use super::target::Target;
use crate::identity::{Identity, NetworkKey};
use crate::model::RoomName;
use crate::node::Probe;

/// Options of a run.
pub struct Options {
    /// Where the peer is.
    pub target: Target,
    /// The room that the peer is in.
    pub room: RoomName,
    /// The identity of the first link. All others have fresh keys.
    pub identity: Identity,
    /// The network key, if the network is private.
    pub network: Option<NetworkKey>,
    /// The dialler, with its certificate authorities.
    pub probe: Probe,
    /// The cases to run.
    pub cases: Vec<&'static Case>,
}
