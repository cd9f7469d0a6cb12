//! The broadcast benchmark: starts nodes, sends events and compares what each node received.
//!
//! Entry function: [`run`]. The rule it keeps: a run that loses an event fails.

use std::process::ExitCode;

use super::super::failure::Failure;
use super::args::LoadArgs;
use super::figures::Figures;
use super::measured::Measured;
use super::{cluster, processes, report};
use crate::gossip::MAX_ROOMS;
use crate::model::RoomName;

/// Measures as often as was asked for.
pub(crate) async fn run(args: &LoadArgs) -> Result<ExitCode, Failure> {
    check(args)?;
    let mut all = Vec::new();
    for n in 1..=args.runs.get() {
        let figures = measure(args, n).await?;
        if args.json {
            report::json(&figures)?;
        }
        all.push(figures);
    }
    if !args.json {
        report::table(&all)?;
    }
    let lost = all.iter().any(|figures| figures.lost > 0);
    Ok(if lost {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn check(args: &LoadArgs) -> Result<(), Failure> {
    let (nodes, publishers) = (args.nodes.get(), args.publishers.get());
    if nodes < 2 || publishers > nodes {
        return Err(Failure::usage(format!(
            "there must be two nodes at least, and no more publishers than nodes: --nodes is {nodes}, \
             --publishers is {publishers}"
        )));
    }
    if args.links.get() < 2 && nodes > 2 {
        return Err(Failure::usage(
            "with less than two links a node there is no way to all of them: give --links 2 or more",
        ));
    }
    if args.rooms.get() > MAX_ROOMS {
        return Err(Failure::usage(format!(
            "a node is in {MAX_ROOMS} rooms at most: give --rooms {MAX_ROOMS} or less"
        )));
    }
    if args.processes && !cfg!(unix) {
        return Err(Failure::usage(
            "--processes needs one clock for all processes, which this system does not give: leave \
             it out",
        ));
    }
    Ok(())
}

async fn measure(args: &LoadArgs, n: u32) -> Result<Figures, Failure> {
    let rooms = rooms(args.rooms.get())?;
    let what = format!("run {n} of {}", args.runs);
    let Measured {
        totals,
        begun,
        cost,
        copies,
    } = match args.processes {
        true => processes::measure(args, rooms, what).await?,
        false => cluster::measure(args, rooms, what).await?,
    };
    if totals.missed > 0 || totals.foreign > 0 {
        tracing::warn!(
            totals.missed,
            totals.foreign,
            "readers were too slow, or were told what nobody sent, or what they had sent themselves"
        );
    }
    let took = totals.last.saturating_sub(begun);
    Ok(Figures::of(&totals, args.size, took, cost, copies))
}

fn rooms(count: usize) -> Result<Vec<RoomName>, Failure> {
    (1..=count)
        .map(|n| format!("bench {n}").parse().map_err(Failure::new))
        .collect()
}
