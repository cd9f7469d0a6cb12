//! `diatribe bench`: how fast this machine carries what nodes say, and what it costs.
//!
//! Entry function: [`run`]. The rule it keeps: what is measured is what a user has. The nodes are
//! real, over websockets on loopback, with handshake, gate, log and data checking, and what was
//! delivered is told by comparing sets, not by counting.
//!
//! * `broadcast` is the bench itself: nodes in a `cluster` or in `processes`, each of them `one`, linked
//!   to a `mesh`; a `load` on them, a `tally` of what came.
//! * `links`, `log`, `sync`, `idle` measure one part alone.
//! * `machine` asks the system what it cost, `figures` and `report` say it, `progress` meanwhile.

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

/// What a shell makes of SIGINT.
const INTERRUPTED: u8 = 130;

/// Measures what was asked for and prints it. Fails when anything was lost.
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
            // What is dropped here takes its files and its processes with it.
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
