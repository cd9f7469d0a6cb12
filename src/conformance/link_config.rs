//! The configuration of the kit's links: their room and their network.
//!
//! Entry type: [`LinkConfig`].

use super::raw_peer::RawPeer;
use super::round::Party;
use crate::identity::{NetworkId, NetworkKey};
use crate::model::RoomName;

/// The room and network of all links of the kit.
#[derive(Clone)]
pub(crate) struct LinkConfig {
    pub(crate) room: RoomName,
    pub(crate) network: Option<NetworkKey>,
}

impl LinkConfig {
    pub(crate) fn topic(&self) -> String {
        self.room.topic()
    }

    pub(crate) fn network_id(&self) -> NetworkId {
        NetworkId::of(self.network.as_ref())
    }

    pub(crate) fn party(&self, raw: &RawPeer) -> Party {
        Party {
            identity: raw.identity.clone(),
            network: self.network.clone(),
            instance_id: raw.instance_id,
            noise_id: raw.identity.peer_id(),
            relays: false,
        }
    }
}
