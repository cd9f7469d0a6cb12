//! Private matching of network keys: two nodes find the key that both hold without revealing it to anybody else.
//!
//! Entry types: [`NetworkKeys`], [`KeySlot`]. A client's Hello has two tags, keyed by its network keys and bound to both
//! PeerIds and to its nonce. The server tries which of its own keys yields one of them. The rule it keeps: without a key of
//! the network, a tag looks like random bytes, two Hellos of one network look like those of two networks, and a tag is
//! useless on another connection.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::crypto::Entropy;
use super::reason::{NetworkMismatch, Reason};
use crate::identity::NetworkKey;

/// Size of one tag in bytes.
pub(crate) const TAG_BYTES: usize = 16;
/// Size of the two tags of a Hello in bytes.
pub(crate) const TAGS_BYTES: usize = 2 * TAG_BYTES;

const TAG_INFO: &[u8] = b"diatribe/handshake-tag/v1";
/// Key of the open network, in place of a network key.
const OPEN_NETWORK: [u8; 32] = [0; 32];

/// Index of one of a node's two network keys, or of a Hello's two tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeySlot {
    /// The first slot: the current key.
    Newer,
    /// The second slot: the key before it.
    Older,
}

impl KeySlot {
    /// Returns the slot's number in the field `key` on the wire.
    pub(crate) const fn number(self) -> u32 {
        match self {
            KeySlot::Newer => 1,
            KeySlot::Older => 2,
        }
    }

    /// Returns the slot of a number from the wire.
    pub(crate) const fn from_number(number: u32) -> Option<KeySlot> {
        match number {
            1 => Some(KeySlot::Newer),
            2 => Some(KeySlot::Older),
            _ => None,
        }
    }
}

/// The handshake that a tag is bound to: both PeerIds as noise authenticated them, and the nonce of the Hello.
#[derive(Clone, Copy)]
pub(crate) struct Between<'a> {
    pub(crate) client: &'a [u8],
    pub(crate) server: &'a [u8],
    pub(crate) nonce: &'a [u8; 32],
}

/// The network keys of a node: one, or two during a change of the key.
#[derive(Clone, Debug)]
pub(crate) struct NetworkKeys {
    /// None on the open network.
    newer: Option<NetworkKey>,
    older: Option<NetworkKey>,
}

impl NetworkKeys {
    /// Returns the keys of a node with one key, or with none on the open network.
    pub(crate) fn new(key: Option<NetworkKey>) -> NetworkKeys {
        NetworkKeys {
            newer: key,
            older: None,
        }
    }

    /// Adds the key that was in force before.
    pub(crate) fn with_older(self, older: NetworkKey) -> NetworkKeys {
        NetworkKeys {
            older: Some(older),
            ..self
        }
    }

    /// Returns the key in a slot; none if the slot is empty. The key of the open network is 32 zeros.
    pub(crate) fn get(&self, slot: KeySlot) -> Option<&[u8; 32]> {
        match (slot, &self.newer) {
            (KeySlot::Newer, Some(key)) => Some(key.as_bytes()),
            (KeySlot::Newer, None) => Some(&OPEN_NETWORK),
            (KeySlot::Older, _) => self.older.as_ref().map(NetworkKey::as_bytes),
        }
    }

    /// Returns the tags of a Hello, of the newer key and the older key, with random bytes for a key that is missing.
    pub(crate) fn tags(&self, between: Between<'_>, entropy: &mut Entropy) -> [u8; TAGS_BYTES] {
        let mut tags = [0; TAGS_BYTES];
        let (newer, older) = tags.split_at_mut(TAG_BYTES);
        for (part, slot) in [(newer, KeySlot::Newer), (older, KeySlot::Older)] {
            match self.get(slot) {
                Some(key) => part.copy_from_slice(&tag(key, between)),
                None => entropy.fill_bytes(part),
            }
        }
        tags
    }

    /// Returns the key that this server shares with a client that sent these tags: the server's slot, and the slot of the
    /// matching tag. The server's newer key has precedence, then the first tag.
    ///
    /// # Errors
    ///
    /// Returns [`Reason::Network`], with the known difference, when neither tag matches a key of the server.
    pub(crate) fn common(
        &self,
        tags: &[u8; TAGS_BYTES],
        between: Between<'_>,
    ) -> Result<(KeySlot, KeySlot), Reason> {
        let (newer, older) = tags.split_at(TAG_BYTES);
        let mut found = None;
        // All pairs are compared, so that the time does not reveal which one matches. The last match has precedence.
        for own in [KeySlot::Older, KeySlot::Newer] {
            for (tag, slot) in [(older, KeySlot::Older), (newer, KeySlot::Newer)] {
                if self.get(own).is_some_and(|key| fits(key, between, tag)) {
                    found = Some((own, slot));
                }
            }
        }
        found.ok_or_else(|| Reason::Network(self.mismatch((newer, older), between)))
    }

    fn mismatch(&self, (newer, older): (&[u8], &[u8]), between: Between<'_>) -> NetworkMismatch {
        if self.newer.is_none() {
            return NetworkMismatch::NodeIsOpen;
        }
        match fits(&OPEN_NETWORK, between, newer) | fits(&OPEN_NETWORK, between, older) {
            true => NetworkMismatch::PeerIsOpen,
            false => NetworkMismatch::KeysDiffer,
        }
    }
}

/// Returns the tag of a network key for a handshake.
pub(crate) fn tag(key: &[u8; 32], between: Between<'_>) -> [u8; TAG_BYTES] {
    let full: [u8; 32] = mac(key, between).finalize().into_bytes().into();
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&full[..TAG_BYTES]);
    tag
}

/// Returns whether a tag is of this key, in constant time.
fn fits(key: &[u8; 32], between: Between<'_>, tag: &[u8]) -> bool {
    mac(key, between).verify_truncated_left(tag).is_ok()
}

fn mac(key: &[u8; 32], between: Between<'_>) -> Hmac<Sha256> {
    let tag_key = tag_key(key);
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&tag_key[..])
        // HMAC hashes a key that is too long and pads one that is too short.
        .expect("HMAC takes a key of any length");
    mac.update(between.client);
    mac.update(between.server);
    mac.update(between.nonce);
    mac
}

/// Derives the key of the tags from a network key.
pub(crate) fn tag_key(key: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut tag_key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, key)
        .expand(TAG_INFO, &mut tag_key[..])
        // RFC 5869 bounds the output at 255 hashes; this is one.
        .expect("32 bytes are within HKDF's limit");
    tag_key
}
