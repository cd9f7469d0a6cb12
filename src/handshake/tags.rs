//! How two nodes find out that they hold the same network key, without telling it to anybody else.
//!
//! Entry types: [`NetworkKeys`], [`KeySlot`]. A client's Hello has two tags, keyed by the network keys that it holds
//! and bound to both PeerIds and to its nonce; the server looks which of its own keys makes one of them. The rule it
//! keeps: who holds no key of the network cannot tell a tag from random bytes, nor two Hellos of one network from two
//! of different ones, and a tag is of no use on another connection.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::crypto::Entropy;
use super::reason::{NetworkMismatch, Reason};
use crate::identity::NetworkKey;

/// Bytes of one tag.
pub(crate) const TAG_BYTES: usize = 16;
/// Bytes of the two tags of a Hello.
pub(crate) const TAGS_BYTES: usize = 2 * TAG_BYTES;

const TAG_INFO: &[u8] = b"diatribe/handshake-tag/v1";
/// What stands for the network key where there is none.
const OPEN_NETWORK: [u8; 32] = [0; 32];

/// Which of a node's two network keys, or of a Hello's two tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeySlot {
    /// The first: the key that is in force.
    Newer,
    /// The second: the key before it.
    Older,
}

impl KeySlot {
    /// The slot as `key` names it on the wire.
    pub(crate) const fn number(self) -> u32 {
        match self {
            KeySlot::Newer => 1,
            KeySlot::Older => 2,
        }
    }

    /// The slot behind a number from the wire.
    pub(crate) const fn from_number(number: u32) -> Option<KeySlot> {
        match number {
            1 => Some(KeySlot::Newer),
            2 => Some(KeySlot::Older),
            _ => None,
        }
    }
}

/// Between whom a tag is: the PeerIds as noise authenticated them, and the nonce of the Hello.
#[derive(Clone, Copy)]
pub(crate) struct Between<'a> {
    pub(crate) client: &'a [u8],
    pub(crate) server: &'a [u8],
    pub(crate) nonce: &'a [u8; 32],
}

/// The network keys of a node: one, or two while its network changes from one to the next.
#[derive(Clone, Debug)]
pub(crate) struct NetworkKeys {
    /// None on the open network.
    newer: Option<NetworkKey>,
    older: Option<NetworkKey>,
}

impl NetworkKeys {
    /// One key, or none: the open network.
    pub(crate) fn new(key: Option<NetworkKey>) -> NetworkKeys {
        NetworkKeys {
            newer: key,
            older: None,
        }
    }

    /// The same keys, and the one that was in force before.
    pub(crate) fn with_older(self, older: NetworkKey) -> NetworkKeys {
        NetworkKeys {
            older: Some(older),
            ..self
        }
    }

    /// The key in a slot, none when the node has none there. The open network's is 32 zeros.
    pub(crate) fn get(&self, slot: KeySlot) -> Option<&[u8; 32]> {
        match (slot, &self.newer) {
            (KeySlot::Newer, Some(key)) => Some(key.as_bytes()),
            (KeySlot::Newer, None) => Some(&OPEN_NETWORK),
            (KeySlot::Older, _) => self.older.as_ref().map(NetworkKey::as_bytes),
        }
    }

    /// The tags of a Hello: the newer key's, the older key's; random bytes in place of one that there is not.
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

    /// Which key counts between a client that sent these tags and this server: the server's slot, and the tag that
    /// belongs to it. Of several the server's newer key counts, and of two tags of one key the first.
    ///
    /// # Errors
    ///
    /// [`Reason::Network`] when neither tag is that of a key of the server's, with what is known of the difference.
    pub(crate) fn common(
        &self,
        tags: &[u8; TAGS_BYTES],
        between: Between<'_>,
    ) -> Result<(KeySlot, KeySlot), Reason> {
        let (newer, older) = tags.split_at(TAG_BYTES);
        let mut found = None;
        // All are compared, so that the time does not tell which is there. What counts most comes last.
        for own in [KeySlot::Older, KeySlot::Newer] {
            for (said, slot) in [(older, KeySlot::Older), (newer, KeySlot::Newer)] {
                if self.get(own).is_some_and(|key| fits(key, between, said)) {
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

/// The tag of a network key, between these two.
pub(crate) fn tag(key: &[u8; 32], between: Between<'_>) -> [u8; TAG_BYTES] {
    let full: [u8; 32] = mac(key, between).finalize().into_bytes().into();
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&full[..TAG_BYTES]);
    tag
}

/// Whether a tag is this key's, in a time that does not tell where the two differ.
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

/// The key of a network key's tags.
pub(crate) fn tag_key(key: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let mut tag_key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, key)
        .expand(TAG_INFO, &mut tag_key[..])
        // RFC 5869 bounds the output at 255 hashes; this is one.
        .expect("32 bytes are within HKDF's limit");
    tag_key
}
