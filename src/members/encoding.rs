//! How records are written as protocol buffers and read back.
//!
//! The rule it keeps: a field outside of its bounds is an error that names the field, and every list is bounded before it is
//! copied.

use libp2p::bytes::Bytes;
use prost::Message as _;

use super::id::{EntryTag, FoundedId, KeyId, MAX_NAME, checked_name};
use super::record::{
    Kind, MAX_AFTER, MAX_KEEP, MAX_KEEP_REMOVED, MAX_KEY_RECORD, MAX_OVER, MAX_RECORD,
    MAX_REMOVED_RECORD, MAX_SEALED, Record, RecordError, SEALED_BYTES,
};
use super::redeem::Redeem;
use crate::identity::PublicKey;
use crate::model::BatchId;
use crate::wire::proto::members as proto;
use crate::wire::{schemas, strict};

impl Record {
    /// Decodes the data of a record's event and verifies the signatures in it.
    ///
    /// `network` is the id of the network and `author` the author of the batch: both are signed in a `member` record.
    ///
    /// # Errors
    ///
    /// When the bytes are no record or a field is out of its bounds. Such a record counts for nothing.
    pub fn decode(
        data: &[u8],
        network: FoundedId,
        author: &PublicKey,
    ) -> Result<Record, RecordError> {
        if data.len() > MAX_KEY_RECORD {
            return Err(RecordError::TooLong(data.len(), MAX_KEY_RECORD));
        }
        strict::check(data, &schemas::members::RECORD)?;
        let record = proto::Record::decode(data).map_err(|_| RecordError::UnknownKind)?;
        let kind = record.kind.ok_or(RecordError::UnknownKind)?;
        let most = match &kind {
            proto::record::Kind::Removed(_) => MAX_REMOVED_RECORD,
            proto::record::Kind::NetworkKey(_) => MAX_KEY_RECORD,
            _ => MAX_RECORD,
        };
        if data.len() > most {
            return Err(RecordError::TooLong(data.len(), most));
        }
        if record.n == 0 {
            return Err(RecordError::Zero("n"));
        }
        let kind = Kind::decode(kind, network, author)?;
        let by = match (&record.by[..], &kind) {
            ([], Kind::Founded { .. }) => None,
            ([], _) | (_, Kind::Founded { .. }) => return Err(RecordError::By),
            (by, _) => Some(BatchId(fixed("by", by)?)),
        };
        Ok(Record {
            n: record.n,
            by,
            after: ids("after", &record.after, MAX_AFTER)?,
            kind,
        })
    }

    /// Encodes the record as the data of an event.
    pub fn encode(&self) -> Vec<u8> {
        proto::Record {
            n: self.n,
            by: self.by.map(bytes_of).unwrap_or_default(),
            after: self.after.iter().copied().map(bytes_of).collect(),
            kind: Some(self.kind.encode()),
        }
        .encode_to_vec()
    }
}

impl Kind {
    /// Reads the fields of a record of one kind and verifies the signatures in it.
    fn decode(
        kind: proto::record::Kind,
        network: FoundedId,
        author: &PublicKey,
    ) -> Result<Kind, RecordError> {
        use proto::record::Kind as Wire;
        Ok(match kind {
            Wire::Founded(wire) => Kind::Founded {
                founder: key("founder", &wire.founder)?,
                random: fixed("random", &wire.random)?,
                admins_invite: wire.admins_invite,
                recovery: match &wire.recovery[..] {
                    [] => None,
                    bytes => Some(key("recovery", bytes)?),
                },
                sealing_key: fixed("sealing_key", &wire.sealing_key)?,
            },
            Wire::Founder(wire) => Kind::Founder {
                who: key("who", &wire.who)?,
                number: wire.number,
                keep: ids("keep", &wire.keep, MAX_KEEP)?,
            },
            Wire::Role(wire) => Kind::Role {
                who: key("who", &wire.who)?,
                admin: wire.admin,
                keep: ids("keep", &wire.keep, MAX_KEEP)?,
            },
            Wire::Member(wire) => {
                let who = key("who", &wire.who)?;
                let redeem = Redeem::decode(&wire.redeem.unwrap_or_default())?;
                redeem.verify(network, author, &who)?;
                Kind::Member { who, redeem }
            }
            Wire::Invite(wire) => invite(wire)?,
            Wire::Withdrawn(wire) => Kind::Withdrawn {
                invite: key("invite", &wire.invite)?,
                keep: ids("keep", &wire.keep, MAX_KEEP)?,
            },
            Wire::Removed(wire) => Kind::Removed {
                who: key("who", &wire.who)?,
                keep: ids("keep", &wire.keep, MAX_KEEP_REMOVED)?,
            },
            Wire::NetworkKey(wire) => network_key(&wire)?,
            Wire::Profile(wire) => Kind::Profile {
                name: checked_name(wire.name)?,
            },
        })
    }

    /// Returns the fields as a protocol buffer.
    fn encode(&self) -> proto::record::Kind {
        use proto::record::Kind as Wire;
        match self {
            Kind::Founded { .. } => Wire::Founded(self.founded()),
            Kind::Founder { who, number, keep } => Wire::Founder(proto::Founder {
                who: key_bytes(who),
                number: *number,
                keep: list(keep),
            }),
            Kind::Role { who, admin, keep } => Wire::Role(proto::Role {
                who: key_bytes(who),
                admin: *admin,
                keep: list(keep),
            }),
            Kind::Member { who, redeem } => Wire::Member(proto::Member {
                who: key_bytes(who),
                redeem: Some(redeem.encode()),
            }),
            Kind::Invite {
                key,
                key_id,
                expires_ms,
                uses,
                room,
            } => Wire::Invite(proto::Invite {
                key: key_bytes(key),
                key_id: Bytes::copy_from_slice(&key_id.0),
                expires_ms: *expires_ms,
                uses: *uses,
                room: room.clone(),
            }),
            Kind::Withdrawn { invite, keep } => Wire::Withdrawn(proto::Withdrawn {
                invite: key_bytes(invite),
                keep: list(keep),
            }),
            Kind::Removed { who, keep } => Wire::Removed(proto::Removed {
                who: key_bytes(who),
                keep: list(keep),
            }),
            Kind::NetworkKey { .. } => Wire::NetworkKey(self.network_key()),
            Kind::Profile { name } => Wire::Profile(proto::Profile { name: name.clone() }),
        }
    }

    fn founded(&self) -> proto::Founded {
        match self {
            Kind::Founded {
                founder,
                random,
                admins_invite,
                recovery,
                sealing_key,
            } => proto::Founded {
                founder: key_bytes(founder),
                random: Bytes::copy_from_slice(random),
                admins_invite: *admins_invite,
                recovery: recovery.as_ref().map(key_bytes).unwrap_or_default(),
                sealing_key: Bytes::copy_from_slice(sealing_key),
            },
            _ => proto::Founded::default(),
        }
    }

    fn network_key(&self) -> proto::NetworkKey {
        match self {
            Kind::NetworkKey {
                key_id,
                over,
                ephemeral,
                entries,
            } => {
                let entries = entries.iter();
                let bytes = entries.flat_map(|(tag, sealed)| tag.0.iter().chain(sealed).copied());
                proto::NetworkKey {
                    key_id: Bytes::copy_from_slice(&key_id.0),
                    over: list(over),
                    ephemeral: Bytes::copy_from_slice(ephemeral),
                    entries: bytes.collect::<Vec<u8>>().into(),
                }
            }
            _ => proto::NetworkKey::default(),
        }
    }
}

fn key_bytes(key: &PublicKey) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

fn list(ids: &[BatchId]) -> Vec<Bytes> {
    ids.iter().copied().map(bytes_of).collect()
}

fn invite(wire: proto::Invite) -> Result<Kind, RecordError> {
    if wire.uses == 0 {
        return Err(RecordError::Zero("uses"));
    }
    if wire.room.len() > MAX_NAME {
        return Err(RecordError::Length("room"));
    }
    Ok(Kind::Invite {
        key: key("key", &wire.key)?,
        key_id: KeyId(fixed("key_id", &wire.key_id)?),
        expires_ms: wire.expires_ms,
        uses: wire.uses,
        room: wire.room,
    })
}

fn network_key(wire: &proto::NetworkKey) -> Result<Kind, RecordError> {
    let (entries, rest) = wire.entries.as_chunks::<SEALED_BYTES>();
    if !rest.is_empty() {
        return Err(RecordError::Length("entries"));
    }
    if entries.len() > MAX_SEALED {
        return Err(RecordError::TooMany("entries"));
    }
    let entries = entries.iter().map(|entry| {
        let (tag, sealed) = entry.split_at(8);
        (
            EntryTag(tag.try_into().expect("8 of 56 bytes")),
            sealed.try_into().expect("48 of 56 bytes"),
        )
    });
    Ok(Kind::NetworkKey {
        key_id: KeyId(fixed("key_id", &wire.key_id)?),
        over: ids("over", &wire.over, MAX_OVER)?,
        ephemeral: fixed("ephemeral", &wire.ephemeral)?,
        entries: entries.collect(),
    })
}

fn key(field: &'static str, bytes: &[u8]) -> Result<PublicKey, RecordError> {
    let bytes: [u8; 32] = fixed(field, bytes)?;
    PublicKey::from_bytes(&bytes).map_err(|error| RecordError::Key(field, error))
}

fn fixed<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], RecordError> {
    bytes.try_into().map_err(|_| RecordError::Length(field))
}

fn ids(field: &'static str, list: &[Bytes], most: usize) -> Result<Vec<BatchId>, RecordError> {
    if list.len() > most {
        return Err(RecordError::TooMany(field));
    }
    list.iter()
        .map(|id| Ok(BatchId(fixed(field, id)?)))
        .collect()
}

fn bytes_of(id: BatchId) -> Bytes {
    Bytes::copy_from_slice(&id.0)
}
