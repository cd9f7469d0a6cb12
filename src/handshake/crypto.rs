//! The handshake's uses of HPKE (RFC 9180), HKDF and HMAC.
//!
//! Entry points: [`seal`], [`open`], [`Keys`]. The rule it keeps: secrets are wiped when they are dropped, and are compared
//! in constant time.

use hkdf::Hkdf;
use hmac::digest::CtOutput;
use hmac::{Hmac, KeyInit, Mac};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use rand::CryptoRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::reason::Reason;
use super::transcript::{self, Transcript};

/// Source of nonces, secrets and ephemeral keys: the operating system, except in tests.
pub type Entropy = Box<dyn CryptoRng + Send>;

/// Size of a ciphertext in bytes: 32 of nonce, 32 of secret, and HPKE's tag of 16.
pub(crate) const CIPHERTEXT: usize = 80;

/// 32 bytes that are wiped when dropped.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

pub(crate) fn random(entropy: &mut Entropy) -> Secret {
    let mut bytes = Zeroizing::new([0; 32]);
    entropy.fill_bytes(&mut *bytes);
    bytes
}

/// Seals the peer's nonce and a secret of this side to the peer's key. Returns the encapsulated key and the ciphertext.
pub(crate) fn seal(
    to: &[u8; 32],
    info: &[u8],
    bound_to: Transcript,
    nonce: &[u8; 32],
    secret: &Secret,
    entropy: &mut Entropy,
) -> Result<([u8; 32], [u8; CIPHERTEXT]), Reason> {
    let mut text = Zeroizing::new([0; 64]);
    text[..32].copy_from_slice(nonce);
    text[32..].copy_from_slice(&secret[..]);
    let key =
        <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(to).map_err(|_| Reason::WeakSealingKey)?;
    // This fails only for a key that makes every shared secret zero (RFC 9180 §7.1.4).
    let (enc, ciphertext) =
        hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &key,
            info,
            &text[..],
            bound_to.as_bytes(),
            entropy,
        )
        .map_err(|_| Reason::WeakSealingKey)?;
    let ciphertext = ciphertext.try_into().map_err(|_| Reason::WeakSealingKey)?;
    Ok((enc.to_bytes().into(), ciphertext))
}

/// Opens the peer's sealed message, checks that it contains this side's nonce, and returns the peer's secret.
pub(crate) fn open(
    with: &<X25519HkdfSha256 as Kem>::PrivateKey,
    info: &[u8],
    bound_to: Transcript,
    enc: &[u8; 32],
    ciphertext: &[u8; CIPHERTEXT],
    nonce: &Secret,
) -> Result<Secret, Reason> {
    let enc =
        <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(enc).map_err(|_| Reason::Sealed)?;
    let text = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        with,
        &enc,
        info,
        ciphertext,
        bound_to.as_bytes(),
    )
    .map_err(|_| Reason::Sealed)?;
    let text = Zeroizing::new(text);
    let (Some(returned), Some(theirs)) = (text.first_chunk::<32>(), text.last_chunk::<32>()) else {
        return Err(Reason::Sealed);
    };
    if !same(returned, nonce) {
        return Err(Reason::Nonce);
    }
    Ok(Zeroizing::new(*theirs))
}

/// K, the keys that both sides derive once each has opened the other's sealed message.
pub(crate) struct Keys(Zeroizing<[u8; 64]>);

impl Keys {
    pub(crate) fn derive(
        t5: Transcript,
        server: &Secret,
        client: &Secret,
        network: &[u8; 32],
    ) -> Keys {
        let mut ikm = Zeroizing::new([0; 96]);
        ikm[..32].copy_from_slice(&server[..]);
        ikm[32..64].copy_from_slice(&client[..]);
        ikm[64..].copy_from_slice(network);
        let mut keys = Zeroizing::new([0; 64]);
        Hkdf::<Sha256>::new(Some(t5.as_bytes()), &ikm[..])
            .expand(transcript::CONFIRM, &mut keys[..])
            // RFC 5869 bounds the output at 255 hashes; this is two.
            .expect("64 bytes are within HKDF's limit");
        Keys(keys)
    }

    /// Returns the client's confirmation, over h(T5, signature).
    pub(crate) fn confirm(&self, hash: &[u8; 32]) -> [u8; 32] {
        mac(&self.0[..32], hash)
    }

    /// Returns the server's pass, over T_end.
    pub(crate) fn pass(&self, end: Transcript) -> [u8; 32] {
        mac(&self.0[32..], end.as_bytes())
    }

    /// Returns the server's proof of its referrals, over T_end and the referrals.
    pub(crate) fn referral_proof(&self, end: Transcript, referrals: &[u8]) -> [u8; 32] {
        mac(&self.0[32..], &end.to_prove(referrals))
    }

    #[cfg(test)]
    pub(crate) fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

/// Returns whether two values are equal, in constant time.
pub(crate) fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    CtOutput::<Sha256>::new((*a).into()) == CtOutput::<Sha256>::new((*b).into())
}

fn mac(key: &[u8], text: &[u8; 32]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key)
        // HMAC hashes a key that is too long and pads one that is too short.
        .expect("HMAC takes a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().into()
}
