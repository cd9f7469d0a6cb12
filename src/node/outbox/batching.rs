//! Grouping of queued events into batches, and of batches into groups for the loop.
//!
//! Entry functions: [`by_room`], [`split`], [`next_publish_group`], pure. The rule they keep: the order of a room's events is
//! the order in which they were queued.

use std::collections::VecDeque;

use indexmap::IndexMap;

use super::queue::Outgoing;
use crate::gossip::{MAX_BATCH_BYTES, MAX_EVENTS};
use crate::model::RoomName;

/// Maximum number of batches that go to the loop in one group: under load it is not asked for each of them.
const MAX_PUBLISH_GROUP: usize = 8;

/// Groups events by room. Rooms and events keep the order in which they were queued.
pub(super) fn by_room(events: impl Iterator<Item = Outgoing>) -> IndexMap<RoomName, Vec<Outgoing>> {
    let mut rooms: IndexMap<RoomName, Vec<Outgoing>> = IndexMap::new();
    for event in events {
        rooms.entry(event.room.clone()).or_default().push(event);
    }
    rooms
}

/// Splits a room's events into batches of at most [`MAX_BATCH_BYTES`] and [`MAX_EVENTS`]. A larger event is a batch of its
/// own.
pub(super) fn split(events: Vec<Outgoing>) -> Vec<Vec<Outgoing>> {
    let mut batches: Vec<Vec<Outgoing>> = Vec::new();
    let mut room_left = 0;
    for event in events {
        let size = event.event.cost();
        let is_full = batches.last().is_none_or(|last| last.len() >= MAX_EVENTS);
        if size > room_left || is_full {
            batches.push(Vec::new());
            room_left = MAX_BATCH_BYTES;
        }
        room_left = room_left.saturating_sub(size);
        if let Some(batch) = batches.last_mut() {
            batch.push(event);
        }
    }
    batches
}

/// Takes the next batches for the loop, at least one. A large batch ends the group: it may be announced once it is stored,
/// and later batches wait for that.
pub(super) fn next_publish_group(batches: &mut VecDeque<Vec<Outgoing>>) -> Vec<Vec<Outgoing>> {
    let mut next = Vec::new();
    while next.len() < MAX_PUBLISH_GROUP
        && let Some(batch) = batches.pop_front()
    {
        let sizes = batch.iter().map(|outgoing| outgoing.event.len_in_batch());
        let is_large = sizes.sum::<usize>() > MAX_BATCH_BYTES;
        next.push(batch);
        if is_large {
            break;
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::sync::oneshot;

    use super::*;
    use crate::gossip;

    fn batch(bytes: usize) -> Vec<Outgoing> {
        let semaphore = Arc::new(tokio::sync::Semaphore::new(1));
        vec![Outgoing {
            room: "lobby".parse().unwrap(),
            event: gossip::Event {
                name: String::new(),
                data: Bytes::from(vec![0; bytes]),
            },
            reply: oneshot::channel().0,
            permit: semaphore.try_acquire_owned().unwrap(),
        }]
    }

    fn groups(sizes: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut batches: VecDeque<_> = sizes.into_iter().map(batch).collect();
        std::iter::from_fn(|| Some(next_publish_group(&mut batches).len()).filter(|n| *n > 0))
            .collect()
    }

    #[test]
    fn a_large_event_is_the_last_of_its_group_and_a_group_has_at_most_eight_small_ones() {
        assert_eq!(groups([gossip::MAX_EVENT_DATA; 3]), [1, 1, 1]);
        assert_eq!(groups([100, 100, 1 << 20, 100]), [3, 1]);
        assert_eq!(groups([100; 20]), [8, 8, 4]);
        assert_eq!(groups([]), [0; 0]);
    }
}
