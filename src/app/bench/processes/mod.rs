//! `--processes`: every node runs in a process of its own, which is this program started again.
//!
//! Entry functions: [`measure`] of the parent, [`node::run`] of a child. The rule it keeps: a child that ends early
//! fails the run, by name; and no child outlives its parent, since it ends when its stdin does.
//!
//! They exchange JSON lines (`ipc`): orders on the child's stdin, reports on its stdout.
//! * `process` is a child as its parent sees it, `fleet` all of them.
//! * `node` is the child's side.

mod fleet;
mod ipc;
pub(super) mod node;
pub(super) mod process;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::super::failure::Failure;
use super::args::{LoadArgs, Rate};
use super::machine::{self, Cost, Meter};
use super::measured::{Measured, PROGRESS_TIMEOUT, plan};
use super::progress::Progress;
use super::tally::{Tally, Totals};
use crate::model::RoomName;
use fleet::Fleet;
use ipc::Order;

/// Measures one run of nodes that are processes.
pub(super) async fn measure(
    args: &LoadArgs,
    rooms: Vec<RoomName>,
    what: String,
) -> Result<Measured, Failure> {
    let mut fleet = Fleet::start(args, &rooms).await?;
    let publishers = fleet.peer_ids(args.publishers.get());
    let plan = plan(args, rooms, publishers);
    let expected = Tally::expected_of(&plan, 0..args.nodes.get());
    for n in 0..args.nodes.get() {
        let order = Order::Load {
            node: n,
            plan: plan.clone(),
        };
        fleet.order(n, &order)?;
    }
    fleet.until_all("ready", |told| told.ready).await?;
    let came = fleet.came();
    let line = Progress::show(what, expected, {
        let came = came.clone();
        Arc::new(move || came.load(Ordering::Relaxed))
    });
    tracing::info!("the nodes are linked, and the events are sent");

    let meter = Meter::start();
    let begun = machine::monotonic();
    let rate = match args.rate {
        Rate::Max => None,
        Rate::PerSecond(rate) => Some(rate),
    };
    for n in 0..args.publishers.get() {
        fleet.order(n, &Order::Send { rate, begun })?;
    }
    arrived(&mut fleet, args.publishers.get(), &came, expected).await?;
    let reports = fleet.reports().await?;
    let costs: Vec<Cost> = reports.iter().map(|report| report.cost).collect();
    let cost = meter.stop_for(&costs);
    drop(line);

    fleet.stop().await?;
    let mut totals = Totals::default();
    for report in &reports {
        totals.add(&report.totals);
    }
    Ok(Measured {
        totals,
        begun,
        cost,
        copies: reports.iter().map(|report| report.copies).sum(),
    })
}

/// Waits until all publishers have sent and every delivery is reported, or none has been for [`PROGRESS_TIMEOUT`].
async fn arrived(
    fleet: &mut Fleet,
    publishers: usize,
    delivered: &AtomicU64,
    expected: u64,
) -> Result<(), Failure> {
    let mut last = (0, Instant::now());
    loop {
        let now = delivered.load(Ordering::Relaxed);
        let sending = !fleet.have_sent(publishers);
        if now > last.0 || sending {
            last = (now, Instant::now());
        }
        if !sending && (now >= expected || last.1.elapsed() >= PROGRESS_TIMEOUT) {
            return Ok(());
        }
        fleet.hear().await?;
    }
}
