//! Redeeming an invite: the newcomer's request, and the two signatures that bind it to the network, the admitter and the newcomer.
//!
//! Entry type: [`Redeem`]. The rule it keeps: nobody but the holder of the invite's seed can make one, nobody can enrol
//! somebody else or with another sealing key, and a request made for one admitter is of no use to another.

use ed25519_dalek::{Signer, SigningKey};
use hkdf::Hkdf;
use libp2p::bytes::Bytes;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::id::{FoundedId, NameError, checked_name};
use crate::identity::{Identity, PublicKey};
use crate::wire::proto::members as proto;

/// Maximum difference between the time in a request and the admitter's clock, in milliseconds.
pub const MAX_TIME_OFF_MS: u64 = 10 * 60 * 1000;

/// Length of the seed of an invite in bytes.
pub const SEED_BYTES: usize = 16;

const DOMAIN: &[u8] = b"diatribe-join-v1";
const SEED_INFO: &[u8] = b"diatribe/invite/v1";

/// The secret of an invite, and the key that follows from it.
pub struct InviteKey {
    signing: SigningKey,
    public: PublicKey,
}

impl InviteKey {
    /// Derives the key of an invite from its seed.
    pub fn from_seed(seed: &[u8; SEED_BYTES]) -> InviteKey {
        let mut secret = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, seed)
            .expand(SEED_INFO, secret.as_mut_slice())
            .expect("32 bytes are within HKDF's limit");
        let signing = SigningKey::from_bytes(&secret);
        let public = PublicKey::from_bytes(signing.verifying_key().as_bytes())
            .expect("a key that was just made is canonical and not of small order");
        InviteKey { signing, public }
    }

    /// The public key, by which the network knows the invite.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }
}

/// A newcomer's request to be admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redeem {
    /// The invite's public key.
    pub invite: PublicKey,
    /// The newcomer's X25519 key.
    pub sealing_key: [u8; 32],
    /// The name that the newcomer would like to have; may be empty.
    pub name: String,
    /// Milliseconds since 1970 by the newcomer's clock.
    pub time_ms: u64,
    /// Under the invite's key.
    pub invite_signature: [u8; 64],
    /// Under the newcomer's key.
    pub newcomer_signature: [u8; 64],
}

/// Why a request to be admitted is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedeemError {
    /// A field has a wrong length, or a key is none.
    #[error("the field {0} is not valid")]
    Field(&'static str),
    /// Not signed by the invite's key for this network, admitter and newcomer.
    #[error("the invite's signature is wrong")]
    InviteSignature,
    /// Not signed by the newcomer.
    #[error("the newcomer's signature is wrong")]
    NewcomerSignature,
}

impl Redeem {
    /// Signs a request of `newcomer` to be admitted to `network` by `admitter`.
    ///
    /// # Errors
    ///
    /// When the name is not allowed.
    pub fn new(
        network: FoundedId,
        invite: &InviteKey,
        admitter: &PublicKey,
        newcomer: &Identity,
        name: &str,
        time_ms: u64,
    ) -> Result<Redeem, NameError> {
        let mut redeem = Redeem {
            invite: *invite.public(),
            sealing_key: newcomer.sealing_public(),
            name: checked_name(name.to_owned())?,
            time_ms,
            invite_signature: [0; 64],
            newcomer_signature: [0; 64],
        };
        let message = redeem.message(network, admitter, newcomer.public_key());
        redeem.invite_signature = invite.signing.sign(&message).to_bytes();
        redeem.newcomer_signature = newcomer.sign(&message);
        Ok(redeem)
    }

    /// Verifies both signatures.
    ///
    /// # Errors
    ///
    /// Names the first signature that does not hold.
    pub fn verify(
        &self,
        network: FoundedId,
        admitter: &PublicKey,
        newcomer: &PublicKey,
    ) -> Result<(), RedeemError> {
        let message = self.message(network, admitter, newcomer);
        if !self.invite.verify(&message, &self.invite_signature) {
            return Err(RedeemError::InviteSignature);
        }
        if !newcomer.verify(&message, &self.newcomer_signature) {
            return Err(RedeemError::NewcomerSignature);
        }
        Ok(())
    }

    /// Returns whether the time in the request is close enough to `now_ms`.
    pub fn is_timely(&self, now_ms: u64) -> bool {
        self.time_ms.abs_diff(now_ms) <= MAX_TIME_OFF_MS
    }

    fn message(&self, network: FoundedId, admitter: &PublicKey, newcomer: &PublicKey) -> [u8; 32] {
        let mut hash = Sha256::new().chain_update(DOMAIN);
        let time = self.time_ms.to_be_bytes();
        let parts: [&[u8]; 7] = [
            &network.0,
            self.invite.as_bytes(),
            admitter.as_bytes(),
            newcomer.as_bytes(),
            &self.sealing_key,
            self.name.as_bytes(),
            &time,
        ];
        for part in parts {
            hash.update((part.len() as u32).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    /// Reads the fields of a request, without verifying its signatures.
    ///
    /// # Errors
    ///
    /// When a field has a wrong length, the invite's key is none, or the name is not allowed.
    pub fn decode(wire: &proto::Redeem) -> Result<Redeem, RedeemError> {
        let field = RedeemError::Field;
        let invite = wire.invite[..].try_into().map_err(|_| field("invite"))?;
        Ok(Redeem {
            invite: PublicKey::from_bytes(invite).map_err(|_| field("invite"))?,
            sealing_key: fixed("sealing_key", &wire.sealing_key)?,
            name: checked_name(wire.name.clone()).map_err(|_| field("name"))?,
            time_ms: wire.time_ms,
            invite_signature: fixed("invite_signature", &wire.invite_signature)?,
            newcomer_signature: fixed("newcomer_signature", &wire.newcomer_signature)?,
        })
    }

    /// Returns the request as it goes over the wire.
    pub fn encode(&self) -> proto::Redeem {
        proto::Redeem {
            invite: Bytes::copy_from_slice(self.invite.as_bytes()),
            sealing_key: Bytes::copy_from_slice(&self.sealing_key),
            name: self.name.clone(),
            time_ms: self.time_ms,
            invite_signature: Bytes::copy_from_slice(&self.invite_signature),
            newcomer_signature: Bytes::copy_from_slice(&self.newcomer_signature),
        }
    }
}

fn fixed<const N: usize>(name: &'static str, bytes: &[u8]) -> Result<[u8; N], RedeemError> {
    bytes.try_into().map_err(|_| RedeemError::Field(name))
}
