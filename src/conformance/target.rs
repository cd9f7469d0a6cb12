//! The peer under test: its address, or the addresses that it dials.
//!
//! Entry type: [`Target`].

use libp2p::Multiaddr;

use crate::net::Address;

/// Where the peer is.
pub enum Target {
    /// The peer listens on this address.
    Dial(Address),
    /// The peer keeps dialling these addresses. With more of them the run is faster; with two or more, messages are
    /// followed from one link to another.
    Listen(Vec<Multiaddr>),
}

impl Target {
    pub(crate) fn mode(&self) -> Mode {
        match self {
            Target::Dial(_) => Mode::Dial,
            Target::Listen(_) => Mode::Listen,
        }
    }
}

/// The direction in which connections are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The kit dials the peer.
    Dial,
    /// The peer dials the kit.
    Listen,
}
