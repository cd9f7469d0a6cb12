//! Who a node is: one Ed25519 key, from a file or from a passphrase, and what follows from it —
//! the public PeerId and the X25519 key to which others seal.
//!
//! Entry type: [`Identity`]. The rules kept here: no secret is ever printed or left behind in
//! memory, a key file is whole and its owner's alone or it is refused, and every signature in the
//! program is checked by [`PublicKey`], which has one answer where libraries differ.

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

/// A node's key and what is derived from it. Cloning shares it; the secrets are wiped with the
/// last clone.
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
    /// A new random identity.
    ///
    /// # Panics
    ///
    /// When the operating system has no randomness to give.
    pub fn generate() -> Identity {
        Identity::from_seed(&os_random())
    }

    /// The identity of an Ed25519 seed (the secret key of RFC 8032).
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

    /// The identity of a passphrase and a salt (which may be empty): the same on every machine.
    ///
    /// Takes most of a second and 256 MiB: in async code call it where blocking is allowed. It
    /// accepts every passphrase: estimate the strength of one that a person chose before you use it.
    pub fn from_passphrase(passphrase: &str, salt: &str) -> Result<Identity, PassphraseError> {
        passphrase::derive_seed(passphrase, salt).map(|seed| Identity::from_seed(&seed))
    }

    /// The key as libp2p takes it.
    pub fn keypair(&self) -> &Keypair {
        &self.keys.keypair
    }

    /// The public id.
    pub fn peer_id(&self) -> PeerId {
        self.keys.public.peer_id()
    }

    /// The public key, with which others check what this identity signs.
    pub fn public_key(&self) -> &PublicKey {
        &self.keys.public
    }

    /// The public key as a libp2p `PublicKey` message: 36 bytes.
    pub fn public_key_protobuf(&self) -> Vec<u8> {
        self.keys.public.to_protobuf().to_vec()
    }

    /// Signs `message` with Ed25519.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.keys.signing.sign(message).to_bytes()
    }

    /// The Ed25519 key itself.
    pub fn signing_key(&self) -> &SigningKey {
        &self.keys.signing
    }

    /// The X25519 secret that opens what was sealed to [`Identity::sealing_public`].
    pub fn sealing_secret(&self) -> &[u8; 32] {
        &self.keys.sealing_secret
    }

    /// The X25519 key to which others seal.
    pub fn sealing_public(&self) -> [u8; 32] {
        self.keys.sealing_public
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.peer_id()).finish()
    }
}

/// Bytes from the operating system. Without them no secret may be made, so their absence ends the
/// program; Linux, macOS and Windows do not fail once they have started.
fn os_random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    rand::rngs::SysRng
        .try_fill_bytes(bytes.as_mut_slice())
        .expect("the operating system gives randomness");
    bytes
}
