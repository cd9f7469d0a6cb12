//! The identity on disk: one Ed25519 key as a libp2p `PrivateKey` message, so that other libp2p
//! tools read it.
//!
//! Entry: [`load_or_create`]. The rule kept here: a key file is whole, an Ed25519 key, and its
//! owner's alone, or it is refused with the reason; an existing key is never overwritten unasked,
//! because whoever loses it loses the PeerId with it.

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::Identity;
use super::secret_file::{self, IfExists, SecretFileError};

/// The name of the key file in the data directory.
pub const KEY_FILE_NAME: &str = "identity.key";

/// Enough for the largest private key that libp2p knows, so that a key of another kind is named as
/// such and not as too large.
const MAX_KEY_FILE_BYTES: usize = 16 * 1024;

/// What stands before the 64 bytes of an Ed25519 key: field 1, `KeyType` Ed25519; field 2, 64 bytes.
const PROTOBUF_PREFIX: [u8; 4] = [0x08, 0x01, 0x12, 0x40];

const PROTOBUF_BYTES: usize = PROTOBUF_PREFIX.len() + 64;

/// Why a key file was not read or not written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file itself, or its surroundings.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// A key, but not one that diatribe uses.
    #[error("{path} holds a key of the type {kind}: diatribe's keys are Ed25519")]
    NotEd25519 {
        /// The file.
        path: PathBuf,
        /// What libp2p calls it.
        kind: &'static str,
    },
    /// Not a key, or no longer one.
    #[error(
        "{path} is damaged or not a key ({reason}): restore it from a copy, or move it away to be \
         given a new identity"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: &'static str,
    },
}

/// Where the key of the data directory `folder` is kept.
pub fn key_file_path(folder: &Path) -> PathBuf {
    folder.join(KEY_FILE_NAME)
}

/// Makes the data directory `folder`, for its owner alone, if it is not there; refuses one in which
/// others may write.
pub fn create_folder(folder: &Path) -> Result<(), KeyFileError> {
    Ok(secret_file::make_folder(folder)?)
}

/// The identity kept in the data directory `folder`; at the first time, a new one. The folder is
/// made if need be.
pub fn load_or_create(folder: &Path) -> Result<Identity, KeyFileError> {
    secret_file::make_folder(folder)?;
    let path = key_file_path(folder);
    match load(&path) {
        Err(KeyFileError::File(SecretFileError::Missing { .. })) => {}
        result => return result,
    }
    let identity = Identity::generate();
    match export(&identity, &path, IfExists::Refuse) {
        Ok(()) => Ok(identity),
        // Another process was quicker: its identity is the one that stands.
        Err(KeyFileError::File(SecretFileError::Exists { .. })) => load(&path),
        Err(error) => Err(error),
    }
}

/// The identity in the key file `path`.
pub fn load(path: &Path) -> Result<Identity, KeyFileError> {
    let bytes = secret_file::read_own(path, MAX_KEY_FILE_BYTES)?;
    let key: &[u8; 64] = match bytes.split_first_chunk::<4>() {
        Some((&PROTOBUF_PREFIX, key)) => key.try_into().map_err(|_| KeyFileError::Damaged {
            path: path.into(),
            reason: if bytes.len() < PROTOBUF_BYTES {
                "it is cut short"
            } else {
                "it is too long"
            },
        })?,
        _ => return Err(other_kind(path, &bytes)),
    };
    // Seed and public key: the two must belong together, or a bit has flipped.
    let signing = SigningKey::from_keypair_bytes(key).map_err(|_| KeyFileError::Damaged {
        path: path.into(),
        reason: "its public half does not belong to its secret half",
    })?;
    Ok(Identity::from_seed(signing.as_bytes()))
}

/// Takes the key file `from` as the identity of the data directory `folder`.
pub fn import(from: &Path, folder: &Path, if_exists: IfExists) -> Result<Identity, KeyFileError> {
    let identity = load(from)?;
    secret_file::make_folder(folder)?;
    export(&identity, &key_file_path(folder), if_exists)?;
    Ok(identity)
}

/// Writes `identity` to the key file `to`, whose folder must be there.
pub fn export(identity: &Identity, to: &Path, if_exists: IfExists) -> Result<(), KeyFileError> {
    let key = Zeroizing::new(identity.signing_key().to_keypair_bytes());
    let mut bytes = Zeroizing::new([0; PROTOBUF_BYTES]);
    bytes[..4].copy_from_slice(&PROTOBUF_PREFIX);
    bytes[4..].copy_from_slice(key.as_slice());
    Ok(secret_file::write(to, bytes.as_slice(), if_exists)?)
}

/// What bytes that are no Ed25519 key are, as far as they tell.
fn other_kind(path: &Path, bytes: &[u8]) -> KeyFileError {
    let kind = match bytes {
        [0x08, 0x00, 0x12, ..] => "RSA",
        [0x08, 0x02, 0x12, ..] => "Secp256k1",
        [0x08, 0x03, 0x12, ..] => "ECDSA",
        [] => {
            return KeyFileError::Damaged {
                path: path.into(),
                reason: "it is empty",
            };
        }
        _ => {
            return KeyFileError::Damaged {
                path: path.into(),
                reason: "it does not begin like a libp2p private key",
            };
        }
    };
    KeyFileError::NotEd25519 {
        path: path.into(),
        kind,
    }
}
