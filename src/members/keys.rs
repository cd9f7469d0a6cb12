//! Network keys, sealed to each member in one record.
//!
//! Entries: [`seal_key`] and [`open_key`]. The rule it keeps: the sealed key is bound to the network, to the record's
//! ephemeral key and to the reader's, and an entry that opens to another key than the record names is an error of the
//! record's author.
//!
//! An entry's key is HKDF-SHA256 (RFC 5869) with the network id as salt, the X25519 (RFC 7748) of the ephemeral and the
//! reader's key as input, and "diatribe/network-key/v1", the ephemeral key and the reader's key as info. It is used once,
//! with ChaCha20-Poly1305 (RFC 8439), a nonce of zeros, and the key id as associated data.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey as SealingKey, StaticSecret};
use zeroize::Zeroizing;

use super::id::{EntryTag, FoundedId, KeyId};
use super::record::Kind;
use crate::identity::{Identity, PublicKey};
use crate::model::BatchId;

const INFO: &[u8] = b"diatribe/network-key/v1";

/// Why a network key was not taken out of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The record is no `network_key`.
    #[error("the record holds no network key")]
    NoKey,
    /// The record has no entry for this node.
    #[error("the record has no entry for this node: ask an admin for a new one")]
    NoEntry,
    /// The entry for this node cannot be opened.
    #[error(
        "the entry for this node cannot be opened: the admin who wrote the record has made a mistake"
    )]
    Broken,
    /// The entry opens to a key that the record does not name.
    #[error(
        "the entry for this node holds another key than the others': the admin who wrote the record cheats, or has made a mistake"
    )]
    OtherKey,
    /// A sealing key of somebody is of small order, so that anybody could open the entry.
    #[error("a member's sealing key is not safe to seal to")]
    WeakKey,
}

/// Seals `key` to each of `members`, given by their keys and sealing keys. `ephemeral` is 32 random bytes, used for nothing
/// else.
///
/// # Errors
///
/// [`SealError::WeakKey`] when a sealing key is of small order.
pub fn seal_key<'m>(
    network: FoundedId,
    key: &[u8; 32],
    over: Vec<BatchId>,
    ephemeral: &[u8; 32],
    members: impl IntoIterator<Item = (&'m PublicKey, &'m [u8; 32])>,
) -> Result<Kind, SealError> {
    let secret = StaticSecret::from(*ephemeral);
    let public = SealingKey::from(&secret).to_bytes();
    let key_id = KeyId::of(key);
    let mut entries = Vec::new();
    for (member, sealing) in members {
        let shared = secret.diffie_hellman(&SealingKey::from(*sealing));
        if !shared.was_contributory() {
            return Err(SealError::WeakKey);
        }
        let sealed = cipher(network, shared.as_bytes(), &public, sealing)
            .encrypt(&Nonce::default(), payload(key, &key_id))
            .ok()
            .and_then(|sealed| sealed.try_into().ok())
            .expect("32 bytes are sealed to 48");
        entries.push((EntryTag::of(member), sealed));
    }
    entries.sort();
    Ok(Kind::NetworkKey {
        key_id,
        over,
        ephemeral: public,
        entries,
    })
}

/// Takes the key for `identity` out of a `network_key` record.
///
/// # Errors
///
/// Says whether there is no entry for it, the entry is broken, or holds another key than the record names.
pub fn open_key(
    network: FoundedId,
    record: &Kind,
    identity: &Identity,
) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let Kind::NetworkKey {
        key_id,
        ephemeral,
        entries,
        ..
    } = record
    else {
        return Err(SealError::NoKey);
    };
    let tag = EntryTag::of(identity.public_key());
    let secret = StaticSecret::from(*identity.sealing_secret());
    let shared = secret.diffie_hellman(&SealingKey::from(*ephemeral));
    if !shared.was_contributory() {
        return Err(SealError::Broken);
    }
    let own = identity.sealing_public();
    let cipher = cipher(network, shared.as_bytes(), ephemeral, &own);
    let mut of_this_node = entries.iter().filter(|(other, _)| *other == tag).peekable();
    if of_this_node.peek().is_none() {
        return Err(SealError::NoEntry);
    }
    let opened = of_this_node.find_map(|(_, sealed)| {
        let opened = cipher.decrypt(&Nonce::default(), payload(sealed, key_id));
        opened.ok().map(Zeroizing::new)
    });
    let opened = opened.ok_or(SealError::Broken)?;
    let key = opened[..].try_into().map_err(|_| SealError::Broken)?;
    let key = Zeroizing::new(key);
    match KeyId::of(&key) == *key_id {
        true => Ok(key),
        false => Err(SealError::OtherKey),
    }
}

fn cipher(
    network: FoundedId,
    shared: &[u8; 32],
    ephemeral: &[u8; 32],
    reader: &[u8; 32],
) -> ChaCha20Poly1305 {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(&network.0), shared)
        .expand_multi_info(&[INFO, ephemeral, reader], key.as_mut_slice())
        .expect("32 bytes are within HKDF's limit");
    ChaCha20Poly1305::new((&*key).into())
}

fn payload<'a>(msg: &'a [u8], key_id: &'a KeyId) -> Payload<'a, 'a> {
    Payload {
        msg,
        aad: &key_id.0,
    }
}
