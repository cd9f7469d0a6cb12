//! Other nodes' keys, and the one way in which signatures are checked.
//!
//! Entry type: [`PublicKey`]. The rule it keeps: a value of it is an Ed25519 key in its only
//! canonical encoding and not of small order, and [`PublicKey::verify`] is strict (A and R
//! canonical and not of small order, S < L, the equation without the cofactor). Libraries that are
//! laxer, libp2p's own among them, accept one constant signature for every message under a weak key.

use std::cell::RefCell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::{Signature, SigningKey, Verifier, VerifyingKey};
use libp2p::PeerId;

/// The length of an Ed25519 key as a libp2p `PublicKey` message.
pub const PUBLIC_KEY_PROTOBUF_BYTES: usize = 36;

/// What stands before the 32 bytes of the key: field 1, `KeyType` Ed25519; field 2, 32 bytes.
const PROTOBUF_PREFIX: [u8; 4] = [0x08, 0x01, 0x12, 0x20];

/// A PeerId of a key this short is the key itself in an identity multihash: code 0, 36 bytes.
const PEER_ID_PREFIX: [u8; 2] = [0x00, 0x24];

/// How many keys each thread remembers.
const REMEMBERED: usize = 16;

/// The points of small order in their canonical encodings.
static SMALL_ORDER: LazyLock<[[u8; 32]; 8]> =
    LazyLock::new(|| EIGHT_TORSION.map(|point| point.compress().to_bytes()));

thread_local! {
    /// Keys that this thread has read, the last one first. To read one is to find a point of the curve, and an
    /// author says much in a row: that was a twentieth of what catching up costs (measured).
    static READ_LAST: RefCell<Vec<PublicKey>> = const { RefCell::new(Vec::new()) };
}

/// An Ed25519 key that is fit to verify with.
#[derive(Clone, Copy)]
pub struct PublicKey {
    key: VerifyingKey,
    peer_id: PeerId,
}

/// Why bytes are not a [`PublicKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Another length than that of an Ed25519 key.
    #[error("the public key has {0} bytes, an Ed25519 key in libp2p's encoding has 36")]
    Length(usize),
    /// Of the right length, but not libp2p's encoding of an Ed25519 key.
    #[error("the public key is not an Ed25519 key in libp2p's encoding")]
    NotEd25519,
    /// No point of the curve, or not in its canonical encoding.
    #[error("the public key is not a canonical point of the curve")]
    NotCanonical,
    /// A key of small order: signatures under it prove nothing.
    #[error("the public key is of small order, so that its signatures prove nothing")]
    Weak,
}

impl PublicKey {
    /// Reads a libp2p `PublicKey` message, which must be exactly the 36 bytes of an Ed25519 key.
    pub fn from_protobuf(bytes: &[u8]) -> Result<PublicKey, PublicKeyError> {
        let bytes: &[u8; PUBLIC_KEY_PROTOBUF_BYTES] = bytes
            .try_into()
            .map_err(|_| PublicKeyError::Length(bytes.len()))?;
        let key = match bytes.split_first_chunk::<4>() {
            Some((&PROTOBUF_PREFIX, key)) => key,
            _ => return Err(PublicKeyError::NotEd25519),
        };
        let key: &[u8; 32] = key.try_into().map_err(|_| PublicKeyError::NotEd25519)?;
        READ_LAST.with_borrow_mut(|known| {
            if let Some(at) = known.iter().position(|known| known.as_bytes() == key) {
                known[..=at].rotate_right(1);
                return Ok(known[0]);
            }
            let read = PublicKey::read(key)?;
            known.truncate(REMEMBERED - 1);
            known.insert(0, read);
            Ok(read)
        })
    }

    fn read(key: &[u8; 32]) -> Result<PublicKey, PublicKeyError> {
        let verifying = VerifyingKey::from_bytes(key).map_err(|_| PublicKeyError::NotCanonical)?;
        // `from_bytes` reduces y modulo p and takes either sign of x = 0; only one spelling of a
        // point may pass, or one key has several PeerIds.
        if verifying.to_edwards().compress().as_bytes() != key {
            return Err(PublicKeyError::NotCanonical);
        }
        if verifying.is_weak() {
            return Err(PublicKeyError::Weak);
        }
        Ok(PublicKey::from_verifying(verifying))
    }

    /// The public half of `signing`.
    pub(super) fn of(signing: &SigningKey) -> PublicKey {
        // Canonical because it was just computed, not weak because a clamped scalar times the
        // base point has the order of the base point.
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

    /// Whether `signature` is this key's signature of `message`, by the strict rules.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        // `verify` sees to S < L and compares R as bytes, so that a non-canonical R never matches; A was
        // checked when it was read. What is left to be strict is that R is not of small order. The library's
        // `verify_strict` looks for the point that R stands for, to ask that of it: a sixth of the whole
        // (measured), where a canonical R is one of eight texts.
        Signature::from_slice(signature).is_ok_and(|signature| {
            !SMALL_ORDER.contains(signature.r_bytes())
                && self.key.verify(message, &signature).is_ok()
        })
    }

    /// The public id that belongs to this key.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The key as a libp2p `PublicKey` message.
    pub fn to_protobuf(&self) -> [u8; PUBLIC_KEY_PROTOBUF_BYTES] {
        let mut bytes = [0; PUBLIC_KEY_PROTOBUF_BYTES];
        bytes[..4].copy_from_slice(&PROTOBUF_PREFIX);
        bytes[4..].copy_from_slice(self.key.as_bytes());
        bytes
    }

    /// The 32 bytes of the key alone.
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
