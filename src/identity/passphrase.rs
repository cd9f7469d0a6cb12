//! Passphrases: reading, generation, and derivation of the seed of an identity.
//!
//! Entry function: [`crate::identity::Identity::from_passphrase`]. The rule it keeps: the derivation is frozen. The same
//! passphrase and salt yield the same key on any machine, in any language, in every version 1;
//! `proto/vectors/identity.json` has examples.

use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::os_random;
use super::secret_file::{self, SecretFileError};
use super::text_file::{self, without_line_ends};

/// 256 MiB. PeerIds are public, so an attacker can guess passphrases on any machines; memory makes that expensive.
const ARGON2_MEMORY_KIB: u32 = 262_144;
const ARGON2_PASSES: u32 = 3;
const ARGON2_LANES: u32 = 1;

const SALT_DOMAIN: &[u8] = b"diatribe/identity/v1\0";

/// Maximum size of a passphrase in NFC, in bytes: more than anyone types, and less than a wrong file.
pub const MAX_PASSPHRASE_BYTES: usize = 1024;

/// Maximum size of a passphrase file in bytes: the longest passphrase before NFC shortens it, and a newline.
const MAX_PASSPHRASE_FILE_BYTES: usize = 4 * MAX_PASSPHRASE_BYTES;

/// 2,048 English words, each with its own first four letters: the list of BIP-39 (public domain). Nothing else of BIP-39 is
/// used.
const WORDS: &str = include_str!("words.txt");

/// Number of words in a generated passphrase: with 11 bits for each, 77 bits, or about 10^23 guesses.
const GENERATED_WORDS: usize = 7;

/// An error in a passphrase, or in its derivation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// The passphrase is empty.
    #[error("the passphrase is empty: give one, or have one made with `diatribe key passphrase`")]
    Empty,
    /// The passphrase is not text.
    #[error("the passphrase is not UTF-8 text: a passphrase is typed, not a binary key")]
    NotUtf8,
    /// The passphrase is longer than [`MAX_PASSPHRASE_BYTES`].
    #[error("the passphrase has more than 1024 bytes: is it the right file?")]
    TooLong,
    /// The file with the passphrase cannot be read.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The machine does not have the 256 MiB that Argon2 needs.
    #[error("the passphrase cannot be turned into a key: {0}; 256 MiB of free memory are needed")]
    Derivation(argon2::Error),
}

/// Generates a passphrase of seven words, with 77 bits of the operating system's randomness.
///
/// # Panics
///
/// Panics when the operating system has no randomness.
pub fn generate_passphrase() -> Zeroizing<String> {
    let words: Vec<&str> = WORDS.lines().collect();
    let random = os_random::<{ GENERATED_WORDS * 2 }>();
    let longest = words.iter().map(|word| word.len()).max().unwrap_or(0);
    // Reserved in full, so that no reallocation leaves a part of the passphrase behind.
    let mut passphrase = Zeroizing::new(String::with_capacity(GENERATED_WORDS * (longest + 1)));
    for (index, pair) in random.chunks_exact(2).enumerate() {
        if index > 0 {
            passphrase.push(' ');
        }
        // 2,048 divides 65,536, so every word is equally likely.
        let pick = usize::from(pair[0]) << 8 | usize::from(pair[1]);
        passphrase.push_str(words[pick % words.len()]);
    }
    passphrase
}

/// Reads a passphrase from bytes of a file, stdin or the environment: UTF-8, brought into NFC. Removes a byte order mark and
/// the line ends behind it: editors add them, they cannot be typed, and they would silently change the identity.
///
/// # Errors
///
/// Returns an error when the bytes are not UTF-8, and when the passphrase is empty or too long.
pub fn passphrase_from_bytes(bytes: &[u8]) -> Result<Zeroizing<String>, PassphraseError> {
    let text = std::str::from_utf8(without_line_ends(text_file::without_mark(bytes)))
        .map_err(|_| PassphraseError::NotUtf8)?;
    normalized(text)
}

/// Reads a passphrase from the file at `path`, as [`passphrase_from_bytes`] does.
///
/// # Errors
///
/// Returns an error when the file cannot be read or is too large, and the errors of [`passphrase_from_bytes`].
pub fn read_passphrase_file(path: &Path) -> Result<Zeroizing<String>, PassphraseError> {
    let bytes = secret_file::read_any(path, MAX_PASSPHRASE_FILE_BYTES)?;
    passphrase_from_bytes(&bytes)
}

/// Derives the Ed25519 seed of a passphrase and a salt.
pub(super) fn derive_seed(
    passphrase: &str,
    salt: &str,
) -> Result<Zeroizing<[u8; 32]>, PassphraseError> {
    let passphrase = normalized(passphrase)?;
    let salt: String = salt.nfc().collect();
    let salt = Sha256::new()
        .chain_update(SALT_DOMAIN)
        .chain_update(salt)
        .finalize();
    let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, Some(32))
        .map_err(PassphraseError::Derivation)?;
    let mut seed = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), &salt, seed.as_mut_slice())
        .map_err(PassphraseError::Derivation)?;
    Ok(seed)
}

/// Returns `text` in NFC, so that keyboards that compose accents agree with those that do not.
fn normalized(text: &str) -> Result<Zeroizing<String>, PassphraseError> {
    if text.is_empty() {
        return Err(PassphraseError::Empty);
    }
    // NFC makes UTF-8 at most three times as long (Unicode Standard Annex 15), so no reallocation leaves the text behind.
    let mut composed = Zeroizing::new(String::with_capacity(3 * text.len()));
    composed.extend(text.nfc());
    if composed.len() > MAX_PASSPHRASE_BYTES {
        return Err(PassphraseError::TooLong);
    }
    Ok(composed)
}
