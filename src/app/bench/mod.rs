//! `diatribe bench`: measures throughput, latency and cost of nodes on this machine.
//!
//! Entry function: [`run`]. The rule it keeps: the nodes are those that a user runs, over websockets on loopback, with
//! handshake, gate, log and anti-entropy; deliveries are verified by comparing sets, not by counting.
//!
//! * `broadcast` is the main benchmark: nodes in a `cluster` or in `processes`, each of them `one`, linked to a `mesh`;
//!   a `load` on them, and a `tally` of deliveries.
//! * `links`, `log`, `sync`, `idle` measure one part alone.
//! * `machine` reads resource use from the system, `figures` and `report` print it, `progress` shows the progress.

pub(super) mod args;
mod as_text;
mod batches;
mod broadcast;
mod cluster;
mod figures;
mod histogram;
mod idle;
mod links;
mod load;
mod log;
mod machine;
mod measured;
mod mesh;
mod one;
mod processes;
mod progress;
mod report;
mod sync;
mod tally;

use std::process::ExitCode;

use super::failure::Failure;
pub(crate) use args::BenchArgs;
use args::Part;

/// Exit code that shells report after SIGINT.
const INTERRUPTED: u8 = 130;

/// Runs the benchmark and prints its figures.
///
/// # Errors
///
/// Fails when an event was lost or a node failed.
pub(crate) fn run(args: BenchArgs) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("the program cannot start: {e}")))?;
    machine::open_more_files();
    let result = runtime.block_on(async {
        let measuring = measure(args);
        tokio::select! {
            result = measuring => result,
            // Dropping the run removes its files and ends its processes.
            Ok(()) = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
        }
    });
    runtime.shutdown_background();
    result
}

async fn measure(args: BenchArgs) -> Result<ExitCode, Failure> {
    match args.part {
        None => broadcast::run(&args.load).await,
        Some(Part::Links(args)) => links::run(&args).await,
        Some(Part::Log(args)) => log::run(&args).await,
        Some(Part::Sync(args)) => sync::run(&args).await,
        Some(Part::Idle(args)) => idle::run(&args).await,
        Some(Part::Node) => processes::node::run().await,
    }
}
