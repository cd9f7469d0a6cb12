//! Networks that are played: people write records, and several sets receive them in any order.

mod bounds;
mod lines;
mod properties;
mod rights;
mod sealing;

use sha2::{Digest, Sha256};

use super::{Entry, FoundedId, InviteKey, KeyId, Kind, Members, Record, Redeem};
use crate::identity::{Identity, PublicKey};
use crate::model::BatchId;

/// Returns the identity of a numbered person.
pub(super) fn person(number: u8) -> Identity {
    Identity::from_seed(&[number; 32])
}

pub(super) fn invite_key(number: u8) -> InviteKey {
    InviteKey::from_seed(&[number; 16])
}

/// The network key that the founder begins with.
pub(super) const FIRST_KEY: [u8; 32] = [7; 32];

/// A network that person 0 has founded.
pub(super) struct Network {
    pub(super) id: FoundedId,
    pub(super) founded: Entry,
}

impl Network {
    pub(super) fn new(admins_invite: bool) -> Network {
        Network::with_recovery(admins_invite, None)
    }

    pub(super) fn with_recovery(admins_invite: bool, recovery: Option<&Identity>) -> Network {
        let founder = person(0);
        let record = Record {
            n: 1,
            by: None,
            after: Vec::new(),
            kind: Kind::Founded {
                founder: *founder.public_key(),
                random: [1; 16],
                admins_invite,
                recovery: recovery.map(|identity| *identity.public_key()),
                sealing_key: founder.sealing_public(),
            },
        };
        let id = FoundedId::of(&record.encode());
        let founded = signed(id, &founder, Vec::new(), 1000, record);
        Network { id, founded }
    }

    /// A set that holds the beginning.
    pub(super) fn members(&self) -> Members {
        let mut members = Members::new(self.id);
        members.insert(self.founded.clone());
        members
    }
}

/// The entry of a record, after it went through its encoding.
pub(super) fn signed(
    network: FoundedId,
    author: &Identity,
    prev: Vec<BatchId>,
    sent_at_ms: u64,
    record: Record,
) -> Entry {
    let data = record.encode();
    let mut hash = Sha256::new().chain_update(&data);
    hash.update(author.public_key().as_bytes());
    hash.update(sent_at_ms.to_be_bytes());
    prev.iter().for_each(|id| hash.update(id.0));
    let record = Record::decode(&data, network, author.public_key()).expect("a valid record");
    let is_founded = matches!(record.kind, Kind::Founded { .. });
    Entry {
        id: BatchId(hash.finalize().into()),
        author: *author.public_key(),
        prev,
        sent_at_ms,
        record,
        founds: is_founded.then(|| FoundedId::of(&data)),
    }
}

/// A record that `author` writes after everything of its own that `members` holds, by the right that it has there.
pub(super) fn write(
    members: &Members,
    author: &Identity,
    after: Vec<BatchId>,
    kind: Kind,
) -> Option<Entry> {
    let right = members.state().person(author.public_key())?.right;
    Some(write_by(members, author, right, after, kind))
}

pub(super) fn write_by(
    members: &Members,
    author: &Identity,
    right: BatchId,
    after: Vec<BatchId>,
    kind: Kind,
) -> Entry {
    let (prev, n) = members.heads(author.public_key());
    let record = Record {
        n,
        by: Some(right),
        after,
        kind,
    };
    signed(members.network(), author, prev, 1000, record)
}

pub(super) fn invite(number: u8, key_id: KeyId) -> Kind {
    Kind::Invite {
        key: *invite_key(number).public(),
        key_id,
        expires_ms: 2000,
        uses: 2,
        room: "lobby".to_owned(),
    }
}

pub(super) fn admission(
    network: FoundedId,
    invite: u8,
    admitter: &Identity,
    newcomer: &Identity,
) -> Kind {
    let redeem = Redeem::new(
        network,
        &invite_key(invite),
        admitter.public_key(),
        newcomer,
        "newcomer",
        1000,
    );
    Kind::Member {
        who: *newcomer.public_key(),
        redeem: redeem.expect("an allowed name"),
    }
}

pub(super) fn removal(who: &PublicKey, keep: Vec<BatchId>) -> Kind {
    Kind::Removed { who: *who, keep }
}

/// Inserts a record by `author`, a member, and returns its id.
pub(super) fn put(members: &mut Members, author: &Identity, kind: Kind) -> BatchId {
    let entry = write(members, author, Vec::new(), kind).expect("the author is a member");
    let id = entry.id;
    members.insert(entry);
    assert_eq!(
        members.state(),
        &members.state_anew(),
        "the state that grew is the state of the set"
    );
    id
}

/// Invites and admits person `newcomer` by `admitter`, with an invite of its own.
pub(super) fn admit(members: &mut Members, admitter: &Identity, newcomer: u8) -> BatchId {
    put(members, admitter, invite(newcomer, KeyId::of(&FIRST_KEY)));
    let kind = admission(members.network(), newcomer, admitter, &person(newcomer));
    put(members, admitter, kind)
}
