//! `diatribe bench sync`: a node that was away catches up with a neighbour.
//!
//! Entry function: [`run`]. The rule it keeps: it is over when the application has every event.

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tempfile::TempDir;

use super::super::failure::Failure;
use super::args::SyncArgs;
use super::figures::round;
use super::machine::Meter;
use super::one::{address_of, start_one};
use super::progress::Progress;
use super::{batches, report};
use crate::model::RoomName;
use crate::node::{Event, Events};
use crate::store::{Log, RetentionPolicy};

/// Batches of one transaction while the first node's log is made.
const BATCHES_PER_WRITE: usize = 4096;
/// Timeout without any delivery, after which the rest counts as lost.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize)]
struct Figures {
    batches: u64,
    lost: u64,
    seconds: f64,
    batches_per_s: f64,
    /// Of both nodes together.
    cpu_us_per_batch: Option<f64>,
    peak_rss_bytes: Option<u64>,
    others_cpu_percent: Option<f64>,
}

/// Makes a log, and has an empty node catch up with it.
pub(crate) async fn run(args: &SyncArgs) -> Result<ExitCode, Failure> {
    let count = args.count.get();
    let room = "bench".parse().map_err(Failure::new)?;
    let folders = [(); 2].map(|()| TempDir::with_prefix("diatribe-bench-"));
    let [full, empty] = folders;
    let (full, empty) = (full.map_err(Failure::new)?, empty.map_err(Failure::new)?);
    fill(full.path(), &room, args)?;

    let rooms = [room];
    let (holder, _) = start_one(&rooms, Some(full.path())).await?;
    let (late, heard) = start_one(&rooms, Some(empty.path())).await?;
    let address = address_of(&holder)?;
    let came = Arc::new(AtomicU64::new(0));
    let line = {
        let came = came.clone();
        let came = Arc::new(move || came.load(Ordering::Relaxed));
        Progress::show("catching up".to_owned(), count, came)
    };
    let meter = Meter::start();
    let begun = Instant::now();
    late.connect(address).await.map_err(Failure::new)?;
    let (held, took) = catch_up(heard, count, &came, begun).await;
    let cost = meter.stop();
    drop(line);
    holder.shutdown().await;
    late.shutdown().await;

    let seconds = took.as_secs_f64().max(1e-9);
    let figures = Figures {
        batches: count,
        lost: count - held,
        seconds: round(seconds, 3),
        batches_per_s: round(held as f64 / seconds, 0),
        cpu_us_per_batch: cost
            .cpu
            .map(|cpu| round(cpu.as_secs_f64() * 1e6 / held.max(1) as f64, 2)),
        peak_rss_bytes: cost.peak_rss_bytes,
        others_cpu_percent: cost.others_cpu_percent.map(|percent| round(percent, 1)),
    };
    if args.json {
        report::json(&figures)?;
    } else {
        report::print(&format!(
            "{held} of {count} batches caught up in {} s: {} a second; CPU of both nodes {} µs a batch\n",
            figures.seconds,
            figures.batches_per_s,
            figures
                .cpu_us_per_batch
                .map_or("unknown".to_owned(), |us| us.to_string()),
        ))?;
    }
    let lost = figures.lost > 0;
    Ok(if lost {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Writes the batches to a new log in `folder`.
fn fill(folder: &Path, room: &RoomName, args: &SyncArgs) -> Result<(), Failure> {
    let mut log = Log::open(folder, RetentionPolicy::default()).map_err(Failure::new)?;
    let signed = batches::signed(room, args.count.get(), args.size);
    let signed: Vec<_> = signed.collect::<Result<_, _>>()?;
    let now_ms = signed.last().map_or(0, |batch| batch.sent_at_ms() + 1);
    for batches in signed.chunks(BATCHES_PER_WRITE) {
        log.append(now_ms, batches).map_err(Failure::new)?;
    }
    Ok(())
}

/// Returns the number of distinct events received, and the time of the last one.
async fn catch_up(
    mut heard: Events,
    count: u64,
    came: &AtomicU64,
    begun: Instant,
) -> (u64, Duration) {
    let mut numbers = HashSet::new();
    let mut last = Duration::ZERO;
    while (numbers.len() as u64) < count {
        match tokio::time::timeout(PROGRESS_TIMEOUT, heard.next()).await {
            Ok(Some(Event::Message(message))) => {
                numbers.insert(message.seq);
                came.store(numbers.len() as u64, Ordering::Relaxed);
                last = begun.elapsed();
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    (numbers.len() as u64, last)
}
