//! What both sides of a round hash, T0 … T_end, and the labels that keep every use of a key apart.
//!
//! Entry type: [`Transcript`]. The rule it keeps: each step takes the one before it, so that
//! whatever is signed, sealed or confirmed stands for all that was said before, by whom, to whom
//! and on which connection.

use sha2::{Digest, Sha256};

use super::message::Proof;
use super::reason::Stage;

const NAME: &[u8] = b"diatribe-handshake-v2";
pub(crate) const SEAL_TO_CLIENT: &[u8] = b"diatribe-handshake-v2/s2c";
pub(crate) const SEAL_TO_SERVER: &[u8] = b"diatribe-handshake-v2/c2s";
pub(crate) const CONFIRM: &[u8] = b"diatribe-handshake-v2/confirm";
const SIGNED_BY_SERVER: &[u8] = b"diatribe-handshake-v2/server/";
const SIGNED_BY_CLIENT: &[u8] = b"diatribe-handshake-v2/client/";

/// All that was said in a round so far, as 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transcript([u8; 32]);

impl Transcript {
    /// T0: which round, between whom, after what.
    pub(crate) fn start(round: Stage, client: &[u8], server: &[u8], prev: &[u8; 32]) -> Transcript {
        Transcript(hash(&[NAME, &[round.number()], client, server, prev]))
    }

    /// T1.
    pub(crate) fn hello(self, core: &[u8]) -> Transcript {
        Transcript(hash(&[&self.0, &[1], core]))
    }

    /// T2, to which the server's sealed text is bound.
    pub(crate) fn challenge(self, core: &[u8]) -> Transcript {
        Transcript(hash(&[&self.0, &[2], core]))
    }

    /// T3, which the server signs.
    pub(crate) fn challenge_sealed(self, enc: &[u8; 32], ciphertext: &[u8]) -> Transcript {
        Transcript(hash(&[&self.0, enc, ciphertext]))
    }

    /// T4, to which the client's sealed text is bound.
    pub(crate) fn challenge_signed(self, signature: &[u8; 64]) -> Transcript {
        Transcript(hash(&[&self.0, signature]))
    }

    /// T5, which the client signs.
    pub(crate) fn answer_sealed(self, enc: &[u8; 32], ciphertext: &[u8]) -> Transcript {
        Transcript(hash(&[&self.0, &[3], enc, ciphertext]))
    }

    /// What the client confirms: T5 and its signature.
    pub(crate) fn to_confirm(self, signature: &[u8; 64]) -> [u8; 32] {
        hash(&[&self.0, signature])
    }

    /// T_end, from T5.
    pub(crate) fn end(self, proof: &Proof, confirm: &[u8; 32]) -> Transcript {
        Transcript(hash(&[&self.0, &[4], &proof.signature, confirm]))
    }

    /// What proves referrals, from T_end: they are those of the server of this round.
    pub(crate) fn to_prove(self, referrals: &[u8]) -> [u8; 32] {
        hash(&[&self.0, &[5], referrals])
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// T3 as the server signs it.
    pub(crate) fn for_server(&self) -> Vec<u8> {
        [SIGNED_BY_SERVER, &self.0].concat()
    }

    /// T5 as the client signs it.
    pub(crate) fn for_client(&self) -> Vec<u8> {
        [SIGNED_BY_CLIENT, &self.0].concat()
    }
}

/// SHA-256 over the parts, each with its length before it: no two lists of parts look the same.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        // The longest part is a frame's, so that the length always fits.
        hash.update((part.len() as u32).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
