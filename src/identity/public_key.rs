//! Public keys of other nodes, and strict verification of signatures.
//!
//! Entry type: [`PublicKey`]. The rule it keeps: it is an Ed25519 key in canonical encoding and not of small order, and
//! [`PublicKey::verify`] is strict (A and R canonical and not of small order, S < L, the equation without the cofactor).
//! Laxer libraries, libp2p's among them, accept one constant signature for every message under a weak key.

use std::cell::RefCell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::{Signature, SigningKey, Verifier, VerifyingKey};
use libp2p::PeerId;

/// Size of an Ed25519 key as a libp2p `PublicKey` message, in bytes.
pub const PUBLIC_KEY_PROTOBUF_BYTES: usize = 36;

/// Prefix of the key's 32 bytes: field 1, `KeyType` Ed25519; field 2, 32 bytes.
const PROTOBUF_PREFIX: [u8; 4] = [0x08, 0x01, 0x12, 0x20];

/// Prefix of the key in its PeerId. A key this short is its own PeerId, as an identity multihash: code 0, 36 bytes.
const PEER_ID_PREFIX: [u8; 2] = [0x00, 0x24];

/// Maximum number of keys that each thread caches.
const MAX_CACHED: usize = 16;

/// Points of small order in canonical encoding.
static SMALL_ORDER: LazyLock<[[u8; 32]; 8]> =
    LazyLock::new(|| EIGHT_TORSION.map(|point| point.compress().to_bytes()));

thread_local! {
    /// Keys that this thread has decoded, the last one first. Decompressing a point for each batch was a twentieth of the
    /// cost of catching up (measured), and batches of one author often follow each other.
    static CACHE: RefCell<Vec<PublicKey>> = const { RefCell::new(Vec::new()) };
}

/// An Ed25519 public key that is safe to verify with.
#[derive(Clone, Copy)]
pub struct PublicKey {
    key: VerifyingKey,
    peer_id: PeerId,
}

/// Reason why bytes are not a [`PublicKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// The bytes have another length than an Ed25519 key.
    #[error("the public key has {0} bytes, an Ed25519 key in libp2p's encoding has 36")]
    Length(usize),
    /// The bytes are not libp2p's encoding of an Ed25519 key.
    #[error("the public key is not an Ed25519 key in libp2p's encoding")]
    NotEd25519,
    /// The key is not a point of the curve, or not in canonical encoding.
    #[error("the public key is not a canonical point of the curve")]
    NotCanonical,
    /// The key is of small order: signatures under it prove nothing.
    #[error("the public key is of small order, so that its signatures prove nothing")]
    Weak,
}

impl PublicKey {
    /// Decodes a libp2p `PublicKey` message, which must be exactly the 36 bytes of an Ed25519 key.
    ///
    /// # Errors
    ///
    /// Returns an error when the bytes are another message, and when the key is not canonical or of small order.
    pub fn from_protobuf(bytes: &[u8]) -> Result<PublicKey, PublicKeyError> {
        let bytes: &[u8; PUBLIC_KEY_PROTOBUF_BYTES] = bytes
            .try_into()
            .map_err(|_| PublicKeyError::Length(bytes.len()))?;
        let key = match bytes.split_first_chunk::<4>() {
            Some((&PROTOBUF_PREFIX, key)) => key,
            _ => return Err(PublicKeyError::NotEd25519),
        };
        let key: &[u8; 32] = key.try_into().map_err(|_| PublicKeyError::NotEd25519)?;
        CACHE.with_borrow_mut(|known| {
            if let Some(at) = known.iter().position(|known| known.as_bytes() == key) {
                known[..=at].rotate_right(1);
                return Ok(known[0]);
            }
            let read = PublicKey::read(key)?;
            known.truncate(MAX_CACHED - 1);
            known.insert(0, read);
            Ok(read)
        })
    }

    /// Reads the 32 bytes of an Ed25519 key.
    ///
    /// # Errors
    ///
    /// When the bytes are not canonical, or the key is of small order.
    pub fn from_bytes(key: &[u8; 32]) -> Result<PublicKey, PublicKeyError> {
        PublicKey::read(key)
    }

    fn read(key: &[u8; 32]) -> Result<PublicKey, PublicKeyError> {
        let verifying = VerifyingKey::from_bytes(key).map_err(|_| PublicKeyError::NotCanonical)?;
        // `from_bytes` reduces y modulo p and accepts either sign of x = 0. Only one encoding of a point may pass, or one
        // key would have several PeerIds.
        if verifying.to_edwards().compress().as_bytes() != key {
            return Err(PublicKeyError::NotCanonical);
        }
        if verifying.is_weak() {
            return Err(PublicKeyError::Weak);
        }
        Ok(PublicKey::from_verifying(verifying))
    }

    /// Returns the public key of `signing`.
    pub(super) fn of(signing: &SigningKey) -> PublicKey {
        // It is canonical because it was just computed, and not weak because a clamped scalar times the base point has the
        // order of the base point.
        PublicKey::from_verifying(signing.verifying_key())
    }

    fn from_verifying(key: VerifyingKey) -> PublicKey {
        let mut peer_id = [0; PEER_ID_PREFIX.len() + PUBLIC_KEY_PROTOBUF_BYTES];
        peer_id[..2].copy_from_slice(&PEER_ID_PREFIX);
        peer_id[2..6].copy_from_slice(&PROTOBUF_PREFIX);
        peer_id[6..].copy_from_slice(key.as_bytes());
        let peer_id =
            PeerId::from_bytes(&peer_id).expect("an identity multihash of 36 bytes is a PeerId");
        PublicKey { key, peer_id }
    }

    /// Returns whether `signature` is this key's signature of `message`, by the strict rules.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        // `verify` checks S < L and compares R as bytes, so a non-canonical R never matches, and A was checked when it was
        // decoded. Only R of small order is left to exclude. The library's `verify_strict` decompresses R for that, a sixth
        // of the whole time (measured); a canonical R of small order is one of eight byte strings.
        Signature::from_slice(signature).is_ok_and(|signature| {
            !SMALL_ORDER.contains(signature.r_bytes())
                && self.key.verify(message, &signature).is_ok()
        })
    }

    /// Returns the public id of this key.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// Returns the key as a libp2p `PublicKey` message.
    pub fn to_protobuf(&self) -> [u8; PUBLIC_KEY_PROTOBUF_BYTES] {
        let mut bytes = [0; PUBLIC_KEY_PROTOBUF_BYTES];
        bytes[..4].copy_from_slice(&PROTOBUF_PREFIX);
        bytes[4..].copy_from_slice(self.key.as_bytes());
        bytes
    }

    /// Returns the 32 bytes of the key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &PublicKey) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for PublicKey {}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.peer_id).finish()
    }
}
