//! Transcript hashes of a round, T0 … T_end, and the domain separation labels of the handshake.
//!
//! Entry type: [`Transcript`]. The rule it keeps: each hash covers the one before it, so that every signature, ciphertext
//! and confirmation covers all earlier frames, both peers and the connection.

use sha2::{Digest, Sha256};

use super::protocol::Stage;

const NAME: &[u8] = b"diatribe-handshake-v2";
pub(crate) const SEAL_TO_CLIENT: &[u8] = b"diatribe-handshake-v2/s2c";
pub(crate) const SEAL_TO_SERVER: &[u8] = b"diatribe-handshake-v2/c2s";
pub(crate) const CONFIRM: &[u8] = b"diatribe-handshake-v2/confirm";
const SIGNED_BY_SERVER: &[u8] = b"diatribe-handshake-v2/server/";
const SIGNED_BY_CLIENT: &[u8] = b"diatribe-handshake-v2/client/";

/// Hash of all frames of a round so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transcript([u8; 32]);

impl Transcript {
    /// Returns T0, which covers the round, both peers and the transcript of the round before.
    pub(crate) fn start(round: Stage, client: &[u8], server: &[u8], prev: &[u8; 32]) -> Transcript {
        Transcript(hash(&[NAME, &[round.number()], client, server, prev]))
    }

    /// Returns T1, after the Hello.
    pub(crate) fn hello(self, core: &[u8]) -> Transcript {
        Transcript(hash(&[&self.0, &[1], core]))
    }

    /// Returns T2, to which the server's ciphertext is bound.
    pub(crate) fn challenge(self, core: &[u8]) -> Transcript {
        Transcript(hash(&[&self.0, &[2], core]))
    }

    /// Returns T3, which the server signs.
    pub(crate) fn challenge_sealed(self, enc: &[u8; 32], ciphertext: &[u8]) -> Transcript {
        Transcript(hash(&[&self.0, enc, ciphertext]))
    }

    /// Returns T4, to which the client's ciphertext is bound.
    pub(crate) fn challenge_signed(self, signature: &[u8; 64]) -> Transcript {
        Transcript(hash(&[&self.0, signature]))
    }

    /// Returns T5, which the client signs.
    pub(crate) fn answer_sealed(self, enc: &[u8; 32], ciphertext: &[u8]) -> Transcript {
        Transcript(hash(&[&self.0, &[3], enc, ciphertext]))
    }

    /// Returns the hash that the client confirms, over T5 and its signature.
    pub(crate) fn to_confirm(self, signature: &[u8; 64]) -> [u8; 32] {
        hash(&[&self.0, signature])
    }

    /// Returns T_end, from T5 with its signature.
    pub(crate) fn end(self, signature: &[u8; 64], confirm: &[u8; 32]) -> Transcript {
        Transcript(hash(&[&self.0, &[4], signature, confirm]))
    }

    /// Returns the hash that proves referrals, from T_end: it binds them to the server of this round.
    pub(crate) fn to_prove(self, referrals: &[u8]) -> [u8; 32] {
        hash(&[&self.0, &[5], referrals])
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the text that the server signs, from T3.
    pub(crate) fn for_server(&self) -> Vec<u8> {
        [SIGNED_BY_SERVER, &self.0].concat()
    }

    /// Returns the text that the client signs, from T5.
    pub(crate) fn for_client(&self) -> Vec<u8> {
        [SIGNED_BY_CLIENT, &self.0].concat()
    }
}

/// Returns SHA-256 over the parts, each after its length, so that no two lists of parts have the same input.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        // The longest part is a frame, so the length always fits.
        hash.update((part.len() as u32).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
