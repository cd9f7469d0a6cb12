//! Acknowledged batches survive a kill of the process at any time.
//!
//! The test starts its own binary again as a child that appends batches and prints each id when its commit is
//! acknowledged, kills it after a random time, and reads the log. `DIATRIBE_CRASH_CYCLES=1000` runs more cycles.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};

use super::*;
use crate::clock::Clock;
use crate::store::{Log, Sync, Writer};

const CYCLES: &str = "DIATRIBE_CRASH_CYCLES";
const CHILD: &str = "DIATRIBE_CRASH_CHILD";

#[test]
fn no_acknowledged_batch_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let cycles: u64 = std::env::var(CYCLES)
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(30);
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let mut acknowledged: Vec<[u8; 32]> = Vec::new();
    let mut slowest = Duration::ZERO;
    for cycle in 0..cycles {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::tests::crash::child",
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD, dir.path())
            .env("DIATRIBE_CRASH_CYCLE", cycle.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (opened, open) = mpsc::channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            let mut ids = Vec::new();
            for line in lines.map_while(Result::ok) {
                if let Some((_, ms)) = line.split_once("opened in ms: ") {
                    opened.send(ms.parse::<u64>().unwrap()).unwrap();
                }
                // A line cut off by the kill was not acknowledged.
                let id = line
                    .strip_prefix("stored ")
                    .and_then(|id| hex::decode(id).ok());
                ids.extend(id.and_then(|id| <[u8; 32]>::try_from(id).ok()));
            }
            ids
        });
        let ms = open
            .recv_timeout(Duration::from_secs(30))
            .expect("the log opens");
        slowest = slowest.max(Duration::from_millis(ms));
        std::thread::sleep(Duration::from_millis(rng.random_range(0..40)));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(reader.join().unwrap());
        if cycle % 10 == 9 || cycle + 1 == cycles {
            let start = Instant::now();
            let log = Log::open(dir.path(), policy()).unwrap();
            slowest = slowest.max(start.elapsed());
            // The last cycle checks the batches of all cycles again.
            let from = if cycle + 1 == cycles {
                0
            } else {
                acknowledged.len().saturating_sub(10_000)
            };
            for id in &acknowledged[from..] {
                assert!(
                    log.reader().holds(id).unwrap(),
                    "a batch of cycle ≤ {cycle} is lost"
                );
            }
        }
    }
    println!(
        "{cycles} cycles, {} acknowledged batches, slowest start {slowest:?}",
        acknowledged.len()
    );
    assert!(acknowledged.len() as u64 > cycles);
    assert!(slowest < Duration::from_secs(2));
    assert!(crate::store::check(dir.path()).unwrap().is_sound());
}

#[test]
#[ignore = "is started by the test above"]
fn child() {
    let dir = std::env::var_os(CHILD).expect("no test by itself: the test above runs it");
    let cycle: u64 = std::env::var("DIATRIBE_CRASH_CYCLE")
        .unwrap()
        .parse()
        .unwrap();
    let sync = if cycle.is_multiple_of(5) {
        Sync::Full
    } else {
        Sync::Normal
    };
    let start = Instant::now();
    let log = Log::open(dir.as_ref(), RetentionPolicy { sync, ..policy() }).unwrap();
    println!("opened in ms: {}", start.elapsed().as_millis());
    let clock = Clock::start();
    let writer = Writer::start(log, clock, |_| {}).unwrap();
    // In every other process each batch waits for the one before, which takes it through the write buffer and the
    // journal.
    let is_alone = cycle.is_multiple_of(2);
    let heard = Arc::new(AtomicU64::new(0));
    for n in 1.. {
        let room = format!("room {}", n % 3);
        let batch = batch_of(
            &room,
            cycle as u8,
            cycle * 1_000_000 + 1 + n / 3,
            1,
            clock.unix_millis(),
            (n % 700) as usize,
        );
        let id = batch.0.id;
        let heard_of = Arc::clone(&heard);
        let done = move |done: crate::store::Appended| {
            done.unwrap();
            let mut out = std::io::stdout().lock();
            writeln!(out, "stored {}", hex::encode(id)).unwrap();
            out.flush().unwrap();
            heard_of.store(n, Ordering::Relaxed);
        };
        if !is_alone {
            while writer
                .append(std::slice::from_ref(&batch), done.clone())
                .is_err()
            {
                std::thread::sleep(Duration::from_millis(1));
            }
        } else {
            futures::executor::block_on(writer.append_in_turn(std::slice::from_ref(&batch), done));
            while heard.load(Ordering::Relaxed) < n {
                std::thread::yield_now();
            }
        }
    }
}
