//! The vectors of unusual batches that are accepted.

use super::*;

fn accepted_case(comment: &str, network: NetworkId, envelope: &[u8], prev: usize) -> Value {
    json!({
        "comment": comment,
        "network_id": hex::encode(network.as_bytes()),
        "room": "lobby",
        "now_ms": NOW,
        "envelope": hex::encode(envelope),
        "prev_count": prev,
        "id": hex::encode(MessageId::of("lobby", envelope).unwrap().as_bytes()),
    })
}

pub(super) fn accepted() -> Vec<Value> {
    let last = |seq: u64, events: Vec<u8>| {
        Fields::with(|f| {
            f.first_seq = [vec![0x18], varint(seq)].concat();
            f.events = events;
        })
    };
    let dated = |at: u64| Fields::with(|f| f.sent_at = [vec![0x20], varint(at)].concat());
    let after = |more: &[u8]| Fields::with(|f| f.prev = more.to_vec());
    let in_event = |more: &[u8]| Fields::with(|f| f.events = event(&[&chat(), more].concat()));
    let prev = |n: u8| field(7, &[n; 32]);
    let mut cases = Vec::new();
    let mut add = |comment: &str, body: Vec<u8>, prev: usize| {
        cases.push(accepted_case(comment, NetworkId::OPEN, &sign(&body), prev));
    };
    add(
        "unknown fields of the wire types 0, 1, 2 and 5 are ignored, and signed",
        after(
            &[
                &b"\x7a\x05later\xc0\x0c\x07"[..],
                &[0x41],
                &[1; 8],
                &[0x45],
                &[1; 4],
            ]
            .concat(),
        ),
        0,
    );
    add(
        "the same in an event",
        in_event(
            &[
                &b"\x7a\x05later\xc0\x0c\x07"[..],
                &[0x41],
                &[1; 8],
                &[0x45],
                &[1; 4],
            ]
            .concat(),
        ),
        0,
    );
    add(
        "an unknown field that holds what would be a group is not looked into",
        after(&field(9, &[0x0b, 0x0c, 0xff])),
        0,
    );
    add(
        "the largest field number, 2^29 - 1",
        after(&[0xf8, 0xff, 0xff, 0xff, 0x0f, 0x01]),
        0,
    );
    add(
        "an unknown varint of 2^64 - 1",
        after(&[&[0x48][..], &[0xff; 9], &[0x01]].concat()),
        0,
    );
    add(
        "the fields of the body in another order",
        {
            let f = Fields::new();
            [
                f.events,
                f.room,
                f.sent_at,
                f.first_seq,
                f.instance,
                f.author,
            ]
            .concat()
        },
        0,
    );
    add(
        "scalar fields twice: the last counts",
        {
            let f = Fields::new();
            [
                &field(1, b""),
                &field(5, b"other"),
                &[0x18, 0x07][..],
                &f.body(),
            ]
            .concat()
        },
        0,
    );
    add(
        "an event's fields twice: the last counts",
        Fields::with(|f| f.events = event(&[chat(), chat()].concat())),
        0,
    );
    add(
        "an event whose name and data are present and empty",
        Fields::with(|f| f.events = event(&[0x0a, 0, 0x12, 0])),
        0,
    );
    add("sent_at_ms is present and zero", dated(0), 0);
    add("dated 5 minutes ahead", dated(NOW + MAX_AHEAD_MS), 0);
    add("dated long ago", dated(1), 0);
    add(
        "the largest last number",
        last(MAX_SEQ - 1, event(&[]).repeat(2)),
        0,
    );
    add(
        "an event's name of 256 bytes",
        Fields::with(|f| f.events = event(&field(1, &[b'n'; 256]))),
        0,
    );
    add(
        "1024 events",
        Fields::with(|f| f.events = event(&[]).repeat(1024)),
        0,
    );
    add(
        "four batches before it",
        after(&(1..=4).flat_map(prev).collect::<Vec<_>>()),
        4,
    );
    add(
        "one batch before it, named twice, counts once",
        after(&prev(1).repeat(2)),
        1,
    );
    add(
        "prev before the events",
        [prev(1), Fields::new().body()].concat(),
        1,
    );
    let body = Fields::new().body();
    cases.push(accepted_case(
        "in the private network it was signed for",
        network(),
        &sign_in(network(), &body),
        0,
    ));
    cases
}
