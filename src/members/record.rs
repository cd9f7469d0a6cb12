//! Records: the statements of which the state of a founded network is made, and their encoding.
//!
//! Entry types: [`Record`] and [`Entry`]. The rule it keeps: a record that was decoded has every field within its bounds,
//! every key is a valid Ed25519 key, and the signatures of a `member` record have been verified; a rule that needs other
//! records is the state's ([`super::Members`]).

use super::id::{EntryTag, FoundedId, KeyId, NameError};
use super::redeem::{Redeem, RedeemError};
use crate::identity::{PublicKey, PublicKeyError};
use crate::model::BatchId;
use crate::wire::strict::Malformed;

/// The name of the only event of a batch in the network room.
pub const RECORD_EVENT: &str = "record";

/// Maximum length of an encoded record in bytes; two kinds have more.
pub(super) const MAX_RECORD: usize = 1024;
/// Maximum length of an encoded `removed` record: it lists up to [`MAX_KEEP_REMOVED`] ids.
pub(super) const MAX_REMOVED_RECORD: usize = 16 << 10;
/// Maximum length of an encoded `network_key` record, which is that of an event's data.
pub(super) const MAX_KEY_RECORD: usize = 1 << 20;

/// Maximum number of endings in `after`: as many people as a network key is sealed to.
pub(super) const MAX_AFTER: usize = 8192;
/// Maximum number of ids in `keep`, except in `removed`. The length of a record allows for half as many.
pub(super) const MAX_KEEP: usize = 64;
/// Maximum number of ids in `keep` of a `removed` record: 4 for each of 64 rooms.
pub(super) const MAX_KEEP_REMOVED: usize = 256;
/// Maximum number of key records that one replaces.
pub(super) const MAX_OVER: usize = 64;
/// Maximum number of entries in a `network_key` record.
pub(super) const MAX_SEALED: usize = 8192;
/// Length of one member's entry in a `network_key` record in bytes.
pub(super) const SEALED_BYTES: usize = 56;

/// A record with the facts of the batch that carried it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The id of the batch, by which other records refer to this one.
    pub id: BatchId,
    /// The author of the batch.
    pub author: PublicKey,
    /// The author's own batches that this one follows.
    pub prev: Vec<BatchId>,
    /// The date of the batch, in milliseconds since 1970 by the author's clock.
    pub sent_at_ms: u64,
    /// The statement itself.
    pub record: Record,
    /// The network that this would found: the hash of the event's data. Only `founded` records have it.
    pub founds: Option<FoundedId>,
}

/// One statement about the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Position in the author's chain of records, from 1 on.
    pub n: u32,
    /// The record that gives the author the right. `None` only for `founded`.
    pub by: Option<BatchId>,
    /// The endings of rights that the author knew of.
    pub after: Vec<BatchId>,
    /// The statement.
    pub kind: Kind,
}

/// The statement of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The network begins.
    Founded {
        /// The first founder and author.
        founder: PublicKey,
        /// 16 bytes that make the network's id its own.
        random: [u8; 16],
        /// Whether only admins and the founder invite.
        admins_invite: bool,
        /// The key that may name another founder.
        recovery: Option<PublicKey>,
        /// The X25519 key of the founder.
        sealing_key: [u8; 32],
    },
    /// The recovery key names another founder.
    Founder {
        /// The new founder.
        who: PublicKey,
        /// The highest number counts.
        number: u64,
        /// Records of earlier founders that still count.
        keep: Vec<BatchId>,
    },
    /// The founder names an admin, or ends that.
    Role {
        /// The person.
        who: PublicKey,
        /// Whether the person is made an admin; otherwise the role ends.
        admin: bool,
        /// Records of the former admin that still count.
        keep: Vec<BatchId>,
    },
    /// Somebody was admitted by an invite.
    Member {
        /// The newcomer.
        who: PublicKey,
        /// The newcomer's request, with both signatures.
        redeem: Redeem,
    },
    /// An invite is made known.
    Invite {
        /// The public key that the invite's seed gives.
        key: PublicKey,
        /// The network key with which the invite ends.
        key_id: KeyId,
        /// The last date of a `member` record, in milliseconds since 1970.
        expires_ms: u64,
        /// Maximum number of newcomers.
        uses: u32,
        /// The room to begin in; may be empty.
        room: String,
    },
    /// An invite is withdrawn.
    Withdrawn {
        /// The invite's public key.
        invite: PublicKey,
        /// The `member` records that still count.
        keep: Vec<BatchId>,
    },
    /// Somebody is removed.
    Removed {
        /// The person.
        who: PublicKey,
        /// Batches of the person that still count.
        keep: Vec<BatchId>,
    },
    /// A new network key.
    NetworkKey {
        /// The id of the key.
        key_id: KeyId,
        /// The key records that it replaces.
        over: Vec<BatchId>,
        /// The X25519 key to which each entry is sealed together with the member's.
        ephemeral: [u8; 32],
        /// The sealed key for each member.
        entries: Vec<(EntryTag, [u8; 48])>,
    },
    /// The author's name.
    Profile {
        /// At most [`super::MAX_NAME`] bytes.
        name: String,
    },
}

/// Why the data of an event is not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The encoding.
    #[error("not a record: {0}")]
    Encoding(#[from] Malformed),
    /// Longer than records of its kind may be.
    #[error("the record has {0} bytes, at most {1} are allowed")]
    TooLong(usize, usize),
    /// Of no kind that is known here: made by a newer version. It counts for nothing.
    #[error("the record is of a kind that this version does not know")]
    UnknownKind,
    /// A field has a wrong length.
    #[error("the field {0} has a wrong length")]
    Length(&'static str),
    /// A list has more entries than allowed.
    #[error("the field {0} has too many entries")]
    TooMany(&'static str),
    /// A key that is none.
    #[error("the field {0} is no valid key: {1}")]
    Key(&'static str, PublicKeyError),
    /// A name that is too long or has characters that are not shown.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The number in the author's chain is 0, or that of an invite's uses.
    #[error("the field {0} is 0")]
    Zero(&'static str),
    /// A right is missing, or a `founded` record names one.
    #[error("`by` is missing, or there where it may not be")]
    By,
    /// The request of a `member` record.
    #[error("the redeemed invite does not hold: {0}")]
    Redeem(#[from] RedeemError),
}

impl Record {
    /// Returns the ids of the records that must be held before this one can be evaluated.
    pub fn needs(&self) -> impl Iterator<Item = BatchId> + '_ {
        let over = match &self.kind {
            Kind::NetworkKey { over, .. } => &over[..],
            _ => &[],
        };
        self.by
            .iter()
            .chain(self.after.iter())
            .chain(over.iter())
            .copied()
    }
}
