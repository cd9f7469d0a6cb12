//! Passphrases: read, generated, and turned into the seed of an identity.
//!
//! Entry: [`crate::identity::Identity::from_passphrase`]. The rule kept here: the derivation is
//! frozen. The same passphrase and salt give the same key on any machine, in any language, in every
//! version 1; `proto/vectors/identity.json` holds examples.

use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::os_random;
use super::secret_file::{self, SecretFileError};
use super::text_file::{self, without_line_ends};

/// 256 MiB: PeerIds are public, so whoever wants to guess a passphrase can do so on machines of
/// his own choosing; memory is what makes that dear.
const ARGON2_MEMORY_KIB: u32 = 262_144;
const ARGON2_PASSES: u32 = 3;
const ARGON2_LANES: u32 = 1;

const SALT_DOMAIN: &[u8] = b"diatribe/identity/v1\0";

/// The longest passphrase, in NFC: more than anyone types, and less than a file given by mistake.
pub const MAX_PASSPHRASE_BYTES: usize = 1024;

/// Room for the longest passphrase before NFC has made it shorter, and for the newline.
const MAX_PASSPHRASE_FILE_BYTES: usize = 4 * MAX_PASSPHRASE_BYTES;

/// 2,048 English words of which no two begin with the same four letters: the list of BIP-39
/// (public domain). Nothing else of BIP-39 is used.
const WORDS: &str = include_str!("words.txt");

/// 11 bits each: 77 bits, some 10^23 guesses.
const GENERATED_WORDS: usize = 7;

/// What is wrong with a passphrase.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Nothing was given.
    #[error("the passphrase is empty: give one, or have one made with `diatribe key passphrase`")]
    Empty,
    /// Not text.
    #[error("the passphrase is not UTF-8 text: a passphrase is typed, not a binary key")]
    NotUtf8,
    /// Longer than [`MAX_PASSPHRASE_BYTES`].
    #[error("the passphrase has more than 1024 bytes: is it the right file?")]
    TooLong,
    /// The file that should hold it cannot be read.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The machine cannot give Argon2 its 256 MiB.
    #[error("the passphrase cannot be turned into a key: {0}; 256 MiB of free memory are needed")]
    Derivation(argon2::Error),
}

/// Invents a passphrase of seven words: 77 bits from the operating system's randomness.
///
/// # Panics
///
/// When the operating system has no randomness to give.
pub fn generate_passphrase() -> Zeroizing<String> {
    let words: Vec<&str> = WORDS.lines().collect();
    let random = os_random::<{ GENERATED_WORDS * 2 }>();
    let longest = words.iter().map(|word| word.len()).max().unwrap_or(0);
    // Reserved in full, so that no half-made passphrase is left behind by a reallocation.
    let mut passphrase = Zeroizing::new(String::with_capacity(GENERATED_WORDS * (longest + 1)));
    for (index, pair) in random.chunks_exact(2).enumerate() {
        if index > 0 {
            passphrase.push(' ');
        }
        // 2,048 divides 65,536, so that every word is equally likely.
        let pick = usize::from(pair[0]) << 8 | usize::from(pair[1]);
        passphrase.push_str(words[pick % words.len()]);
    }
    passphrase
}

/// A passphrase as it came from a file, from stdin or the environment: UTF-8, without a byte order mark and without the
/// line ends behind it, in NFC. Editors add both, and neither can be typed: with them the identity would silently be
/// another one.
pub fn passphrase_from_bytes(bytes: &[u8]) -> Result<Zeroizing<String>, PassphraseError> {
    let text = std::str::from_utf8(without_line_ends(text_file::without_mark(bytes)))
        .map_err(|_| PassphraseError::NotUtf8)?;
    normalized(text)
}

/// Reads a passphrase from the file at `path`, as [`passphrase_from_bytes`] does.
pub fn read_passphrase_file(path: &Path) -> Result<Zeroizing<String>, PassphraseError> {
    let bytes = secret_file::read_any(path, MAX_PASSPHRASE_FILE_BYTES)?;
    passphrase_from_bytes(&bytes)
}

/// The Ed25519 seed of a passphrase and a salt.
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

/// `text` in NFC, so that the keyboards that compose accents and those that do not agree.
fn normalized(text: &str) -> Result<Zeroizing<String>, PassphraseError> {
    if text.is_empty() {
        return Err(PassphraseError::Empty);
    }
    // NFC makes UTF-8 at most three times as long (Unicode Standard Annex 15), so that the text
    // is not left behind by a reallocation.
    let mut composed = Zeroizing::new(String::with_capacity(3 * text.len()));
    composed.extend(text.nfc());
    if composed.len() > MAX_PASSPHRASE_BYTES {
        return Err(PassphraseError::TooLong);
    }
    Ok(composed)
}
