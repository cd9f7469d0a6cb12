//! `diatribe bench`: how fast this machine carries what nodes say, and what it costs.
//!
//! Entry function: [`run`]. The rule it keeps: what is measured is what a user has. The nodes are
//! real, over websockets on loopback, with handshake, gate, log and data checking, and what was
//! delivered is told by comparing sets, not by counting.
//!
//! * `broadcast` is the bench itself: a `cluster` of nodes, a `load` on it, a `tally` of what came.
//! * `links`, `log`, `sync` measure one part alone.
//! * `machine` asks the system what it cost, `figures` and `report` say it, `progress` meanwhile.

pub(super) mod args;
mod batches;
mod broadcast;
mod cluster;
mod figures;
mod histogram;
mod links;
mod load;
mod log;
mod machine;
mod progress;
mod report;
mod sync;
mod tally;

use std::process::ExitCode;

use super::failure::Failure;
pub(crate) use args::BenchArgs;
use args::Part;

/// Measures what was asked for and prints it. Fails when anything was lost.
pub(crate) fn run(args: BenchArgs) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("the program cannot start: {e}")))?;
    let result = runtime.block_on(async {
        match args.part {
            None => broadcast::run(&args.load).await,
            Some(Part::Links(args)) => links::run(&args).await,
            Some(Part::Log(args)) => log::run(&args).await,
            Some(Part::Sync(args)) => sync::run(&args).await,
        }
    });
    runtime.shutdown_background();
    result
}
