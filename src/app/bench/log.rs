//! `diatribe bench log`: measures how many batches the log stores in a second.
//!
//! Entry function: [`run`]. The rule it keeps: a batch counts when it is committed; signing is done beforehand.

use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::super::failure::Failure;
use super::args::LogArgs;
use super::figures::round;
use super::machine::Meter;
use super::{batches, report};
use crate::clock::Clock;
use crate::store::{Log, RetentionPolicy, Writer};

/// Batches of one append, as the ingest task appends them.
const BATCHES_PER_WRITE: usize = 16;

#[derive(Debug, Serialize)]
struct Figures {
    batches: u64,
    batches_per_s: f64,
    mb_per_s: f64,
    cpu_us_per_batch: Option<f64>,
    others_cpu_percent: Option<f64>,
}

/// Stores as many batches as was asked for.
pub(crate) async fn run(args: &LogArgs) -> Result<ExitCode, Failure> {
    let room = "bench".parse().map_err(Failure::new)?;
    let signed: Vec<_> =
        batches::signed(&room, args.count.get(), args.size).collect::<Result<_, _>>()?;
    let folder = match args.ephemeral {
        true => None,
        false => Some(TempDir::with_prefix("diatribe-bench-").map_err(Failure::new)?),
    };
    let keep = RetentionPolicy::default();
    let log = match &folder {
        Some(folder) => Log::open(folder.path(), keep),
        None => Log::ephemeral(keep),
    };
    let writer = Writer::start(log.map_err(Failure::new)?, Clock::start(), drop);
    let writer = writer.map_err(Failure::new)?;

    let (stored, mut answers) = mpsc::unbounded_channel();
    let meter = Meter::start();
    let begun = Instant::now();
    for batches in signed.chunks(BATCHES_PER_WRITE) {
        let stored = stored.clone();
        let done = move |appended| drop(stored.send(appended));
        writer.append_in_turn(batches, done).await;
    }
    drop(stored);
    while let Some(appended) = answers.recv().await {
        appended.map_err(Failure::new)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cost = meter.stop();
    drop(writer);

    let count = args.count.get() as f64;
    let figures = Figures {
        batches: args.count.get(),
        batches_per_s: round(count / seconds, 0),
        mb_per_s: round(count * args.size as f64 / 1e6 / seconds, 2),
        cpu_us_per_batch: cost
            .cpu
            .map(|cpu| round(cpu.as_secs_f64() * 1e6 / count, 2)),
        others_cpu_percent: cost.others_cpu_percent.map(|percent| round(percent, 1)),
    };
    if args.json {
        report::json(&figures)?;
    } else {
        report::print(&format!(
            "{} batches stored: {} a second, {} MB/s; CPU {} µs a batch\n",
            figures.batches,
            figures.batches_per_s,
            figures.mb_per_s,
            figures
                .cpu_us_per_batch
                .map_or("unknown".to_owned(), |us| us.to_string()),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
