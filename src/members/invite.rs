//! An invite as one line of text, with everything that a newcomer needs to find the network and join.
//!
//! Entry type: [`InviteLine`]. The rule it keeps: a line that was cut, mistyped, made by another version or is no invite at
//! all is named as such before anything is dialled. The line is a bearer secret: anybody who has it can join.
//!
//! Layout of the bytes, which the line writes in base32 (RFC 4648, lower case, without padding) after `diatribe:`:
//! version 1, network id (32), seed (16), key id (8), expiry in seconds since 1970 (varint), number of entries (1), for each
//! its key (32) and the length (varint) and bytes of a multiaddr, the length (varint) and UTF-8 of the room's name, and a
//! checksum: the first 4 bytes of the SHA-256 of "diatribe/invite-line/v1" and all bytes before it.

use std::fmt;

use data_encoding::BASE32_NOPAD_NOCASE;
use libp2p::Multiaddr;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::id::{FoundedId, KeyId, MAX_NAME};
use super::redeem::SEED_BYTES;
use crate::identity::PublicKey;
use crate::wire::strict;

/// The prefix of every line.
const SCHEME: &str = "diatribe:";
const VERSION: u8 = 1;
const CHECKSUM_DOMAIN: &[u8] = b"diatribe/invite-line/v1";
const CHECKSUM_BYTES: usize = 4;

/// Maximum number of members with an address in a line.
pub(super) const MAX_ENTRIES: usize = 4;
/// Maximum length of a multiaddr in a line in bytes: a domain name of 253 bytes and the protocols around it.
const MAX_ADDRESS: usize = 320;
/// Maximum number of characters that are read: several times the longest line.
const MAX_LINE: usize = 8192;

/// An invite, as a person passes it on.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteLine {
    /// The network that it is for.
    pub network: FoundedId,
    /// The secret from which the invite's key follows.
    pub seed: [u8; SEED_BYTES],
    /// The network key in force when it was made. The invite ends with that key.
    pub key_id: KeyId,
    /// When it expires, in seconds since 1970.
    pub expires: u64,
    /// Members and where they can be dialled, at most 4.
    pub entries: Vec<(PublicKey, Multiaddr)>,
    /// The room to begin in; may be empty.
    pub room: String,
}

/// Why a text is not an invite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// It does not begin as invites do.
    #[error("this is no invite: an invite begins with `diatribe:`")]
    NoInvite,
    /// A character that base32 does not have.
    #[error("the invite has the character {0:?}, which no invite has: copy it again")]
    Character(char),
    /// It ends too early.
    #[error("the invite is cut off: copy all of it, it is one line")]
    Cut,
    /// It does not match its checksum, or a part of it is malformed.
    #[error("the invite has a typing mistake: copy it again")]
    Mistyped,
    /// Made by a newer version of the program.
    #[error(
        "the invite is of version {0}, and this program knows version {VERSION}: update the program"
    )]
    Version(u8),
    /// A list or text in it is longer than allowed.
    #[error("the invite has too many addresses, or an address or room name that is too long")]
    TooLong,
}

impl InviteLine {
    /// Writes the invite as one line.
    ///
    /// # Errors
    ///
    /// [`LineError::TooLong`] when there are more than 4 entries, or an address or the room's name is too long.
    pub fn to_line(&self) -> Result<Zeroizing<String>, LineError> {
        let addresses: Vec<Vec<u8>> = self.entries.iter().map(|(_, at)| at.to_vec()).collect();
        if addresses.len() > MAX_ENTRIES
            || addresses.iter().any(|address| address.len() > MAX_ADDRESS)
            || self.room.len() > MAX_NAME
        {
            return Err(LineError::TooLong);
        }
        let mut bytes = Zeroizing::new(vec![VERSION]);
        bytes.extend_from_slice(&self.network.0);
        bytes.extend_from_slice(&self.seed);
        bytes.extend_from_slice(&self.key_id.0);
        prost::encoding::encode_varint(self.expires, &mut *bytes);
        bytes.push(addresses.len() as u8);
        for ((key, _), address) in self.entries.iter().zip(&addresses) {
            bytes.extend_from_slice(key.as_bytes());
            prost::encoding::encode_varint(address.len() as u64, &mut *bytes);
            bytes.extend_from_slice(address);
        }
        prost::encoding::encode_varint(self.room.len() as u64, &mut *bytes);
        bytes.extend_from_slice(self.room.as_bytes());
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        let mut text = BASE32_NOPAD_NOCASE.encode(&bytes);
        text.make_ascii_lowercase();
        let line = Zeroizing::new(format!("{SCHEME}{text}"));
        text.zeroize();
        Ok(line)
    }

    /// Reads a line. Case does not matter, nor do white space around it and line breaks in it.
    ///
    /// # Errors
    ///
    /// Says whether the text is no invite, was cut, was mistyped, or was made by another version.
    pub fn parse(text: &str) -> Result<InviteLine, LineError> {
        if text.len() > MAX_LINE {
            return Err(LineError::NoInvite);
        }
        let mut text: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).collect());
        text.make_ascii_lowercase();
        let text = text.strip_prefix(SCHEME).ok_or(LineError::NoInvite)?;
        let is_base32 = |c: &char| matches!(c, 'a'..='z' | '2'..='7');
        if let Some(other) = text.chars().find(|c| !is_base32(c)) {
            return Err(LineError::Character(other));
        }
        // A cut leaves a number of characters that no whole number of bytes has, or bits that are not zero.
        let whole = text.len() - text.len() % 8;
        let bytes = BASE32_NOPAD_NOCASE
            .decode(text.as_bytes())
            .or_else(|_| BASE32_NOPAD_NOCASE.decode(&text.as_bytes()[..whole]))
            .map_err(|_| LineError::Mistyped)?;
        InviteLine::from_bytes(&Zeroizing::new(bytes))
    }

    fn from_bytes(bytes: &[u8]) -> Result<InviteLine, LineError> {
        let mut rest = bytes;
        match take::<1>(&mut rest)? {
            [VERSION] => {}
            [version] => return Err(LineError::Version(version)),
        }
        let network = FoundedId(take(&mut rest)?);
        let seed = take(&mut rest)?;
        let key_id = KeyId(take(&mut rest)?);
        let expires = varint(&mut rest)?;
        let [count] = take::<1>(&mut rest)?;
        if usize::from(count) > MAX_ENTRIES {
            return Err(LineError::Mistyped);
        }
        let mut entries = Vec::with_capacity(count.into());
        for _ in 0..count {
            let key: [u8; 32] = take(&mut rest)?;
            let address = take_long(&mut rest, MAX_ADDRESS)?;
            entries.push((key, address));
        }
        let room = take_long(&mut rest, MAX_NAME)?;
        let checked = &bytes[..bytes.len() - rest.len()];
        let found: [u8; CHECKSUM_BYTES] = take(&mut rest)?;
        if !rest.is_empty() || found != checksum(checked) {
            return Err(LineError::Mistyped);
        }
        let entry = |(key, address): ([u8; 32], &[u8])| {
            let key = PublicKey::from_bytes(&key).map_err(|_| LineError::Mistyped)?;
            let address = Multiaddr::try_from(address.to_vec());
            Ok((key, address.map_err(|_| LineError::Mistyped)?))
        };
        Ok(InviteLine {
            network,
            seed,
            key_id,
            expires,
            entries: entries.into_iter().map(entry).collect::<Result<_, _>>()?,
            room: str::from_utf8(room)
                .map_err(|_| LineError::Mistyped)?
                .to_owned(),
        })
    }
}

impl fmt::Debug for InviteLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InviteLine")
            .field("network", &self.network)
            .field("entries", &self.entries)
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = Sha256::new()
        .chain_update(CHECKSUM_DOMAIN)
        .chain_update(bytes)
        .finalize();
    *hash.first_chunk().expect("4 of 32 bytes")
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], LineError> {
    let (taken, after) = rest.split_first_chunk::<N>().ok_or(LineError::Cut)?;
    *rest = after;
    Ok(*taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, LineError> {
    match strict::varint(rest) {
        Ok(value) => Ok(value),
        Err(strict::Malformed::CutVarint) => Err(LineError::Cut),
        Err(_) => Err(LineError::Mistyped),
    }
}

fn take_long<'a>(rest: &mut &'a [u8], most: usize) -> Result<&'a [u8], LineError> {
    let length = varint(rest)?;
    let length = usize::try_from(length).map_err(|_| LineError::Mistyped)?;
    if length > most {
        return Err(LineError::Mistyped);
    }
    let (taken, after) = rest.split_at_checked(length).ok_or(LineError::Cut)?;
    *rest = after;
    Ok(taken)
}
