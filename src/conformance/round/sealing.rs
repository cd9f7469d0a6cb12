//! Sealed nonces and secrets: opened as an honest side does, sealed as a [`Forgery`] says.

use hpke::Deserializable;
use hpke::kem::X25519HkdfSha256;

use super::{Forgery, Round, entropy, exact};
use crate::handshake::crypto::{self, Secret};
use crate::handshake::forge::{self, Sealing};
use crate::handshake::message::Proof;
use crate::handshake::transcript::Transcript;
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
        labels: (&[u8], &[u8]),
        bound_to: Transcript,
        secret: [u8; 32],
    ) -> Result<([u8; 32], [u8; 80]), String> {
        let sealing = Sealing {
            stage: self.stage,
            key: exact(&to.enc_key, "enc_key")?,
            nonce: exact(&to.nonce, "nonce")?,
            labels,
            bound_to,
            secret: Secret::new(secret),
        };
        forge::seal(forgery, sealing, &mut entropy())
            .map_err(|e| format!("an enc_key to which nothing can be sealed: {e}"))
    }
}
