//! Signed batches to measure with.
//!
//! Entry function: [`signed`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::failure::Failure;
use crate::gossip::{Author, Event, VerifiedBatch};
use crate::identity::{Identity, NetworkId};
use crate::model::RoomName;

/// Returns `count` signed batches of one event of `size` bytes each, by one author, dated one millisecond apart up to
/// now.
pub(crate) fn signed(
    room: &RoomName,
    count: u64,
    size: usize,
) -> impl Iterator<Item = Result<VerifiedBatch, Failure>> {
    let author = Author::new(Identity::generate(), NetworkId::OPEN, rand::random());
    let mut prev = Vec::new();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since_1970.unwrap_or(Duration::ZERO).as_millis();
    let first = u64::try_from(now).unwrap_or(u64::MAX).saturating_sub(count);
    let room = room.clone();
    (0..count).map(move |n| {
        let mut data = vec![0xab; size];
        data[..8].copy_from_slice(&n.to_le_bytes());
        let events = vec![Event::new("bench", data)];
        let sealed = author.seal(&room, n + 1, first + n, &prev, events);
        let sealed = sealed.map_err(Failure::new)?;
        prev = vec![sealed.id()];
        Ok(VerifiedBatch::from(sealed))
    })
}
