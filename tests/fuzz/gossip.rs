//! Fuzz targets for batches from gossip, data checking and `log import`.

use bytes::Bytes;
use diatribe::gossip::{self, MAX_EVENT_DATA, MAX_EVENT_NAME, MAX_EVENTS, MAX_MESSAGE};
use diatribe::identity::NetworkId;
use diatribe::model;
use diatribe::{NetworkKey, RoomName};

use crate::case::{QUICK, fuzz};
use crate::seeds;

#[test]
fn a_batch_is_within_its_limits_or_refused() {
    let room: RoomName = "lobby".parse().expect("a room");
    let now_ms = 1_900_000_000_000;
    fuzz!("batches", QUICK, seeds::of("batch"), |case, seeds| {
        let bytes = Bytes::from(case.bytes(seeds));
        let of = gossip::room_of(&bytes);
        for room in of.iter().chain([&room]) {
            if let Ok(batch) = gossip::open(bytes.clone(), NetworkId::OPEN, room, now_ms) {
                assert!(batch.bytes().len() <= MAX_MESSAGE);
                assert!((1..=MAX_EVENTS).contains(&batch.events().len()));
                for event in batch.events() {
                    assert!(event.data.len() <= MAX_EVENT_DATA);
                    assert!(event.name.len() <= MAX_EVENT_NAME);
                }
                assert_eq!(batch.room(), room);
            }
        }
        if let Ok(text) = std::str::from_utf8(&bytes) {
            if let Ok(room) = text.parse::<RoomName>() {
                assert!(room.as_str().len() <= model::MAX_ROOM_NAME_BYTES);
                assert_eq!(RoomName::from_topic(&room.topic()), Some(room));
            }
            let _ = RoomName::from_topic(text);
        }
        let _ = NetworkKey::parse(&bytes);
    });
}
