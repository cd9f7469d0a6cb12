//! Sealed nonces and secrets: opened as an honest side does, sealed as a [`Forgery`] says.

use hpke::Deserializable;
use hpke::kem::X25519HkdfSha256;
use zeroize::Zeroizing;

use super::{Forgery, Round, entropy, exact, with_bit_flipped};
use crate::handshake::crypto::{self, Secret};
use crate::handshake::message::Proof;
use crate::handshake::transcript::Transcript;
use crate::identity::Identity;
use crate::wire::proto::handshake as proto;

impl Round {
    pub(super) fn open(
        &self,
        label: &[u8],
        bound_to: Transcript,
        proof: &Proof,
        nonce: [u8; 32],
    ) -> Result<[u8; 32], String> {
        type PrivateKey = <X25519HkdfSha256 as hpke::Kem>::PrivateKey;
        let key = PrivateKey::from_bytes(self.party.identity.sealing_secret())
            .map_err(|e| e.to_string())?;
        let nonce = Secret::new(nonce);
        crypto::open(&key, label, bound_to, &proof.enc, &proof.ciphertext, &nonce)
            .map(|secret| *secret)
            .map_err(|e| e.to_string())
    }

    pub(super) fn seal(
        &self,
        forgery: Forgery,
        to: &proto::Core,
        (label, other_label): (&[u8], &[u8]),
        bound_to: Transcript,
        secret: [u8; 32],
    ) -> Result<([u8; 32], [u8; 80]), String> {
        let exact = |bytes: &[u8], what| exact::<32>(bytes, what);
        let to_key = match forgery {
            Forgery::SealedToOther => Identity::generate().sealing_public(),
            _ => exact(&to.enc_key, "enc_key")?,
        };
        let label = match forgery {
            Forgery::SealedAsOtherRole => other_label,
            _ => label,
        };
        let bound_to = match forgery {
            Forgery::SealedUnbound => Transcript::start(self.stage, &[], &[], &[0; 32]),
            _ => bound_to,
        };
        let nonce = match forgery {
            Forgery::Nonce => [0; 32],
            _ => exact(&to.nonce, "nonce")?,
        };
        let nonce = match forgery {
            Forgery::NonceByte(at) => with_bit_flipped(nonce, at),
            _ => nonce,
        };
        let secret = Zeroizing::new(secret);
        let (enc, ciphertext) =
            crypto::seal(&to_key, label, bound_to, &nonce, &secret, &mut entropy())
                .map_err(|e| format!("an enc_key to which nothing can be sealed: {e}"))?;
        Ok(match forgery {
            Forgery::SealedGarbage => (enc, [0x5a; 80]),
            Forgery::SmallOrderEnc => ([0; 32], ciphertext),
            _ => (enc, ciphertext),
        })
    }
}
