//! Nodes as users run them, in this process, linked over websockets on loopback.
//!
//! Entry function: [`measure`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tempfile::TempDir;

use super::super::failure::Failure;
use super::args::LoadArgs;
use super::load;
use super::machine::{self, Meter};
use super::measured::{Measured, PROGRESS_TIMEOUT, folders, plan};
use super::mesh::{self, Mesh};
use super::one::{NodePlan, address_of};
use super::progress::Progress;
use super::tally::Tally;
use crate::model::RoomName;
use crate::node::{Event, Events, Node};

/// How often the links are looked at.
const LINK_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Interval between checks whether every event has arrived.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Measures one run of all nodes in this process.
pub(crate) async fn measure(
    args: &LoadArgs,
    rooms: Vec<RoomName>,
    what: String,
) -> Result<Measured, Failure> {
    let mut cluster = Cluster::start(args, &rooms).await?;
    let publishers = &cluster.nodes[..args.publishers.get()];
    let plan = plan(args, rooms, publishers.iter().map(Node::peer_id).collect());
    let tally = Arc::new(Tally::new(plan, 0..args.nodes.get()));
    cluster.listen(&tally);
    let line = {
        let tally = tally.clone();
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
    cluster.stop().await;
    Ok(Measured {
        totals,
        begun,
        cost,
        copies,
    })
}

/// Waits until every event has arrived, or none has for [`PROGRESS_TIMEOUT`].
async fn arrived(tally: &Tally) {
    let mut last = (0, Instant::now());
    while tally.delivered() < tally.expected() && last.1.elapsed() < PROGRESS_TIMEOUT {
        if tally.delivered() > last.0 {
            last = (tally.delivered(), Instant::now());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Nodes with their links.
struct Cluster {
    nodes: Vec<Node>,
    events: Vec<Events>,
    /// Their logs, removed with it.
    _folders: Option<TempDir>,
}

impl Cluster {
    /// Starts nodes in `rooms`, lets them link as was asked for, and waits until they are in each
    /// other's mesh.
    async fn start(args: &LoadArgs, rooms: &[RoomName]) -> Result<Cluster, Failure> {
        let mut cluster = Cluster {
            nodes: Vec::new(),
            events: Vec::new(),
            _folders: folders(args)?,
        };
        for n in 0..args.nodes.get() {
            let folders = cluster._folders.as_ref().map(TempDir::path);
            let entry = cluster.nodes.first().map(address_of).transpose()?;
            let plan = NodePlan::of(args, rooms, folders, n, entry)?;
            let (node, events) = plan.start().await?;
            cluster.nodes.push(node);
            cluster.events.push(events);
        }
        if args.fixed_links {
            for (from, to) in mesh::graph(args.nodes.get(), args.links.get()) {
                let address = address_of(&cluster.nodes[to])?;
                let linked = cluster.nodes[from].connect(address).await;
                linked.map_err(Failure::new)?;
            }
        }
        cluster.at_rest().await?;
        tokio::time::sleep(mesh::SETTLE_INTERVAL).await;
        Ok(cluster)
    }

    async fn at_rest(&self) -> Result<(), Failure> {
        let mut mesh = Mesh::new();
        loop {
            for node in &self.nodes {
                let peers = node.peers().await;
                let peers = peers.iter().map(|link| link.peer_id.to_string()).collect();
                mesh.update(node.peer_id().to_string(), peers);
            }
            if mesh.is_at_rest()? {
                return Ok(());
            }
            tokio::time::sleep(LINK_POLL_INTERVAL).await;
        }
    }

    /// Starts to read the nodes' events into `tally`.
    fn listen(&mut self, tally: &Arc<Tally>) {
        for (n, events) in self.events.drain(..).enumerate() {
            tokio::spawn(read(n, events, tally.clone()));
        }
    }

    /// Returns the number of messages received over all links of all nodes, every copy counted.
    fn copies(&self) -> u64 {
        self.nodes.iter().map(Node::message_copies).sum()
    }

    async fn stop(self) {
        let stopping: FuturesUnordered<_> = self.nodes.iter().map(Node::shutdown).collect();
        stopping.collect::<()>().await;
    }
}

async fn read(n: usize, mut events: Events, tally: Arc<Tally>) {
    while let Some(event) = events.next().await {
        match event {
            Event::Message(message) => tally.came(n, &message),
            Event::Missed { events, .. } => tally.missed(n, events),
            Event::Error { reason } => tracing::error!(node = n, reason, "a node complains"),
            Event::LinkDown { reason, .. } => tracing::debug!(node = n, reason, "a link is lost"),
            _ => {}
        }
    }
}
