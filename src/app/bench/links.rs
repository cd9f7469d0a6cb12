//! `diatribe bench links`: measures the time from a dial to a link at both nodes.
//!
//! Entry function: [`run`]. The rule it keeps: both ends run in this process and the cost of both is counted; nodes are
//! started and stopped outside the measured time.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::failure::Failure;
use super::args::LinksArgs;
use super::figures::round;
use super::histogram::Histogram;
use super::machine::{Cost, Meter};
use super::one::{address_of, start_one};
use super::report;
use crate::node::{Event, Events};

/// Pause after the start of a node, for its own work to end.
const PAUSE_INTERVAL: Duration = Duration::from_millis(5);

#[derive(Debug, Serialize)]
struct Figures {
    links: u64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
    /// Of both ends together.
    cpu_us_per_link: Option<f64>,
    others_cpu_percent: Option<f64>,
}

/// Sets up as many links as was asked for.
pub(crate) async fn run(args: &LinksArgs) -> Result<ExitCode, Failure> {
    // A link is reported at once when both nodes are in a room.
    let rooms = ["bench".parse().map_err(Failure::new)?];
    let (listener, mut heard) = start_one(&rooms, None).await?;
    let mut took = Histogram::default();
    let mut cpu = Some(Duration::ZERO);
    let whole = Meter::start();
    for _ in 0..args.count.get() {
        let (dialer, _events) = start_one(&rooms, None).await?;
        tokio::time::sleep(PAUSE_INTERVAL).await;
        let address = address_of(&listener)?;
        let meter = Meter::start();
        let begun = Instant::now();
        dialer.connect(address).await.map_err(Failure::new)?;
        linked(&mut heard).await?;
        took.record(begun.elapsed());
        cpu = cpu.zip(meter.stop().cpu).map(|(sum, more)| sum + more);
        dialer.shutdown().await;
    }
    let Cost {
        others_cpu_percent, ..
    } = whole.stop();
    listener.shutdown().await;

    let links = args.count.get();
    let figures = Figures {
        links,
        p50_us: took.quantile_us(0.5),
        p99_us: took.quantile_us(0.99),
        max_us: took.max_us(),
        cpu_us_per_link: cpu.map(|cpu| round(cpu.as_secs_f64() * 1e6 / links as f64, 0)),
        others_cpu_percent: others_cpu_percent.map(|percent| round(percent, 1)),
    };
    if args.json {
        report::json(&figures)?;
    } else {
        report::print(&format!(
            "{links} links: p50 {} µs, p99 {} µs, max {} µs; CPU of both ends {} µs a link\n",
            figures.p50_us,
            figures.p99_us,
            figures.max_us,
            figures
                .cpu_us_per_link
                .map_or("unknown".to_owned(), |us| us.to_string()),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn linked(heard: &mut Events) -> Result<(), Failure> {
    while let Some(event) = heard.next().await {
        if matches!(event, Event::LinkUp { .. }) {
            return Ok(());
        }
    }
    Err(Failure::new("the node that is dialled has stopped"))
}
