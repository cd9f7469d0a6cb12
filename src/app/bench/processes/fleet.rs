//! All nodes of a run, each in a child process, and the state that each has reported.
//!
//! Entry type: [`Fleet`]. The rule it keeps: a wait ends at once, with the child's name, when a child has ended or
//! cannot go on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::super::failure::Failure;
use super::super::args::LoadArgs;
use super::super::measured::folders;
use super::super::mesh::{self, Mesh};
use super::super::one::NodePlan;
use super::ipc::{Answer, Order, Report};
use super::process::Process;
use crate::model::RoomName;
use crate::net::Address;

/// Arguments that start a child node, hidden from `--help`.
const NODE: [&str; 2] = ["bench", "node"];
/// Timeout for an immediate action of a child on a busy machine.
const CHILD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node may take to say good-bye.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which a wait checks the time while no child reports.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Timeout for the exit status of a child whose output has ended.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The children, in their order.
pub(super) struct Fleet {
    children: Vec<Process>,
    told: Vec<ChildReport>,
    mesh: Mesh,
    /// Number of deliveries at all nodes, as far as reported.
    came: Arc<AtomicU64>,
    teller: mpsc::UnboundedSender<(usize, Option<String>)>,
    /// Unbounded: children report little, and wait for the next order.
    lines: mpsc::UnboundedReceiver<(usize, Option<String>)>,
    /// Their logs, removed with it; after the children, which are before it.
    _folders: Option<TempDir>,
}

/// The reports of one child.
#[derive(Debug, Default)]
pub(super) struct ChildReport {
    online: Option<(PeerId, Address)>,
    connected: usize,
    pub(super) ready: bool,
    came: u64,
    sent: bool,
    report: Option<Box<Report>>,
}

impl Fleet {
    /// Starts nodes in `rooms`, lets them link as was asked for, and waits until they are in each
    /// other's mesh.
    pub(super) async fn start(args: &LoadArgs, rooms: &[RoomName]) -> Result<Fleet, Failure> {
        let folders = folders(args)?;
        let parent = folders.as_ref().map(|folders| folders.path().to_owned());
        let (teller, lines) = mpsc::unbounded_channel();
        let mut fleet = Fleet {
            children: Vec::new(),
            told: Vec::new(),
            mesh: Mesh::new(),
            came: Arc::default(),
            teller,
            lines,
            _folders: folders,
        };
        for _ in 0..args.nodes.get() {
            fleet.start_next(args, rooms, parent.as_deref()).await?;
        }
        if args.fixed_links {
            for (from, to) in mesh::graph(args.nodes.get(), args.links.get()) {
                fleet.connect(from, to).await?;
            }
        }
        while !fleet.mesh.is_at_rest()? {
            fleet.hear().await?;
        }
        let settled = Instant::now() + mesh::SETTLE_INTERVAL;
        while Instant::now() < settled {
            fleet.hear().await?;
        }
        Ok(fleet)
    }

    /// Starts one more and waits until it is online.
    async fn start_next(
        &mut self,
        args: &LoadArgs,
        rooms: &[RoomName],
        folders: Option<&Path>,
    ) -> Result<(), Failure> {
        let n = self.children.len();
        let entry = self.told.first().and_then(|told| told.online.as_ref());
        let entry = entry.map(|(_, address)| address.clone());
        let plan = NodePlan::of(args, rooms, folders, n, entry)?;
        let teller = self.teller.clone();
        // A closed channel means that the child is being ended.
        let hear = move |line| drop(teller.send((n, line)));
        self.children.push(Process::start(NODE, hear)?);
        self.told.push(ChildReport::default());
        tracing::info!("{}", self.name(n));
        self.order(n, &Order::Start(plan))?;
        self.until(n, "online", |told| told.online.is_some()).await
    }

    async fn connect(&mut self, from: usize, to: usize) -> Result<(), Failure> {
        let Some((_, address)) = &self.told[to].online else {
            return Err(Failure::new(format!("{} is not online", self.name(to))));
        };
        let address = address.to_string();
        let links = self.told[from].connected + 1;
        self.order(from, &Order::Connect { address })?;
        self.until(from, "linked", |told| told.connected == links)
            .await
    }

    /// The ids of the first `count` nodes.
    pub(super) fn peer_ids(&self, count: usize) -> Vec<PeerId> {
        let online = self.told.iter().filter_map(|told| told.online.as_ref());
        online.take(count).map(|(peer_id, _)| *peer_id).collect()
    }

    /// Returns the counter of deliveries, which grows with the reports.
    pub(super) fn came(&self) -> Arc<AtomicU64> {
        self.came.clone()
    }

    /// Whether the first `publishers` nodes have sent everything.
    pub(super) fn have_sent(&self, publishers: usize) -> bool {
        self.told[..publishers].iter().all(|told| told.sent)
    }

    pub(super) fn order(&mut self, n: usize, order: &Order) -> Result<(), Failure> {
        let line = serde_json::to_string(order).map_err(Failure::new)?;
        // A child that has ended does not read; that it has ended is heard next.
        if let Err(error) = self.children[n].say(&line) {
            tracing::debug!("{} does not read: {error}", self.name(n));
        }
        Ok(())
    }

    /// Everybody's report.
    pub(super) async fn reports(&mut self) -> Result<Vec<Report>, Failure> {
        for n in 0..self.children.len() {
            self.order(n, &Order::Report)?;
        }
        self.until_all("done with its report", |told| told.report.is_some())
            .await?;
        let reports = self.told.iter_mut().filter_map(|told| told.report.take());
        Ok(reports.map(|report| *report).collect())
    }

    pub(super) async fn until_all(
        &mut self,
        what: &str,
        done: impl Fn(&ChildReport) -> bool,
    ) -> Result<(), Failure> {
        for n in 0..self.children.len() {
            self.until(n, what, &done).await?;
        }
        Ok(())
    }

    /// Reads reports until `done` holds for this child.
    async fn until(
        &mut self,
        n: usize,
        what: &str,
        done: impl Fn(&ChildReport) -> bool,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        while !done(&self.told[n]) {
            if begun.elapsed() > CHILD_TIMEOUT {
                let (name, seconds) = (self.name(n), CHILD_TIMEOUT.as_secs());
                return Err(Failure::new(format!(
                    "{name} is not {what} after {seconds} s: is the machine busy with something else?"
                )));
            }
            self.hear().await?;
        }
        Ok(())
    }

    /// Reads the next report, if there is one within [`POLL_INTERVAL`].
    pub(super) async fn hear(&mut self) -> Result<(), Failure> {
        let Ok(Some((n, line))) = timeout(POLL_INTERVAL, self.lines.recv()).await else {
            return Ok(());
        };
        let Some(line) = line else {
            return Err(self.failure_of(n).await);
        };
        let answer = serde_json::from_str(&line)
            .map_err(|e| Failure::new(format!("{} says what it should not: {e}", self.name(n))))?;
        let told = &mut self.told[n];
        match answer {
            Answer::Online { peer_id, address } => {
                self.mesh.update(peer_id.clone(), Default::default());
                let peer_id = peer_id.parse().map_err(Failure::new)?;
                told.online = Some((peer_id, address.parse().map_err(Failure::new)?));
            }
            Answer::Connected => told.connected += 1,
            Answer::Links(peers) => {
                if let Some((peer_id, _)) = &told.online {
                    self.mesh.update(peer_id.to_string(), peers);
                }
            }
            Answer::Ready => told.ready = true,
            Answer::Came(came) => {
                let more = came.saturating_sub(told.came);
                told.came = came;
                self.came.fetch_add(more, Ordering::Relaxed);
            }
            Answer::Sent => told.sent = true,
            Answer::Report(report) => told.report = Some(report),
            Answer::Failed(reason) => {
                return Err(Failure::new(format!("{}: {reason}", self.name(n))));
            }
        }
        Ok(())
    }

    async fn failure_of(&mut self, n: usize) -> Failure {
        let how = match self.children[n].ended(EXIT_TIMEOUT).await {
            Some(status) => status.to_string(),
            None => "it closed its output".to_owned(),
        };
        let name = self.name(n);
        Failure::new(format!(
            "{name} ended before its time ({how}): the run does not count"
        ))
    }

    /// As people find it in a list of processes.
    fn name(&self, n: usize) -> String {
        format!("node {} (process {})", n + 1, self.children[n].id())
    }

    /// Has every node say good-bye.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        for child in &mut self.children {
            child.end_stdin();
        }
        for n in 0..self.children.len() {
            match self.children[n].ended(SHUTDOWN_TIMEOUT).await {
                Some(status) if status.success() => {}
                Some(_) => return Err(self.failure_of(n).await),
                None => tracing::warn!("{} did not end, and is killed", self.name(n)),
            }
        }
        Ok(())
    }
}
