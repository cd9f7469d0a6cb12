//! The vectors of batches that are refused. Each case violates one rule of chapter 8 and no other.

use super::*;

pub(super) fn refused_case(comment: &str, error: &str, envelope: &[u8]) -> Value {
    json!({
        "comment": comment,
        "error": error,
        "network_id": hex::encode(NetworkId::OPEN.as_bytes()),
        "room": "lobby",
        "now_ms": NOW,
        "envelope": hex::encode(envelope),
    })
}

pub(super) fn refused() -> Vec<Value> {
    [spellings(), encodings(), limits(), signatures::signatures()].concat()
}

/// Returns cases that are not the canonical encoding of an envelope.
fn spellings() -> Vec<Value> {
    let body = Fields::new().body();
    let whole = sign(&body);
    let signature = whole[whole.len() - 64..].to_vec();
    let (first, second) = whole.split_at(whole.len() - 66);
    let respelt = |length: &[u8]| [&[BODY_TAG], length, &whole[2..]].concat();
    let len = body.len() as u8;
    let long = |zeros: usize| [&[len | 0x80][..], &vec![0x80; zeros], &[0x00]].concat();
    [
        ("nothing", vec![]),
        ("the body alone", first.to_vec()),
        (
            "an empty body",
            envelope_of(&[], &identity().sign(&text_of(NetworkId::OPEN, &[]))),
        ),
        ("no body", second.to_vec()),
        ("a byte after the signature", [&whole[..], &[0]].concat()),
        (
            "an unknown field after the signature",
            [&whole[..], &[0x1a, 0x01, 0x78]].concat(),
        ),
        (
            "an unknown field before the body",
            [&[0x1a, 0x01, 0x78], &whole[..]].concat(),
        ),
        ("signature before body", [second, first].concat()),
        ("the body twice", [first, first, second].concat()),
        ("the signature twice", [first, second, second].concat()),
        (
            "the body's length in two bytes where one does",
            respelt(&long(0)),
        ),
        (
            "the body's length in three bytes where one does",
            respelt(&long(1)),
        ),
        ("the body's length in ten bytes", respelt(&long(8))),
        ("the body's length in eleven bytes", respelt(&long(9))),
        (
            "the signature's length in two bytes",
            [first, &[0x12, 0xc0, 0x00], &signature].concat(),
        ),
        (
            "field 1's key in two bytes",
            [&[0x8a, 0x00], &whole[1..]].concat(),
        ),
        (
            "a signature of 63 bytes",
            [first, &[0x12, 0x3f], &signature[1..]].concat(),
        ),
        (
            "a signature of 65 bytes",
            [first, &[0x12, 0x41, 0x00], &signature].concat(),
        ),
        (
            "the last byte is missing",
            whole[..whole.len() - 1].to_vec(),
        ),
        (
            "a length beyond the end",
            respelt(&varint(u64::from(len) + 100)),
        ),
        (
            "a length of 2^32 + the right one",
            respelt(&varint((1 << 32) + u64::from(len))),
        ),
        ("a length of 2^64 - 1", respelt(&varint(u64::MAX))),
    ]
    .iter()
    .map(|(comment, data)| refused_case(comment, "NotAnEnvelope", data))
    .collect()
}

/// Returns bodies that violate the encoding, at the end of the body and at the end of an event.
fn encodings() -> Vec<Value> {
    let nested = |depth: usize| [vec![0x4b; depth], vec![0x4c; depth]].concat();
    let edges: Vec<(&str, Vec<u8>)> = vec![
        ("an unknown group", nested(1)),
        ("unknown groups, 100 deep", nested(100)),
        ("unknown groups, 101 deep", nested(101)),
        ("a group with a field in it", vec![0x4b, 0x08, 0x01, 0x4c]),
        ("a group in the place of a known field", vec![0x0b, 0x0c]),
        (
            "groups in the place of a known field, 100 deep",
            [vec![0x0b; 100], vec![0x0c; 100]].concat(),
        ),
        ("a group that does not end", vec![0x4b]),
        ("the end of a group that did not begin", vec![0x4c]),
        ("wire type 6", vec![0x4e, 0x00]),
        ("wire type 7", vec![0x4f, 0x00]),
        ("field number 0, a varint", vec![0x00, 0x01]),
        ("field number 0, bytes", vec![0x02, 0x00]),
        (
            "field number 2^29: a key of 33 bits",
            vec![0x80, 0x80, 0x80, 0x80, 0x10, 0x01],
        ),
        (
            "a key of 35 bits whose lower 32 are field 9",
            vec![0xc8, 0x80, 0x80, 0x80, 0x40, 0x01],
        ),
        ("a key in two bytes where one does", vec![0xc8, 0x00, 0x01]),
        ("a key that is cut short", vec![0xc8]),
        (
            "a value in two bytes where one does",
            vec![0x48, 0x81, 0x00],
        ),
        ("a value of zero in two bytes", vec![0x48, 0x80, 0x00]),
        (
            "a value in ten bytes where one does",
            [&[0x48, 0x81][..], &[0x80; 8], &[0x00]].concat(),
        ),
        (
            "a value in eleven bytes",
            [&[0x48, 0x81][..], &[0x80; 9], &[0x00]].concat(),
        ),
        (
            "a value of 2^64",
            [&[0x48][..], &[0x80; 9], &[0x02]].concat(),
        ),
        (
            "a value of eleven bytes that do not end",
            [&[0x48][..], &[0xff; 11]].concat(),
        ),
        ("a value that is cut short", vec![0x48, 0x80]),
        (
            "a length in two bytes where one does",
            vec![0x4a, 0x81, 0x00, 0x78],
        ),
        ("a length one past the end", vec![0x4a, 0x02, 0x78]),
        ("a length of 2^31", vec![0x4a, 0x80, 0x80, 0x80, 0x80, 0x08]),
        (
            "a length of 2^64 - 1",
            [&[0x4a][..], &[0xff; 9], &[0x01]].concat(),
        ),
        ("a length that is cut short", vec![0x4a]),
        (
            "eight bytes of which seven are there",
            [&[0x49][..], &[0; 7]].concat(),
        ),
        (
            "four bytes of which three are there",
            [&[0x4d][..], &[0; 3]].concat(),
        ),
    ];
    let mut cases = Vec::new();
    for (comment, edge) in edges {
        let body = [Fields::new().body(), edge.clone()].concat();
        cases.push(refused_case(comment, "NotABatch", &sign(&body)));
        let body = Fields::with(|f| f.events = event(&[chat(), edge].concat()));
        cases.push(refused_case(
            &format!("{comment}, in an event"),
            "NotABatch",
            &sign(&body),
        ));
    }
    // In the second of two events, too.
    let mut add =
        |comment: &str, body: Vec<u8>| cases.push(refused_case(comment, "NotABatch", &sign(&body)));
    add("the body is no protobuf", vec![0xff; 3]);
    add("an event cut short", {
        let body = Fields::new().body();
        body[..body.len() - 1].to_vec()
    });
    add(
        "a second event with an unknown group",
        Fields::with(|f| {
            f.events = [event(&chat()), event(&[0x4b, 0x4c])].concat();
        }),
    );
    add(
        "a second event whose name is not UTF-8",
        Fields::with(|f| {
            f.events = [event(&chat()), event(&field(1, &[0xff]))].concat();
        }),
    );
    add(
        "the room is not UTF-8",
        Fields::with(|f| f.room = field(5, &[0xff, 0xfe])),
    );
    add(
        "the name of an event is not UTF-8",
        Fields::with(|f| f.events = event(&field(1, &[0xc3, 0x28]))),
    );
    add(
        "the name of an event has a surrogate",
        Fields::with(|f| f.events = event(&field(1, &[0xed, 0xa0, 0x80]))),
    );
    add(
        "the name of an event has an overlong form",
        Fields::with(|f| f.events = event(&field(1, &[0xc0, 0x80]))),
    );
    add(
        "author as a varint",
        Fields::with(|f| f.author = vec![0x08, 0x01]),
    );
    add(
        "first_seq as bytes",
        Fields::with(|f| f.first_seq = field(3, &[1])),
    );
    add(
        "sent_at_ms as eight bytes",
        Fields::with(|f| f.sent_at = [&[0x21][..], &NOW.to_le_bytes()].concat()),
    );
    add(
        "room as four bytes",
        Fields::with(|f| f.room = vec![0x2d, 1, 2, 3, 4]),
    );
    add(
        "an event as a varint",
        Fields::with(|f| f.events.extend([0x30, 0x01])),
    );
    add(
        "prev as a varint",
        Fields::with(|f| f.prev = vec![0x38, 0x01]),
    );
    add(
        "an event's name as a varint",
        Fields::with(|f| f.events = event(&[0x08, 0x01])),
    );
    add(
        "an event's data as eight bytes",
        Fields::with(|f| f.events = event(&[&[0x11][..], &[0; 8]].concat())),
    );
    cases
}

/// Returns well encoded bodies that violate a limit or a rule of their fields.
fn limits() -> Vec<Value> {
    let mut cases = Vec::new();
    let mut add = |comment: &str, error: &str, body: Vec<u8>| {
        cases.push(refused_case(comment, error, &sign(&body)));
    };
    let numbered = |first: u64, events: usize| {
        Fields::with(|f| {
            f.first_seq = match first {
                0 => Vec::new(),
                first => [vec![0x18], varint(first)].concat(),
            };
            f.events = event(&chat()).repeat(events);
        })
    };
    let prev = |len: usize| field(7, &vec![0x11; len]);
    add("no event", "NoEvents", Fields::with(|f| f.events.clear()));
    add(
        "an empty batch but for the room",
        "NoEvents",
        field(5, b"lobby"),
    );
    add(
        "1025 events",
        "TooManyEvents",
        Fields::with(|f| f.events = event(&[]).repeat(1025)),
    );
    add(
        "an event's name of 257 bytes",
        "NameTooLong",
        Fields::with(|f| f.events = event(&field(1, &[b'n'; 257]))),
    );
    add(
        "an id before it of 31 bytes",
        "PrevLength",
        Fields::with(|f| f.prev = prev(31)),
    );
    add(
        "an id before it of 33 bytes",
        "PrevLength",
        Fields::with(|f| f.prev = prev(33)),
    );
    add(
        "an id before it that is present and empty",
        "PrevLength",
        Fields::with(|f| f.prev = prev(0)),
    );
    add(
        "a second id before it of 31 bytes",
        "PrevLength",
        Fields::with(|f| f.prev = [prev(32), prev(31)].concat()),
    );
    add(
        "five batches before it",
        "TooManyPrev",
        Fields::with(|f| {
            f.prev = (1..=5).flat_map(|n| field(7, &[n; 32])).collect();
        }),
    );
    add(
        "one batch before it, named five times",
        "TooManyPrev",
        Fields::with(|f| f.prev = prev(32).repeat(5)),
    );
    add(
        "another room",
        "OtherRoom",
        Fields::with(|f| f.room = field(5, b"other")),
    );
    add("no room", "OtherRoom", Fields::with(|f| f.room.clear()));
    add(
        "a room that is present and empty",
        "OtherRoom",
        Fields::with(|f| f.room = field(5, b"")),
    );
    add(
        "the room twice, the last is another",
        "OtherRoom",
        Fields::with(|f| f.room.extend(field(5, b"other"))),
    );
    add(
        "another room, and two events",
        "OtherRoom",
        Fields::with(|f| {
            f.room = field(5, b"other");
            f.events = event(&chat()).repeat(2);
        }),
    );
    add(
        "an instance id of 15 bytes",
        "InstanceId",
        Fields::with(|f| f.instance = field(2, &INSTANCE[1..])),
    );
    add(
        "an instance id of 17 bytes",
        "InstanceId",
        Fields::with(|f| f.instance = field(2, &[1; 17])),
    );
    add(
        "no instance id",
        "InstanceId",
        Fields::with(|f| f.instance.clear()),
    );
    add(
        "an instance id that is present and empty",
        "InstanceId",
        Fields::with(|f| f.instance = field(2, b"")),
    );
    add("numbers from 0", "Numbering", numbered(0, 1));
    add(
        "numbers from 0, which is present",
        "Numbering",
        Fields::with(|f| f.first_seq = vec![0x18, 0x00]),
    );
    add("a last number of 2^53", "Numbering", numbered(1 << 53, 1));
    add(
        "a last number of 2^53, of two events",
        "Numbering",
        numbered(MAX_SEQ, 2),
    );
    add(
        "numbers that overflow 64 bits",
        "Numbering",
        numbered(u64::MAX, 2),
    );
    add(
        "dated 5 minutes and 1 ms ahead",
        "Ahead",
        Fields::with(|f| {
            f.sent_at = [vec![0x20], varint(NOW + MAX_AHEAD_MS + 1)].concat();
        }),
    );
    add("no author", "Author", Fields::with(|f| f.author.clear()));
    add(
        "an author that is present and empty",
        "Author",
        Fields::with(|f| f.author = field(1, b"")),
    );
    let key = identity().public_key_protobuf();
    add(
        "a Secp256k1 key type",
        "Author",
        Fields::with(|f| f.author = field(1, &[&[0x08, 0x02], &key[2..]].concat())),
    );
    add(
        "the 32 bytes of the key without libp2p's encoding",
        "Author",
        Fields::with(|f| f.author = field(1, &key[4..])),
    );
    cases
}
