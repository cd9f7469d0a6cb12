//! Addresses and conditions of the simulated network.
//!
//! Entry types: [`Place`], [`Conditions`].

use std::time::Duration;

use diatribe::overlay::{Address, Reach, Remote};

use super::world::{DELAY, Id};

/// An address: the number of a node and that of its network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place(pub Id, pub Id);

impl Address for Place {
    type Host = (Id, Id);

    fn reach(&self) -> Reach {
        Reach::Public
    }

    fn host(&self) -> (Id, Id) {
        (self.0, self.1)
    }

    fn network((_, network): (Id, Id)) -> (Id, Id) {
        (Id::MAX, network)
    }
}

impl Place {
    /// Returns the other end of a connection with the node at this address.
    pub(crate) fn remote(self) -> Remote<Place> {
        Remote {
            host: self.host(),
            reach: Reach::Public,
            address: Some(self),
        }
    }
}

/// Conditions of the network.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    /// One-way delays from the first packet of a connection to a link. Counted over the real
    /// stack: tcp 2, websocket 2, noise 3, yamux and streams 1, two handshake rounds 8.
    pub(crate) setup: u32,
    /// Number of exchanges in a hundred thousand that get no response.
    pub(crate) loss: u32,
    /// Whether a full node names others when it refuses one (BUSY with referrals).
    pub(crate) referrals: bool,
    /// The mean one-way delay.
    pub(crate) delay: Duration,
    /// Number of links that a hostile node wants.
    pub(crate) greed: usize,
    /// Whether hostile nodes only hold places: they send no request and answer none.
    pub(crate) mute: bool,
    /// Whether all hostile nodes, or all nodes but the first ten, are in one network.
    pub(crate) shared: Shared,
    /// Percentage of dead nodes at which a dial times out instead of being refused.
    pub(crate) silent: u32,
}

/// The nodes that share one address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shared {
    Nobody,
    Hostile,
    Newcomers,
}

impl Default for Conditions {
    fn default() -> Conditions {
        Conditions {
            setup: 16,
            loss: 0,
            referrals: true,
            delay: DELAY,
            greed: 5,
            mute: false,
            shared: Shared::Nobody,
            silent: 20,
        }
    }
}
