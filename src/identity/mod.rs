//! The identity of a node: one Ed25519 key, from a file or a passphrase, and the keys derived from it, the public PeerId
//! and the X25519 key to which others seal.
//!
//! Entry type: [`Identity`]. The rules it keeps: secrets are never printed and are wiped from memory; a key file that is
//! damaged or open to other users is refused; and [`PublicKey`] verifies every signature in the program, with one answer
//! where libraries differ.

mod key_file;
mod network_key;
mod passphrase;
mod public_key;
mod sealing;
mod secret_file;
#[cfg(test)]
mod tests;
pub(crate) mod text_file;

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::{Signer, SigningKey};
use libp2p::PeerId;
use libp2p::identity::{Keypair, ed25519};
use rand::TryRng;
use zeroize::{Zeroize, Zeroizing};

pub use key_file::{
    KEY_FILE_NAME, KeyFileError, create_folder, export, import, key_file_path, load, load_or_create,
};
pub use network_key::{NetworkId, NetworkKey, NetworkKeyError, network_id};
pub use passphrase::{
    MAX_PASSPHRASE_BYTES, PassphraseError, generate_passphrase, passphrase_from_bytes,
    read_passphrase_file,
};
pub use public_key::{PUBLIC_KEY_PROTOBUF_BYTES, PublicKey, PublicKeyError};
pub use secret_file::{IfExists, SecretFileError, exposed_to_others, open_private, write_private};

/// A node's key, and the keys derived from it. Clones share it, and the secrets are wiped with the last clone.
///
/// # Examples
///
/// ```
/// use diatribe::Identity;
///
/// let identity = Identity::generate();
/// let signature = identity.sign(b"hello");
/// assert!(identity.public_key().verify(b"hello", &signature));
/// ```
#[derive(Clone)]
pub struct Identity {
    keys: Arc<Keys>,
}

struct Keys {
    keypair: Keypair,
    signing: SigningKey,
    public: PublicKey,
    sealing_secret: Zeroizing<[u8; 32]>,
    sealing_public: [u8; 32],
}

impl Identity {
    /// Returns a new random identity.
    ///
    /// # Panics
    ///
    /// Panics when the operating system has no randomness.
    pub fn generate() -> Identity {
        Identity::from_seed(&os_random())
    }

    /// Returns the identity of an Ed25519 seed (the secret key of RFC 8032).
    pub fn from_seed(seed: &[u8; 32]) -> Identity {
        let mut copy = *seed;
        let secret = ed25519::SecretKey::try_from_bytes(&mut copy)
            .expect("the only error is a length other than 32");
        copy.zeroize();
        let signing = SigningKey::from_bytes(seed);
        let (sealing_secret, sealing_public) = sealing::derive(seed);
        Identity {
            keys: Arc::new(Keys {
                keypair: ed25519::Keypair::from(secret).into(),
                public: PublicKey::of(&signing),
                signing,
                sealing_secret,
                sealing_public,
            }),
        }
    }

    /// Derives the identity of a passphrase and a salt, which may be empty. It is the same on every machine.
    ///
    /// This takes most of a second and 256 MiB of memory, so async code must call it where blocking is allowed. It accepts
    /// every passphrase: estimate the strength of one that a person chose before you use it.
    ///
    /// # Errors
    ///
    /// Returns an error when the passphrase is empty or too long, or when there is not enough memory.
    pub fn from_passphrase(passphrase: &str, salt: &str) -> Result<Identity, PassphraseError> {
        passphrase::derive_seed(passphrase, salt).map(|seed| Identity::from_seed(&seed))
    }

    /// Returns the key as a libp2p key pair.
    pub fn keypair(&self) -> &Keypair {
        &self.keys.keypair
    }

    /// Returns the public id.
    pub fn peer_id(&self) -> PeerId {
        self.keys.public.peer_id()
    }

    /// Returns the public key, which verifies the signatures of this identity.
    pub fn public_key(&self) -> &PublicKey {
        &self.keys.public
    }

    /// Returns the public key as a libp2p `PublicKey` message of 36 bytes.
    pub fn public_key_protobuf(&self) -> Vec<u8> {
        self.keys.public.to_protobuf().to_vec()
    }

    /// Signs `message` with Ed25519.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.keys.signing.sign(message).to_bytes()
    }

    /// Returns the Ed25519 signing key.
    pub fn signing_key(&self) -> &SigningKey {
        &self.keys.signing
    }

    /// Returns the X25519 secret that opens messages sealed to [`Identity::sealing_public`].
    pub fn sealing_secret(&self) -> &[u8; 32] {
        &self.keys.sealing_secret
    }

    /// Returns the X25519 public key to which others seal messages.
    pub fn sealing_public(&self) -> [u8; 32] {
        self.keys.sealing_public
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.peer_id()).finish()
    }
}

/// Returns random bytes from the operating system. No secret may be created without them, so their absence ends the
/// program; Linux, macOS and Windows do not fail after boot.
fn os_random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    rand::rngs::SysRng
        .try_fill_bytes(bytes.as_mut_slice())
        .expect("the operating system gives randomness");
    bytes
}
