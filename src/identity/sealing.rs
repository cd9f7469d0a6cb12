//! Derivation of the X25519 sealing key from the Ed25519 seed.
//!
//! Entry function: [`derive`]. The rule it keeps: the sealing key is independent, not the Ed25519 key converted, so that
//! opening and signing cannot be used against each other.

use hkdf::Hkdf;
use hpke::kem::X25519HkdfSha256;
use hpke::{Kem, Serializable};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

const HKDF_SALT: &[u8] = b"diatribe";
const HKDF_INFO: &[u8] = b"x25519-encryption-v1";

/// Returns the secret and the public X25519 key of an Ed25519 seed.
pub(super) fn derive(seed: &[u8; 32]) -> (Zeroizing<[u8; 32]>, [u8; 32]) {
    let mut ikm = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(HKDF_SALT), seed)
        .expand(HKDF_INFO, ikm.as_mut_slice())
        .expect("32 bytes are within what HKDF gives");
    // RFC 9180 section 7.1.3, DeriveKeyPair. The secret is clamped here, and only at use in other implementations: compare
    // public keys across languages, not secrets.
    let (secret, public) = X25519HkdfSha256::derive_keypair(ikm.as_slice());
    let mut secret_bytes = secret.to_bytes();
    let secret = Zeroizing::new(secret_bytes.into());
    secret_bytes.as_mut_slice().zeroize();
    (secret, public.to_bytes().into())
}
