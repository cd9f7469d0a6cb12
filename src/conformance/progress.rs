//! The progress of a conformance run, and its result.
//!
//! Entry type: [`Progress`].

use libp2p::{Multiaddr, PeerId};

use super::case::Verdict;

/// Progress of a run.
pub enum Progress {
    /// The kit listens on this address.
    Listening(Multiaddr),
    /// A case has ended.
    Verdict(Verdict),
}

/// The peer under test.
#[derive(Clone, Debug, Default)]
pub struct PeerInfo {
    /// Its id, if the connection was established.
    pub peer_id: Option<PeerId>,
    /// The agent string that it sends by identify.
    pub agent: Option<String>,
}
