//! The key of a private network: 32 random bytes that all its nodes share.
//!
//! Entry type: [`NetworkKey`]. The rule it keeps: a key is exactly 32 bytes, in any of the usual file formats, and is never
//! printed.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::os_random;
use super::secret_file::{self, IfExists, SecretFileError};
use super::text_file::{self, without_line_ends};

const KEY_BYTES: usize = 32;
const HEX_DIGITS: usize = 2 * KEY_BYTES;

const NETWORK_ID_DOMAIN: &[u8] = b"diatribe/network/v1";

/// First line of libp2p's `swarm.key`. The second line names the encoding of the third.
const SWARM_KEY_HEADER: &[u8] = b"/key/swarm/psk/1.0.0/";

/// Maximum size of a key file in bytes: four times the longest format.
const MAX_FILE_BYTES: usize = 512;

/// Maximum number of different bytes in a weak key; a random key has about 30.
const MAX_WEAK_BYTES: usize = 16;
/// Minimum number of equal bytes in a row in a weak key.
const MIN_WEAK_RUN: usize = 6;
/// Maximum number of different steps from byte to byte in a weak key: 1 in 00 01 02 …; a random key has about 29.
const MAX_WEAK_STEPS: usize = 14;
/// Maximum number of different hex digits in a weak key, for example decimal digits only; a random key has 16.
const MAX_WEAK_DIGITS: usize = 10;

/// The shared secret of a private network.
///
/// # Examples
///
/// ```
/// use diatribe::NetworkKey;
///
/// let key = NetworkKey::generate();
/// let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
/// assert_eq!(NetworkKey::parse(hex.as_bytes())?.as_bytes(), key.as_bytes());
/// # Ok::<(), diatribe::identity::NetworkKeyError>(())
/// ```
#[derive(Clone)]
pub struct NetworkKey(Zeroizing<[u8; KEY_BYTES]>);

/// Error when a network key is read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkKeyError {
    /// The content has none of the formats of a key file.
    #[error(
        "not a network key ({reason}): expected are 32 random bytes, raw or as 64 hex digits, or \
         libp2p's swarm.key; `diatribe key network FILE` makes one"
    )]
    Malformed {
        /// The difference from the formats.
        reason: &'static str,
    },
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] SecretFileError),
}

impl NetworkKey {
    /// Returns a new random key.
    ///
    /// # Panics
    ///
    /// Panics when the operating system has no randomness.
    pub fn generate() -> NetworkKey {
        NetworkKey(os_random())
    }

    /// Returns the key of these 32 bytes.
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> NetworkKey {
        NetworkKey(Zeroizing::new(*bytes))
    }

    /// Parses the content of a key file: 32 raw bytes, 64 hex digits with or without a newline, or libp2p's `swarm.key`.
    /// Text may have a byte order mark before it and line ends behind it.
    ///
    /// # Errors
    ///
    /// Returns [`NetworkKeyError::Malformed`] when the content has another format, and when it is probably a mistake: all
    /// zeros, or 32 hex digits.
    pub fn parse(content: &[u8]) -> Result<NetworkKey, NetworkKeyError> {
        let text = text_file::without_mark(content);
        let key = match after_line(text, SWARM_KEY_HEADER) {
            Some(rest) => parse_swarm_key(rest)?,
            None if content.len() == KEY_BYTES => copy_key(content)?,
            None => parse_hex(text)?,
        };
        // Random bytes are practically never one of these; mistakes are.
        if key.iter().all(|byte| *byte == 0) {
            return Err(malformed("it is all zeros"));
        }
        if key.iter().all(u8::is_ascii_hexdigit) {
            return Err(malformed("it has 32 hex digits, which is half a key"));
        }
        Ok(NetworkKey(key))
    }

    /// Reads the key file at `path`.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be read or is too large, and the errors of [`NetworkKey::parse`].
    pub fn read(path: &Path) -> Result<NetworkKey, NetworkKeyError> {
        NetworkKey::parse(&secret_file::read_any(path, MAX_FILE_BYTES)?)
    }

    /// Writes the key to `path` as 64 hex digits and a newline, for this user alone.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be written, or exists and `if_exists` refuses that.
    pub fn write(&self, path: &Path, if_exists: IfExists) -> Result<(), NetworkKeyError> {
        let mut text = Zeroizing::new([b'\n'; HEX_DIGITS + 1]);
        hex::encode_to_slice(self.as_bytes(), &mut text[..HEX_DIGITS])
            .expect("two digits a byte fit");
        Ok(secret_file::write(path, text.as_slice(), if_exists)?)
    }

    /// Returns the pattern in a weak key, one that was probably typed or can be guessed; none for a random key. Fewer than
    /// one of 10^8 random keys is taken for weak.
    pub fn weakness(&self) -> Option<&'static str> {
        let key = &self.0[..];
        let has_control = |text: &str| text.chars().any(char::is_control);
        if std::str::from_utf8(key).is_ok_and(|text| !has_control(text)) {
            return Some("it is text");
        }
        let steps = key.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
        let digits = key.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let longest_run = key.chunk_by(|a, b| a == b).map(<[u8]>::len).max();
        if distinct(key.iter().copied()) <= MAX_WEAK_BYTES
            || longest_run.is_some_and(|run| run >= MIN_WEAK_RUN)
        {
            return Some("its bytes repeat");
        }
        if distinct(steps) <= MAX_WEAK_STEPS {
            return Some("its bytes follow each other");
        }
        match distinct(digits) <= MAX_WEAK_DIGITS {
            true => Some("it is made of a few hex digits only"),
            false => None,
        }
    }

    /// Returns the key as bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkKey(…)")
    }
}

/// The id of a network, derived from its key. Batches and logs are bound to it. It is equal for equal keys and reveals
/// nothing else of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetworkId([u8; 32]);

impl NetworkId {
    /// Id of the open network, which has no key.
    pub const OPEN: NetworkId = NetworkId([0; 32]);

    /// Returns the id of the network with this key; without a key, the open network.
    pub fn of(key: Option<&NetworkKey>) -> NetworkId {
        NetworkId(network_id(key))
    }

    /// Returns the network id of these bytes.
    pub fn from_bytes(id: [u8; 32]) -> NetworkId {
        NetworkId(id)
    }

    /// Returns the id as bytes, zeros for the open network.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for NetworkId {
    /// Writes a short name for people: the first digits of the id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            NetworkId::OPEN => f.write_str("the open network"),
            NetworkId(id) => write!(f, "the private network {}", hex::encode(&id[..4])),
        }
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkId({})", hex::encode(self.0))
    }
}

/// Returns the bytes of [`NetworkId::of`]; zeros for the open network.
pub fn network_id(key: Option<&NetworkKey>) -> [u8; 32] {
    key.map_or([0; 32], |key| {
        Sha256::new()
            .chain_update(NETWORK_ID_DOMAIN)
            .chain_update(key.as_bytes())
            .finalize()
            .into()
    })
}

fn parse_swarm_key(rest: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, NetworkKeyError> {
    if let Some(text) = after_line(rest, b"/base16/") {
        parse_hex(text)
    } else if let Some(text) = after_line(rest, b"/base64/") {
        let mut bytes = Zeroizing::new([0; KEY_BYTES + 1]);
        match STANDARD.decode_slice(without_line_ends(text), bytes.as_mut_slice()) {
            Ok(KEY_BYTES) => copy_key(&bytes[..KEY_BYTES]),
            _ => Err(malformed("its base64 is not that of 32 bytes")),
        }
    } else if let Some(bytes) = after_line(rest, b"/bin/") {
        copy_key(bytes)
    } else {
        Err(malformed("its second line names no known encoding"))
    }
}

fn parse_hex(text: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, NetworkKeyError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    match hex::decode_to_slice(without_line_ends(text), key.as_mut_slice()) {
        Ok(()) => Ok(key),
        Err(hex::FromHexError::InvalidHexCharacter { .. }) => {
            Err(malformed("it is neither 32 bytes nor hex digits"))
        }
        Err(_) => Err(malformed("it has another length")),
    }
}

fn distinct(values: impl Iterator<Item = u8>) -> usize {
    let mut seen = [false; 256];
    for value in values {
        seen[usize::from(value)] = true;
    }
    seen.iter().filter(|seen| **seen).count()
}

fn copy_key(bytes: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, NetworkKeyError> {
    let bytes: &[u8; KEY_BYTES] = bytes
        .try_into()
        .map_err(|_| malformed("it has another length"))?;
    Ok(Zeroizing::new(*bytes))
}

/// Returns the rest of `content` after the line `line`, if `content` begins with it.
fn after_line<'a>(content: &'a [u8], line: &[u8]) -> Option<&'a [u8]> {
    let rest = content.strip_prefix(line)?;
    rest.strip_prefix(b"\r\n")
        .or_else(|| rest.strip_prefix(b"\n"))
}

fn malformed(reason: &'static str) -> NetworkKeyError {
    NetworkKeyError::Malformed { reason }
}
