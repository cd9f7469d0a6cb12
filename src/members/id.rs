//! Ids that are derived from other data, and names of people.
//!
//! Entry types: [`FoundedId`], [`KeyId`]. The rule it keeps: each id is a hash under a label of its own.

use sha2::{Digest, Sha256};
use unicode_normalization::is_nfc;

use crate::identity::PublicKey;

/// Maximum length of a name in bytes.
pub const MAX_NAME: usize = 64;

const NETWORK_DOMAIN: &[u8] = b"diatribe/network/v2";
const KEY_ID_DOMAIN: &[u8] = b"diatribe/key-id/v1";
const KEY_ENTRY_DOMAIN: &[u8] = b"diatribe/key-entry/v1";

/// The id of a founded network: the SHA-256 of a label and the data of its `founded` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FoundedId(pub [u8; 32]);

impl FoundedId {
    /// Returns the id that follows from the data of a `founded` event.
    pub fn of(data: &[u8]) -> FoundedId {
        FoundedId(hash(NETWORK_DOMAIN, data))
    }
}

/// The first 8 bytes of the hash of a network key: names the key without giving it away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    /// Returns the id of a network key.
    pub fn of(key: &[u8; 32]) -> KeyId {
        KeyId(first_8(&hash(KEY_ID_DOMAIN, key)))
    }
}

/// Names a member in a `network_key` record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryTag(pub [u8; 8]);

impl EntryTag {
    /// Returns the tag of a member's entry.
    pub fn of(member: &PublicKey) -> EntryTag {
        EntryTag(first_8(&hash(KEY_ENTRY_DOMAIN, member.as_bytes())))
    }
}

/// A name is too long, or has characters that are not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name is longer than {MAX_NAME} bytes, not in NFC, or has invisible characters")]
pub struct NameError;

/// Checks a name that somebody would like to have.
///
/// # Errors
///
/// When it is longer than [`MAX_NAME`] bytes, not in Unicode's form NFC, or has control or invisible characters.
pub fn checked_name(name: String) -> Result<String, NameError> {
    let is_shown = |c: char| {
        !c.is_control()
            && !icu_properties::CodePointSetData::new::<
                icu_properties::props::DefaultIgnorableCodePoint,
            >()
            .contains(c)
    };
    match name.len() <= MAX_NAME && is_nfc(&name) && name.chars().all(is_shown) {
        true => Ok(name),
        false => Err(NameError),
    }
}

fn hash(domain: &[u8], data: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(domain)
        .chain_update(data)
        .finalize()
        .into()
}

fn first_8(hash: &[u8; 32]) -> [u8; 8] {
    *hash.first_chunk().expect("8 of 32 bytes")
}
