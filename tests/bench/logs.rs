//! The log: sixteen batches in one transaction, and a page read back.

use criterion::{Criterion, Throughput};
use diatribe::store::{Cursor, Log, Query, RetentionPolicy};

use crate::batches::sealed;

/// Batches of one transaction, as the ingest task appends them.
const TOGETHER: u64 = 16;
/// When the batches are stored, in milliseconds since 1970: when they were sent, about.
const NOW_MS: u64 = 1_000_000;

pub(crate) fn append(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut log = Log::open(folder.path(), RetentionPolicy::default()).expect("a new log");
    let mut next_seq = 1;
    let mut group = c.benchmark_group("store/append");
    group.throughput(Throughput::Elements(TOGETHER));
    group.bench_function("16 batches of 256 bytes", |b| {
        b.iter_batched(
            || {
                let first = next_seq;
                next_seq += TOGETHER;
                (first..next_seq)
                    .map(|seq| sealed(seq, 1))
                    .collect::<Vec<_>>()
            },
            |batches| log.append(NOW_MS, &batches).expect("they are stored"),
            criterion::BatchSize::SmallInput,
        );
    });
}

pub(crate) fn read(c: &mut Criterion) {
    let mut log = Log::ephemeral(RetentionPolicy::default()).expect("a new log");
    let batches: Vec<_> = (1..=1000).map(|seq| sealed(seq, 1)).collect();
    log.append(NOW_MS, &batches).expect("they are stored");
    let query = Query {
        room: Some("bench".parse().expect("a room")),
        ..Query::default()
    };
    let mut group = c.benchmark_group("store/read");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000 batches of 256 bytes", |b| {
        b.iter(|| {
            let (mut read, mut cursor) = (0, Cursor::Start);
            loop {
                let page = log
                    .reader()
                    .page(&query, cursor)
                    .expect("the log can be read");
                read += page.batches.len();
                match page.next {
                    Some(next) => cursor = next,
                    None => break assert_eq!(read, 1000),
                }
            }
        });
    });
}
