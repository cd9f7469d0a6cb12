//! The vectors of batches, from their inputs to their bytes.

use super::*;

struct Input {
    comment: &'static str,
    seed: [u8; 32],
    key: Option<[u8; 32]>,
    first_seq: u64,
    sent_at_ms: u64,
    room: &'static str,
    prev: Vec<BatchId>,
    events: Vec<Event>,
}

fn inputs() -> Vec<Input> {
    let one = |comment, events| Input {
        comment,
        seed: seed(),
        key: None,
        first_seq: 1,
        sent_at_ms: NOW,
        room: "lobby",
        prev: Vec::new(),
        events,
    };
    let hello = || vec![Event::new("chat", "hello")];
    let long: Vec<u8> = (0..=255).cycle().take(300).collect();
    vec![
        one("one event", hello()),
        Input {
            first_seq: 41,
            ..one(
                "several events, numbers from 41 on",
                vec![
                    Event::new("chat", "one"),
                    Event::new("chat", "two"),
                    Event::new("typing", ""),
                ],
            )
        },
        Input {
            first_seq: MAX_SEQ,
            sent_at_ms: 0,
            ..one(
                "an event without name and data: the shortest",
                vec![Event::new("", "")],
            )
        },
        Input {
            seed: [0xff; 32],
            room: "café 合言葉",
            ..one(
                "text outside ASCII, in the room's name and in the event's",
                vec![Event::new("наме", "über 🔔")],
            )
        },
        one(
            "a body whose length takes two bytes",
            vec![Event::new("chat", long)],
        ),
        Input {
            key: Some(NETWORK_KEY),
            ..one("one event, in a private network", hello())
        },
        Input {
            first_seq: 2,
            prev: vec![BatchId([0x11; 32])],
            ..one("a batch that follows another", hello())
        },
        Input {
            prev: (1..=4).map(|n| BatchId([n << 4 | n; 32])).collect(),
            ..one(
                "the first of an instance, that follows batches of four others",
                hello(),
            )
        },
    ]
}

pub(super) fn batches() -> Vec<Value> {
    inputs().into_iter().map(batch).collect()
}

fn batch(input: Input) -> Value {
    let identity = Identity::from_seed(&input.seed);
    let room = RoomName::new(input.room).unwrap();
    let key = input.key.map(|key| NetworkKey::from_bytes(&key));
    let network = NetworkId::of(key.as_ref());
    let author = Author::new(identity.clone(), network, INSTANCE);
    let sealed = author
        .seal(
            &room,
            input.first_seq,
            input.sent_at_ms,
            &input.prev,
            input.events.clone(),
        )
        .unwrap();
    let parts = envelope::split(sealed.bytes()).unwrap();
    let body = &sealed.bytes()[parts.body];
    let hex_of = |id: &BatchId| hex::encode(id.0);
    let mut case = json!({
        "comment": input.comment,
        "seed": hex::encode(input.seed),
        "network_id": hex::encode(network.as_bytes()),
        "author": hex::encode(identity.public_key_protobuf()),
        "instance_id": hex::encode(INSTANCE),
        "first_seq": input.first_seq,
        "sent_at_ms": input.sent_at_ms,
        "room": input.room,
        "topic": room.topic(),
        "prev": input.prev.iter().map(hex_of).collect::<Vec<_>>(),
        "events": input.events.iter().map(|event| json!({
            "name": event.name,
            "data": hex::encode(&event.data),
        })).collect::<Vec<_>>(),
        "body": hex::encode(body),
        "signed_text": hex::encode(text_of(network, body)),
        "signature": hex::encode(&sealed.bytes()[parts.signature]),
        "envelope": hex::encode(sealed.bytes()),
        "id": sealed.id().to_string(),
    });
    if let Some(key) = input.key {
        case["network_key"] = hex::encode(key).into();
    }
    case
}
