//! Invalid signatures and proofs, for the tests of the handshake and for the conformance kit.
//!
//! Entry: [`Forgery`], [`sign`]. The rule it keeps: each breaks one rule of chapter 3 or 5 and no other; those that
//! only a strict verifier refuses pass a lax one.

use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use sha2::{Digest, Sha512};

use super::crypto::{self, CIPHERTEXT, Entropy, Secret};
use super::protocol::Stage;
use super::reason::Reason;
use super::transcript::Transcript;
use crate::identity::Identity;

/// The error in a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgery {
    /// An honest proof.
    None,
    /// Seals zeros in place of the peer's nonce.
    Nonce,
    /// Seals the peer's nonce with one bit of this byte changed.
    NonceByte(usize),
    /// Seals to a key that is not the peer's.
    SealedToOther,
    /// Seals under the label of the other direction.
    SealedAsOtherRole,
    /// Binds the sealed text to an empty transcript.
    SealedUnbound,
    /// Sends other bytes as sealed text.
    SealedGarbage,
    /// Sends an encapsulated key of small order.
    SmallOrderEnc,
    /// Signs with a key that is not its own.
    SignedByOther,
    /// Signs under the label of the other role.
    SignedAsOtherRole,
    /// Signs the bare transcript, without a label.
    SignedBare,
    /// Sends a signature that only the cofactored equation accepts.
    Cofactored,
    /// Sends S + L instead of S: a second encoding of the same signature.
    Malleable,
    /// Sends a signature whose R is of small order.
    SmallOrderR,
    /// Sends its confirmation with one bit of this byte changed.
    ConfirmByte(usize),
    /// Confirms with another network key than the one whose tag it sent.
    OtherNetworkKey,
}

/// A nonce and a secret to be sealed to a peer.
pub(crate) struct Sealing<'a> {
    /// The round of the handshake.
    pub(crate) stage: Stage,
    /// The peer's sealing key.
    pub(crate) key: [u8; 32],
    /// The peer's nonce.
    pub(crate) nonce: [u8; 32],
    /// The label of this direction, and that of the other one.
    pub(crate) labels: (&'a [u8], &'a [u8]),
    /// The transcript that the sealed text is bound to.
    pub(crate) bound_to: Transcript,
    /// This side's secret.
    pub(crate) secret: Secret,
}

/// Seals as an honest side does, except for the part that `forgery` changes. Returns the encapsulated key and the sealed text.
///
/// # Errors
///
/// If nothing can be sealed to the key.
pub(crate) fn seal(
    forgery: Forgery,
    sealing: Sealing<'_>,
    entropy: &mut Entropy,
) -> Result<([u8; 32], [u8; CIPHERTEXT]), Reason> {
    let key = match forgery {
        Forgery::SealedToOther => Identity::generate().sealing_public(),
        _ => sealing.key,
    };
    let label = match forgery {
        Forgery::SealedAsOtherRole => sealing.labels.1,
        _ => sealing.labels.0,
    };
    let bound_to = match forgery {
        Forgery::SealedUnbound => Transcript::start(sealing.stage, &[], &[], &[0; 32]),
        _ => sealing.bound_to,
    };
    let nonce = match forgery {
        Forgery::Nonce => [0; 32],
        Forgery::NonceByte(at) => with_bit_flipped(sealing.nonce, at),
        _ => sealing.nonce,
    };
    let (enc, ciphertext) = crypto::seal(&key, label, bound_to, &nonce, &sealing.secret, entropy)?;
    Ok(match forgery {
        Forgery::SealedGarbage => (enc, [0x5a; CIPHERTEXT]),
        Forgery::SmallOrderEnc => ([0; 32], ciphertext),
        _ => (enc, ciphertext),
    })
}

/// Flips one bit of the byte at `at`.
pub(crate) fn with_bit_flipped(mut bytes: [u8; 32], at: usize) -> [u8; 32] {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    bytes
}

/// Signs one of the texts (own role's, other role's), or the bare transcript, as `forgery` says.
pub(crate) fn sign(
    forgery: Forgery,
    identity: &Identity,
    bare: &[u8],
    (text, other_text): (Vec<u8>, Vec<u8>),
) -> [u8; 64] {
    match forgery {
        Forgery::SignedByOther => Identity::generate().sign(&text),
        Forgery::SignedAsOtherRole => identity.sign(&other_text),
        Forgery::SignedBare => identity.sign(bare),
        Forgery::Cofactored => cofactored(identity, &text),
        Forgery::Malleable => malleable(identity.sign(&text)),
        Forgery::SmallOrderR => small_order_r(identity, &text),
        _ => identity.sign(&text),
    }
}

/// Returns a signature whose R has a component of small order: 8·S·B = 8·R + 8·k·A holds, S·B = R + k·A does not.
pub(crate) fn cofactored(identity: &Identity, text: &[u8]) -> [u8; 64] {
    let r = Scalar::from_bytes_mod_order(rand::random());
    let [_, torsion, ..] = EIGHT_TORSION;
    finish(identity, text, EdwardsPoint::mul_base(&r) + torsion, r)
}

/// Returns a signature whose R is the neutral point: the equation holds, but R is of small order.
pub(crate) fn small_order_r(identity: &Identity, text: &[u8]) -> [u8; 64] {
    let [neutral, ..] = EIGHT_TORSION;
    finish(identity, text, neutral, Scalar::ZERO)
}

fn finish(identity: &Identity, text: &[u8], big_r: EdwardsPoint, r: Scalar) -> [u8; 64] {
    let seed = Sha512::digest(identity.signing_key().to_bytes());
    let mut secret = [0; 32];
    secret.copy_from_slice(&seed[..32]);
    let a = Scalar::from_bytes_mod_order(clamp_integer(secret));
    let big_r = big_r.compress().to_bytes();
    let key = identity.public_key().as_bytes();
    let s = r + challenge(&big_r, key, text) * a;
    join(big_r, s.to_bytes())
}

fn challenge(r: &[u8; 32], key: &[u8; 32], text: &[u8]) -> Scalar {
    let hash = Sha512::new()
        .chain_update(r)
        .chain_update(key)
        .chain_update(text)
        .finalize();
    Scalar::from_bytes_mod_order_wide(&hash.into())
}

/// L, the order of the base point, in little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Replaces S by S + L, which is below 2²⁵⁶.
pub(crate) fn malleable(mut signature: [u8; 64]) -> [u8; 64] {
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
    signature
}

fn join(r: [u8; 32], s: [u8; 32]) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s);
    signature
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::traits::IsIdentity;

    use super::*;

    /// Returns whether a verifier that uses the cofactored equation and no other rule accepts the signature.
    fn lax(identity: &Identity, text: &[u8], signature: &[u8; 64]) -> bool {
        let (r, s) = signature.split_at(32);
        let (r, s): ([u8; 32], [u8; 32]) = (r.try_into().unwrap(), s.try_into().unwrap());
        let key = identity.public_key().as_bytes();
        let a = curve25519_dalek::edwards::CompressedEdwardsY(*key)
            .decompress()
            .unwrap();
        let point = curve25519_dalek::edwards::CompressedEdwardsY(r)
            .decompress()
            .unwrap();
        let left = EdwardsPoint::mul_base(&Scalar::from_bytes_mod_order(s));
        (left - point - challenge(&r, key, text) * a)
            .mul_by_cofactor()
            .is_identity()
    }

    #[test]
    fn a_lax_verifier_takes_what_the_strict_rules_refuse() {
        let identity = Identity::generate();
        for signature in [
            cofactored(&identity, b"text"),
            small_order_r(&identity, b"text"),
            malleable(identity.sign(b"text")),
        ] {
            assert!(lax(&identity, b"text", &signature));
            assert!(!identity.public_key().verify(b"text", &signature));
        }
    }
}
