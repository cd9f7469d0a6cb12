//! `diatribe bench idle`: measures a node that has links and nothing to do.
//!
//! Entry function: [`run`]. The rule it keeps: the node is `diatribe node` itself, in a process of its own, with a key
//! file and a log on disk; its peers run in this process and do not count.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::super::failure::Failure;
use super::args::IdleArgs;
use super::figures::round;
use super::machine::{self, Meter};
use super::one::NodePlan;
use super::processes::process::Process;
use super::report::{self, median, mib};
use crate::model::RoomName;
use crate::net::Address;
use crate::node::{DEFAULT_ROOM, Node};

/// Until the node is online, or has its links.
const LINK_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for the work that new links cause: longer than a round of the overlay and one of anti-entropy.
const SETTLE_INTERVAL: Duration = Duration::from_secs(15);
/// How long a node may take to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
struct Figures {
    /// Links when it was over.
    links: u64,
    seconds: u32,
    /// From the start of the process to its `online` line, with a key file: the median.
    start_ms: f64,
    rss_bytes: Option<u64>,
    /// Of one processor.
    cpu_percent: Option<f64>,
    others_cpu_percent: Option<f64>,
}

/// Starts a node some times, links the last one, and looks at it.
pub(super) async fn run(args: &IdleArgs) -> Result<ExitCode, Failure> {
    let folder = TempDir::with_prefix("diatribe-bench-").map_err(Failure::new)?;
    // The first start makes the key.
    Idle::start(args, folder.path()).await?.0.end().await?;
    let mut took = Vec::new();
    for _ in 1..args.starts {
        let (idle, ms) = Idle::start(args, folder.path()).await?;
        idle.end().await?;
        took.push(ms);
    }
    let (mut idle, ms) = Idle::start(args, folder.path()).await?;
    took.push(ms);
    took.sort_by(f64::total_cmp);

    let links = u64::from(args.links);
    let others = link(&idle.address, args.links).await?;
    idle.hear_until(LINK_TIMEOUT, |idle| idle.links >= links)
        .await?;
    if idle.links < links {
        return Err(Failure::new(format!(
            "the node has {} of {links} links after {} s: is the machine busy with something else?",
            idle.links,
            LINK_TIMEOUT.as_secs()
        )));
    }
    idle.hear_until(SETTLE_INTERVAL, |_| false).await?;
    let meter = Meter::start();
    let begun = machine::cpu_of(idle.process.id());
    let seconds = Duration::from_secs(args.seconds.into());
    idle.hear_until(seconds, |_| false).await?;
    let cpu = machine::cpu_of(idle.process.id())
        .zip(begun)
        .map(|(now, then)| now.saturating_sub(then));
    let rss_bytes = machine::rss_of(idle.process.id());
    let figures = Figures {
        links: idle.links,
        seconds: args.seconds,
        start_ms: round(median(&took), 1),
        rss_bytes,
        cpu_percent: cpu.map(|cpu| round(100.0 * cpu.as_secs_f64() / seconds.as_secs_f64(), 2)),
        others_cpu_percent: meter.others_beside(cpu).map(|percent| round(percent, 1)),
    };
    idle.end().await?;
    for node in others {
        node.shutdown().await;
    }
    tell(args, &figures)
}

fn tell(args: &IdleArgs, figures: &Figures) -> Result<ExitCode, Failure> {
    if args.json {
        report::json(figures)?;
    } else {
        let known = |figure: Option<String>| figure.unwrap_or("unknown".to_owned());
        report::print(&format!(
            "online after {} ms (median of {}); with {} links for {} s: {} MiB, {} % of a processor\n",
            figures.start_ms,
            args.starts,
            figures.links,
            figures.seconds,
            known(figures.rss_bytes.map(|bytes| format!("{:.1}", mib(bytes)))),
            known(figures.cpu_percent.map(|percent| percent.to_string())),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Nodes in this process that link with the one at `address` and, when there are several, with each
/// other, as in any mesh.
async fn link(address: &Address, count: u8) -> Result<Vec<Node>, Failure> {
    let room: RoomName = DEFAULT_ROOM.parse().map_err(Failure::new)?;
    let mut nodes = Vec::new();
    for _ in 0..count {
        let plan = NodePlan {
            rooms: vec![room.clone()],
            folder: None,
            // One alone would seek a second link all the time.
            links: (count > 1).then_some(count.into()),
            entry: vec![address.clone()],
        };
        nodes.push(plan.start().await?.0);
    }
    Ok(nodes)
}

/// The node that is looked at.
struct Idle {
    process: Process,
    lines: mpsc::UnboundedReceiver<Option<String>>,
    address: Address,
    links: u64,
}

impl Idle {
    /// Starts it; how many milliseconds it took to be online.
    async fn start(args: &IdleArgs, folder: &Path) -> Result<(Idle, f64), Failure> {
        let (most, least) = (args.links.max(2), args.links.clamp(1, 2));
        let options = format!(
            "node --json --no-input --exempt-loopback --listen 127.0.0.1:0 --max-links {most} \
             --min-links {least} --data-dir"
        );
        let mut command: Vec<OsString> = options.split(' ').map(OsString::from).collect();
        command.push(folder.into());
        let (teller, mut lines) = mpsc::unbounded_channel();
        let begun = Instant::now();
        let process = Process::start(command, move |line| drop(teller.send(line)))?;
        let line = timeout_at((begun + LINK_TIMEOUT).into(), lines.recv()).await;
        let took = begun.elapsed();
        let line = line
            .ok()
            .flatten()
            .flatten()
            .and_then(|line| serde_json::from_str::<Value>(&line).ok())
            .filter(|line| line["type"] == "online");
        let address = line
            .as_ref()
            .and_then(|line| line["addresses"][0].as_str())
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| Failure::new("the node did not come online"))?;
        let idle = Idle {
            process,
            lines,
            address,
            links: 0,
        };
        Ok((idle, took.as_secs_f64() * 1e3))
    }

    /// Reads the node's output until `enough` holds, for at most `limit`.
    async fn hear_until(
        &mut self,
        limit: Duration,
        enough: impl Fn(&Idle) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        while !enough(self) {
            let Ok(line) = timeout_at(deadline.into(), self.lines.recv()).await else {
                return Ok(());
            };
            let Some(line) = line.flatten() else {
                let id = self.process.id();
                return Err(Failure::new(format!(
                    "the idle node (process {id}) ended before its time"
                )));
            };
            let line: Value = serde_json::from_str(&line).map_err(Failure::new)?;
            if ["link_up", "link_down"]
                .map(Value::from)
                .contains(&line["type"])
            {
                self.links = line["links"].as_u64().unwrap_or(self.links);
            }
        }
        Ok(())
    }

    /// Ends it as a user does.
    async fn end(mut self) -> Result<(), Failure> {
        self.process.terminate();
        match self.process.ended(SHUTDOWN_TIMEOUT).await {
            Some(_) => Ok(()),
            None => Err(Failure::new("the node does not end")),
        }
    }
}
