//! The bench itself: nodes, events, and what came of them.
//!
//! Entry function: [`run`]. The rule it keeps: whatever is lost fails it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::failure::Failure;
use super::args::LoadArgs;
use super::cluster::Cluster;
use super::figures::Figures;
use super::machine::{self, Meter};
use super::progress::Progress;
use super::tally::{Plan, Tally};
use super::{load, report};
use crate::gossip::{MAX_ROOMS, RoomName};
use crate::node::Node;

/// How long nothing may come before what is missing counts as lost: several rounds of data checking.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether all has come.
const LOOK: Duration = Duration::from_millis(2);

/// Measures as often as was asked for.
pub(crate) async fn run(args: &LoadArgs) -> Result<ExitCode, Failure> {
    let (nodes, publishers) = (args.nodes.get(), args.publishers.get());
    if nodes < 2 || publishers > nodes {
        return Err(Failure::usage(
            "there must be two nodes at least, and no more publishers than nodes",
        ));
    }
    if args.links.get() < 2 && nodes > 2 {
        return Err(Failure::usage(
            "with less than two links a node there is no way to all of them",
        ));
    }
    if args.rooms.get() > MAX_ROOMS {
        return Err(Failure::usage(format!(
            "a node is in {MAX_ROOMS} rooms at most"
        )));
    }
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

async fn measure(args: &LoadArgs, n: u32) -> Result<Figures, Failure> {
    let rooms = rooms(args.rooms.get())?;
    let mut cluster = Cluster::start(args, &rooms).await?;
    let plan = Plan {
        count: args.count.get(),
        size: args.size,
        rooms,
        publishers: cluster.nodes[..args.publishers.get()]
            .iter()
            .map(Node::peer_id)
            .collect(),
    };
    let tally = Arc::new(Tally::new(plan, args.nodes.get()));
    cluster.listen(&tally);
    let line = {
        let tally = tally.clone();
        let what = format!("run {n} of {}", args.runs);
        Progress::show(what, tally.expected(), Arc::new(move || tally.delivered()))
    };

    let copies = cluster.copies();
    let meter = Meter::start();
    let begun = machine::monotonic();
    load::send(&cluster.nodes, &tally, args.rate).await?;
    arrived(&tally).await;
    let cost = meter.stop();
    let copies = cluster.copies() - copies;

    drop(line);
    let totals = tally.totals();
    if totals.missed > 0 || totals.foreign > 0 {
        tracing::warn!(
            totals.missed,
            totals.foreign,
            "readers were too slow, or were told what nobody sent"
        );
    }
    cluster.stop().await;
    let took = totals.last.saturating_sub(begun);
    Ok(Figures::of(&totals, args.size, took, cost, copies))
}

/// Waits until everything has come, or nothing does any more.
async fn arrived(tally: &Tally) {
    let mut last = (0, Instant::now());
    while tally.delivered() < tally.expected() && last.1.elapsed() < PATIENCE {
        if tally.delivered() > last.0 {
            last = (tally.delivered(), Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn rooms(count: usize) -> Result<Vec<RoomName>, Failure> {
    (1..=count)
        .map(|n| format!("bench {n}").parse().map_err(Failure::new))
        .collect()
}
