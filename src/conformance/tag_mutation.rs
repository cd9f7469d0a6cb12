//! Tags in a Hello of the kit's that are not those of its connection, or not where they are expected.
//!
//! Entry type: [`TagMutation`]. The rule it keeps: each differs from the right tags in one thing.

use bytes::Bytes;
use libp2p::PeerId;

use super::round::Round;
use crate::wire::proto::handshake as proto;

/// What the tags of a Hello of ours are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TagMutation {
    /// What they must be, the two in each other's place.
    Second,
    /// Another nonce than the Hello's.
    OtherNonce,
    /// The two ids in each other's place.
    Turned,
    /// The id of a server that is not the peer.
    ToAnother,
    /// The id of a client that is not us.
    OfAnother,
}

impl TagMutation {
    /// The tags for this Core, which has the right ones.
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
