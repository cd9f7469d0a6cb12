//! The key file: one Ed25519 key as a libp2p `PrivateKey` message, so that other libp2p tools can read it.
//!
//! Entry function: [`load_or_create`]. The rules it keeps: a key file that is damaged, has another type of key, or is open
//! to other users is refused with the reason; an existing key is overwritten only on request, because its PeerId would be
//! lost.

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::Identity;
use super::secret_file::{self, IfExists, SecretFileError};

/// Name of the key file in the data directory.
pub const KEY_FILE_NAME: &str = "identity.key";

/// Maximum size of a key file in bytes: the largest private key of libp2p fits, so that a key of another type is reported as
/// such and not as too large.
const MAX_KEY_FILE_BYTES: usize = 16 * 1024;

/// Prefix of the 64 bytes of an Ed25519 key: field 1, `KeyType` Ed25519; field 2, 64 bytes.
const PROTOBUF_PREFIX: [u8; 4] = [0x08, 0x01, 0x12, 0x40];

const PROTOBUF_BYTES: usize = PROTOBUF_PREFIX.len() + 64;

/// Error when a key file is read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file or its directory cannot be used.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The file holds a key of another type.
    #[error("{path} holds a key of the type {kind}: diatribe's keys are Ed25519")]
    NotEd25519 {
        /// The file.
        path: PathBuf,
        /// libp2p's name of the type.
        kind: &'static str,
    },
    /// The file is not a key, or is damaged.
    #[error(
        "{path} is damaged or not a key ({reason}): restore it from a copy, or move it away to be \
         given a new identity"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The difference from a key file.
        reason: &'static str,
    },
}

/// Returns the path of the key file in the data directory `folder`.
pub fn key_file_path(folder: &Path) -> PathBuf {
    folder.join(KEY_FILE_NAME)
}

/// Creates the data directory `folder`, for its owner alone, unless it exists.
///
/// # Errors
///
/// Returns an error when it cannot be created, and when other users may write to an existing one.
pub fn create_folder(folder: &Path) -> Result<(), KeyFileError> {
    Ok(secret_file::make_folder(folder)?)
}

/// Loads the identity of the data directory `folder`; the first time, creates the directory and a new identity.
///
/// # Errors
///
/// Returns the errors of [`create_folder`], [`load`] and [`export`].
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
        // Another process was quicker: use its identity.
        Err(KeyFileError::File(SecretFileError::Exists { .. })) => load(&path),
        Err(error) => Err(error),
    }
}

/// Loads the identity from the key file `path`.
///
/// # Errors
///
/// Returns an error when the file cannot be read, is open to other users, is damaged, or has another type of key.
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

/// Copies the key file `from` into the data directory `folder`, and returns its identity.
///
/// # Errors
///
/// Returns the errors of [`load`], [`create_folder`] and [`export`].
pub fn import(from: &Path, folder: &Path, if_exists: IfExists) -> Result<Identity, KeyFileError> {
    let identity = load(from)?;
    secret_file::make_folder(folder)?;
    export(&identity, &key_file_path(folder), if_exists)?;
    Ok(identity)
}

/// Writes `identity` to the key file `to`, whose directory must exist.
///
/// # Errors
///
/// Returns an error when the file cannot be written, or exists and `if_exists` refuses that.
pub fn export(identity: &Identity, to: &Path, if_exists: IfExists) -> Result<(), KeyFileError> {
    let key = Zeroizing::new(identity.signing_key().to_keypair_bytes());
    let mut bytes = Zeroizing::new([0; PROTOBUF_BYTES]);
    bytes[..4].copy_from_slice(&PROTOBUF_PREFIX);
    bytes[4..].copy_from_slice(key.as_slice());
    Ok(secret_file::write(to, bytes.as_slice(), if_exists)?)
}

/// Returns the error for bytes that are not an Ed25519 key.
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
