//! Members of a founded network: membership, roles, invites, removals and network keys.
//!
//! A founded network keeps signed statements ([`Record`]) in the room `@network`. [`Members`] holds those that this node
//! has, and computes the [`State`] from their set: equal sets give equal state, in any order of arrival and
//! with any clocks. There is no single order of events, since a mesh may split and heal; therefore
//! an ending wins over every right that does not name it, and lists the earlier records that still count.
//!
//! The rule it keeps: a right is a chain of records up to the founder, and a member gains nothing by ignoring a removal
//! that it has seen.
//!
//! Reading order: `id` and `record` (the statements), `encoding` (their bytes), `redeem` (an invite's two signatures), `state` (the
//! result), `evaluate` and `rights` (how it is computed), `index` and `set` (the records themselves), `invite` (an invite as a line of
//! text), `keys` (network keys sealed to members).

mod encoding;
mod evaluate;
mod id;
mod index;
mod invite;
mod keys;
mod record;
mod redeem;
mod rights;
mod set;
mod state;
#[cfg(test)]
mod tests;

pub use id::{EntryTag, FoundedId, KeyId, MAX_NAME, NameError, checked_name};
pub use invite::{InviteLine, LineError};
pub use keys::{SealError, open_key, seal_key};
pub use record::{Entry, Kind, RECORD_EVENT, Record, RecordError};
pub use redeem::{InviteKey, MAX_TIME_OFF_MS, Redeem, RedeemError, SEED_BYTES};
pub use set::{Inserted, Members};
pub use state::{Invite, Level, NetworkKeyState, Person, State};
