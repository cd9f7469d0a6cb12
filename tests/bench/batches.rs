//! Signing and verifying batches: of one event, and as full as they get under load.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use diatribe::gossip::{self, Author, Event, MAX_BATCH_BYTES, VerifiedBatch};
use diatribe::identity::{Identity, NetworkId};
use diatribe::model::RoomName;

/// Bytes of an event.
const SIZE: usize = 256;

/// Events in a batch.
fn counts() -> [usize; 2] {
    [
        1,
        MAX_BATCH_BYTES / Event::new("bench", vec![0; SIZE]).cost(),
    ]
}

fn events(count: usize) -> Vec<Event> {
    vec![Event::new("bench", Bytes::from_static(&[0xab; SIZE])); count]
}

fn room() -> RoomName {
    "bench".parse().expect("a room's name")
}

fn author() -> Author {
    Author::new(Identity::from_seed(&[1; 32]), NetworkId::OPEN, [0; 16])
}

pub(crate) fn sealed(first_seq: u64, count: usize) -> VerifiedBatch {
    let sent_at_ms = 1_000_000 + first_seq;
    author()
        .seal(&room(), first_seq, sent_at_ms, &[], events(count))
        .expect("the events fit")
        .into()
}

pub(crate) fn seal(c: &mut Criterion) {
    let author = author();
    let room = room();
    let mut group = c.benchmark_group("gossip/seal");
    for count in counts() {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_with_input(BenchmarkId::new("events", count), &count, |b, &count| {
            b.iter_batched(
                || events(count),
                |events| author.seal(&room, 1, 0, &[], events),
                criterion::BatchSize::SmallInput,
            );
        });
    }
}

pub(crate) fn open(c: &mut Criterion) {
    let room = room();
    let mut group = c.benchmark_group("gossip/open");
    for count in counts() {
        let bytes = sealed(1, count).bytes().clone();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_with_input(BenchmarkId::new("events", count), &bytes, |b, bytes| {
            b.iter(|| {
                let opened = gossip::open(bytes.clone(), NetworkId::OPEN, &room, u64::MAX);
                opened.expect("it was signed")
            });
        });
    }
}
