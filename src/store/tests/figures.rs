//! Measures the log's throughput and latency. `cargo test --release figures -- --ignored --nocapture` prints them.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::*;
use crate::clock::Clock;
use crate::store::{Log, Sync, Writer};

fn measure(name: &str, count: u64, size: usize, events: u64, sync: Sync, at_once: usize) {
    let dir =
        tempfile::tempdir_in(std::env::var_os("DIATRIBE_FIGURES_DIR").unwrap_or("/tmp".into()))
            .unwrap();
    let clock = Clock::start();
    let now_ms = clock.unix_millis();
    let batches: Vec<Batch> = (0..count)
        .map(|n| batch_of("a", 1, 1 + n * events, events, now_ms + n / 100, size))
        .collect();
    let log = Log::open(
        dir.path(),
        RetentionPolicy {
            sync,
            bytes: 1 << 40,
            ..policy()
        },
    )
    .unwrap();
    let writer = Writer::start(log, clock, |_| {}).unwrap();
    let (sender, receiver) = mpsc::channel();
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut waiting = 0;
    for group in batches.chunks(at_once) {
        loop {
            let asked = Instant::now();
            let sender = sender.clone();
            if writer
                .append(group, move |done| {
                    sender.send((asked.elapsed(), done.is_ok())).unwrap()
                })
                .is_ok()
            {
                break;
            }
            slowest = slowest.max(receiver.recv().unwrap().0);
            waiting -= 1;
        }
        waiting += 1;
    }
    for _ in 0..waiting {
        let (took, stored) = receiver.recv().unwrap();
        assert!(stored);
        slowest = slowest.max(took);
    }
    let took = start.elapsed().as_secs_f64();
    let wal = std::fs::metadata(dir.path().join("log.sqlite3-wal"))
        .unwrap()
        .len()
        >> 20;
    println!(
        "{name}: {:.0} batches/s, {:.0} events/s, {:.1} MB/s, slowest acknowledgement {slowest:?}, WAL {wal} MiB",
        count as f64 / took,
        (count * events) as f64 / took,
        (count as usize * size) as f64 / took / 1e6,
    );
}

/// Measures the latency of acknowledgements, one batch at a time.
fn latency(name: &str, count: u64, size: usize, sync: Sync, pause: Duration) {
    let dir =
        tempfile::tempdir_in(std::env::var_os("DIATRIBE_FIGURES_DIR").unwrap_or("/tmp".into()))
            .unwrap();
    let clock = Clock::start();
    let writer = Writer::start(
        Log::open(dir.path(), RetentionPolicy { sync, ..policy() }).unwrap(),
        clock,
        |_| {},
    )
    .unwrap();
    let (sender, receiver) = mpsc::channel();
    let mut times = Vec::new();
    for n in 0..count {
        let batch = batch_of("a", 1, 1 + n, 1, clock.unix_millis(), size);
        let sender = sender.clone();
        let asked = Instant::now();
        writer
            .append(&[batch], move |done| sender.send(done.is_ok()).unwrap())
            .unwrap();
        assert!(receiver.recv().unwrap());
        times.push(asked.elapsed());
        std::thread::sleep(pause);
    }
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{name}: p50 {:?}, p99 {:?}, max {:?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

#[test]
#[ignore = "prints figures, asserts nothing"]
fn figures() {
    for sync in [Sync::Normal, Sync::Full] {
        measure(
            &format!("256 KiB batches of 1,000 events, {sync:?}"),
            2_000,
            262_144,
            1_000,
            sync,
            1,
        );
        measure(
            &format!("256 B batches of 1 event, {sync:?}"),
            100_000,
            256,
            1,
            sync,
            1,
        );
        let name = format!("256 B, one after the other, {sync:?}");
        latency(&name, 5_000, 256, sync, Duration::ZERO);
        let name = format!("256 B, 200 a second, {sync:?}");
        latency(&name, 2_000, 256, sync, Duration::from_millis(5));
    }
}

#[test]
#[ignore = "prints figures, asserts nothing"]
fn figures_of_a_full_log() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::start();
    let now_ms = clock.unix_millis();
    let mut log = Log::open(dir.path(), policy()).unwrap();
    let count = 100_000u64;
    for group in 0..count / 1000 {
        let batches: Vec<Batch> = (0..1000)
            .map(|n| batch_of("a", 1, 1 + group * 1000 + n, 1, now_ms + group, 400))
            .collect();
        log.append(now_ms, &batches).unwrap();
    }
    drop(log);
    let start = Instant::now();
    let log = Log::open(dir.path(), policy()).unwrap();
    let opened = start.elapsed();
    let (_, items) = log.reader().items("a", usize::MAX >> 1).unwrap();
    let loaded = start.elapsed();
    let items: crate::sync::Items = items.into_iter().collect();
    println!(
        "{count} batches: open {opened:?}, load items {:?}, index them {:?}",
        loaded - opened,
        start.elapsed() - loaded
    );
    let start = Instant::now();
    for _ in 0..1000 {
        std::hint::black_box(items.sum(17, items.len()));
    }
    println!(
        "fingerprint of {}: {:?}",
        items.len(),
        start.elapsed() / 1000
    );
}
