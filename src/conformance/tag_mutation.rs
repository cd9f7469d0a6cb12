//! Wrong tags in the kit's Hello.
//!
//! Entry type: [`TagMutation`]. The rule it keeps: each differs from the right tags in one thing.

use bytes::Bytes;
use libp2p::PeerId;

use super::round::Round;
use crate::wire::proto::handshake as proto;

/// The change to the tags of a Hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TagMutation {
    /// Exchanges the two tags, which are valid.
    Second,
    /// Uses another nonce than the Hello's.
    OtherNonce,
    /// Exchanges the ids of client and server.
    Turned,
    /// Uses the id of a server that is not the peer.
    ToAnother,
    /// Uses the id of a client that is not the kit.
    OfAnother,
}

impl TagMutation {
    /// Returns the changed tags for this Core, which has the right ones.
    pub(crate) fn tags(self, round: &Round, core: &proto::Core) -> Bytes {
        let (client, server) = (round.party.noise_id, round.remote);
        let nonce = <[u8; 32]>::try_from(&core.nonce[..]).unwrap_or_default();
        let tags = match self {
            TagMutation::Second => {
                let (first, second) = core.tags.split_at(core.tags.len() / 2);
                return [second, first].concat().into();
            }
            TagMutation::OtherNonce => round.tags(&client, &server, &rand::random()),
            TagMutation::Turned => round.tags(&server, &client, &nonce),
            TagMutation::ToAnother => round.tags(&client, &PeerId::random(), &nonce),
            TagMutation::OfAnother => round.tags(&PeerId::random(), &server, &nonce),
        };
        Bytes::copy_from_slice(&tags)
    }
}
