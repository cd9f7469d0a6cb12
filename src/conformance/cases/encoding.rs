//! Batches at the edges of the encoding: valid ones that every peer accepts, and malformed ones that none forwards.
//!
//! Entry: [`CASES`]. The rule it keeps: each edge is tried in the places that decoders check least, at the end of the
//! body and in the last of several events, in a batch that is otherwise valid and signed.

use futures::FutureExt;
use prost::Message as _;

use super::forwarding::forwarded;
use crate::conformance::batch_builder::{batch, seal, sign_as};
use crate::conformance::case::{Case, Kind, Procedure};
use crate::conformance::frame::framed;
use crate::conformance::link::Link;
use crate::identity::{NetworkId, NetworkKey};
use crate::wire::proto::gossip as proto;

const REFUSED: &str = "not forwarded, and the link is closed";
const FORWARDED: &str = "forwarded to another link; this link stays";

type Made = Result<Vec<u8>, String>;

const fn bad(name: &'static str, spec: &'static str, make: fn(&mut Link) -> Made) -> Case {
    Case::new(Kind::Hostile, name, spec, REFUSED, Procedure::Offence(make))
}

const fn edge(name: &'static str, make: fn(&mut Link) -> Made) -> Case {
    bad(name, "4 Encoding", make)
}

/// Returns an honest batch of two events with more bytes at the end of its body.
fn body_and(link: &Link, more: &[u8]) -> Made {
    Ok(seal(link, &[&two(link).encode_to_vec(), more].concat()))
}

/// Returns an honest batch of two events and a third event of these bytes.
fn event_of(link: &Link, event: &[u8]) -> Made {
    body_and(link, &[&[0x32][..], &framed(event)].concat())
}

/// Returns an honest batch of two events and a third event that has a name and these bytes after it.
fn event_and(link: &Link, more: &[u8]) -> Made {
    event_of(link, &[&[0x0a, 0x01, b'n'][..], more].concat())
}

fn two(link: &Link) -> proto::Batch {
    let events = vec![("chat", b"first".to_vec()), ("chat", b"second".to_vec())];
    batch(link, 0, events)
}

/// Returns a batch of several events whose fields are changed before it is signed.
fn changed(link: &Link, change: impl FnOnce(&mut proto::Batch)) -> Made {
    let mut batch = two(link);
    change(&mut batch);
    Ok(seal(link, &batch.encode_to_vec()))
}

fn ids(lengths: &[usize]) -> Vec<bytes::Bytes> {
    let id = |(n, len): (usize, &usize)| vec![n as u8 + 1; *len].into();
    lengths.iter().enumerate().map(id).collect()
}

/// A case whose batch must be forwarded.
macro_rules! good {
    ($name:literal, $spec:literal, $make:expr) => {
        Case::new(
            Kind::Good,
            $name,
            $spec,
            FORWARDED,
            Procedure::OnLink(|ctx, link| {
                async move {
                    let make: fn(&Link) -> Made = $make;
                    let data = make(&link)?;
                    forwarded(ctx, link, vec![data]).await
                }
                .boxed()
            }),
        )
    };
}

/// Unknown fields of all four wire types, with the largest field number and the largest value.
const UNKNOWN: &[u8] = &[
    0x48, 0x07, // field 9, varint
    0x51, 1, 2, 3, 4, 5, 6, 7, 8, // field 10, eight bytes
    0x5a, 0x03, 0x0b, 0x0c, 0xff, // field 11, bytes without further structure
    0x65, 1, 2, 3, 4, // field 12, four bytes
    0xf8, 0xff, 0xff, 0xff, 0x0f, 0x01, // field 2^29 - 1
    0x68, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, // 2^64 - 1
];

pub(super) const CASES: &[Case] = &[
    good!("unknown-fields-of-every-type", "4 Encoding", |link| {
        body_and(link, UNKNOWN)
    }),
    good!(
        "unknown-fields-of-every-type-in-an-event",
        "4 Encoding",
        |link| { event_and(link, UNKNOWN) }
    ),
    good!("zero-values-that-are-present", "4 Encoding", |link| {
        let mut batch = batch(link, 0, vec![("chat", b"long ago".to_vec())]);
        batch.sent_at_ms = 0;
        // sent_at_ms = 0, and an event with an empty name and empty data, all explicitly encoded.
        let more = [0x20, 0x00, 0x32, 0x04, 0x0a, 0x00, 0x12, 0x00];
        Ok(seal(link, &[&batch.encode_to_vec()[..], &more].concat()))
    }),
    good!(
        "events-whose-fields-are-there-twice",
        "4 Encoding",
        |link| {
            event_of(
                link,
                &[
                    0x12, 0x01, b'a', 0x0a, 0x01, b'x', 0x0a, 0x01, b'y', 0x12, 0x01, b'b',
                ],
            )
        }
    ),
    good!(
        "follows-four-that-nobody-has",
        "8 What a batch follows",
        |link| { changed(link, |batch| batch.prev = ids(&[32; 4])) }
    ),
    good!(
        "follows-one-that-is-named-twice",
        "8 What a batch follows",
        |link| { changed(link, |batch| batch.prev = vec![vec![7; 32].into(); 2]) }
    ),
    edge("unknown-group", |link| body_and(link, &[0x4b, 0x4c])),
    edge("unknown-group-in-an-event", |link| {
        event_and(link, &[0x4b, 0x4c])
    }),
    edge("unknown-groups-100-deep-in-an-event", |link| {
        event_and(link, &[vec![0x4b; 100], vec![0x4c; 100]].concat())
    }),
    edge("unknown-groups-101-deep", |link| {
        body_and(link, &[vec![0x4b; 101], vec![0x4c; 101]].concat())
    }),
    edge("group-for-a-known-field", |link| {
        body_and(link, &[0x0b, 0x0c])
    }),
    edge("group-for-a-known-field-of-an-event", |link| {
        event_and(link, &[0x13, 0x14])
    }),
    edge("end-of-no-group", |link| event_and(link, &[0x4c])),
    edge("wire-type-6", |link| body_and(link, &[0x4e, 0x00])),
    edge("wire-type-7-in-an-event", |link| {
        event_and(link, &[0x4f, 0x00])
    }),
    edge("field-0", |link| body_and(link, &[0x00, 0x01])),
    edge("field-0-in-an-event", |link| event_and(link, &[0x02, 0x00])),
    edge("field-2-to-the-29", |link| {
        body_and(link, &[0x80, 0x80, 0x80, 0x80, 0x10, 0x01])
    }),
    edge("field-2-to-the-29-in-an-event", |link| {
        event_and(link, &[0x80, 0x80, 0x80, 0x80, 0x10, 0x01])
    }),
    // Truncated to 32 bits it is field 9.
    edge("key-of-more-than-32-bits", |link| {
        body_and(link, &[0xc8, 0x80, 0x80, 0x80, 0x40, 0x01])
    }),
    edge("key-of-more-than-32-bits-in-an-event", |link| {
        event_and(link, &[0xc8, 0x80, 0x80, 0x80, 0x40, 0x01])
    }),
    edge("longer-key", |link| event_and(link, &[0xc8, 0x00, 0x01])),
    edge("longer-value", |link| body_and(link, &[0x48, 0x81, 0x00])),
    edge("longer-value-of-a-known-field", |link| {
        body_and(link, &[0x18, 0x81, 0x00])
    }),
    edge("longer-length", |link| {
        event_and(link, &[0x12, 0x81, 0x00, b'x'])
    }),
    edge("longer-length-of-an-event", |link| {
        body_and(link, &[0x32, 0x83, 0x00, 0x0a, 0x01, b'n'])
    }),
    edge("value-of-eleven-bytes", |link| {
        body_and(
            link,
            &[
                0x48, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00,
            ],
        )
    }),
    edge("value-of-2-to-the-64", |link| {
        event_and(
            link,
            &[
                0x48, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02,
            ],
        )
    }),
    edge("length-past-the-end", |link| {
        body_and(link, &[0x4a, 0x02, b'x'])
    }),
    edge("length-past-the-end-of-an-event", |link| {
        event_and(link, &[0x4a, 0x02, b'x'])
    }),
    edge("value-that-is-cut-short", |link| {
        event_and(link, &[0x48, 0x80])
    }),
    edge("last-event-of-another-wire-type", |link| {
        body_and(link, &[0x30, 0x01])
    }),
    edge("data-of-the-last-event-of-another-wire-type", |link| {
        event_and(link, &[0x10, 0x01])
    }),
    edge("name-of-an-event-that-is-not-utf-8", |link| {
        let first = batch(link, 0, vec![]).encode_to_vec();
        Ok(seal(
            link,
            &[&first[..], &[0x32, 0x04, 0x0a, 0x02, 0xff, 0xfe]].concat(),
        ))
    }),
    edge("name-of-the-last-event-that-is-not-utf-8", |link| {
        event_of(link, &[0x0a, 0x02, b'a', 0xc3, 0x12, 0x01, b'x'])
    }),
    edge("name-with-a-surrogate", |link| {
        event_of(link, &[0x0a, 0x03, 0xed, 0xa0, 0x80])
    }),
    edge("name-in-overlong-utf-8", |link| {
        event_of(link, &[0x0a, 0x02, 0xc0, 0x80])
    }),
    bad("wrong-room-of-several-events", "8 rule 6", |link| {
        changed(link, |batch| batch.room.push('2'))
    }),
    bad("no-room-of-several-events", "8 rule 6", |link| {
        changed(link, |batch| batch.room.clear())
    }),
    bad("name-of-the-last-event-too-long", "8 rule 4", |link| {
        let name = [&[0x0a, 0x81, 0x02][..], &[b'n'; 257]].concat();
        event_of(link, &name)
    }),
    bad("last-event-too-large", "8 rule 4", |link| {
        changed(link, |batch| {
            batch.events.push(proto::Event {
                name: "n".to_owned(),
                data: vec![1; crate::gossip::MAX_EVENT_DATA + 1].into(),
            });
        })
    }),
    bad(
        "last-number-of-several-beyond-2-to-the-53",
        "8 rule 7",
        |link| changed(link, |batch| batch.first_seq = crate::gossip::MAX_SEQ),
    ),
    bad("wrong-signature-of-several-events", "8 rule 8", |link| {
        let mut data = changed(link, |_| {})?;
        if let Some(last) = data.last_mut() {
            *last ^= 1;
        }
        Ok(data)
    }),
    bad("follows-an-id-of-31-bytes", "8 rule 4", |link| {
        changed(link, |batch| batch.prev = ids(&[31]))
    }),
    bad("follows-an-id-of-33-bytes", "8 rule 4", |link| {
        changed(link, |batch| batch.prev = ids(&[32, 33]))
    }),
    bad("follows-an-empty-id", "8 rule 4", |link| {
        changed(link, |batch| batch.prev = ids(&[0]))
    }),
    bad("follows-five", "8 rule 4", |link| {
        changed(link, |batch| batch.prev = ids(&[32; 5]))
    }),
    bad("follows-one-that-is-named-five-times", "8 rule 4", |link| {
        changed(link, |batch| batch.prev = vec![vec![7; 32].into(); 5])
    }),
    bad("signed-for-another-network", "8 rule 8", |link| {
        let other = NetworkId::of(Some(&NetworkKey::from_bytes(&[0x77; 32])));
        Ok(sign_as(link, &two(link).encode_to_vec(), |text| {
            text[17..49].copy_from_slice(other.as_bytes());
        }))
    }),
    bad("signed-for-no-network", "8 rule 8", |link| {
        Ok(sign_as(link, &two(link).encode_to_vec(), |text| {
            drop(text.drain(17..49))
        }))
    }),
    bad("signed-under-the-domain-of-before", "8 rule 8", |link| {
        Ok(sign_as(link, &two(link).encode_to_vec(), |text| {
            text.splice(..49, *b"diatribe-batch-v1");
        }))
    }),
];
