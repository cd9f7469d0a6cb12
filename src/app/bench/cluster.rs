//! Nodes as users run them, in this process, linked over websockets on loopback.
//!
//! Entry type: [`Cluster`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use libp2p::PeerId;
use tempfile::TempDir;

use super::super::failure::Failure;
use super::args::LoadArgs;
use super::tally::Tally;
use crate::gossip::RoomName;
use crate::identity::Identity;
use crate::node::{Address, Event, Events, Node, NodeBuilder};

/// A node with fewer links looks for more at once: the default.
const LEAST_LINKS: usize = 2;
/// No link comes or goes for this long: the nodes have found their places.
const REST: Duration = Duration::from_secs(1);
/// How long they may take for that.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long the mesh is given to form once the links are there: more than a heartbeat.
const SETTLE: Duration = Duration::from_millis(1500);

/// Nodes with their links.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    events: Vec<Events>,
    /// Their logs, removed with it.
    _folders: Option<TempDir>,
}

impl Cluster {
    /// Starts nodes in `rooms`, lets them link as was asked for, and waits until they are in each
    /// other's mesh.
    pub(crate) async fn start(args: &LoadArgs, rooms: &[RoomName]) -> Result<Cluster, Failure> {
        let folders = match args.ephemeral {
            true => None,
            false => Some(TempDir::with_prefix("diatribe-bench-").map_err(Failure::new)?),
        };
        let mut cluster = Cluster {
            nodes: Vec::new(),
            events: Vec::new(),
            _folders: folders,
        };
        for n in 0..args.nodes.get() {
            let folder = match &cluster._folders {
                Some(folders) => Some(new_folder(folders.path(), n)?),
                None => None,
            };
            let mut builder = builder(rooms, folder.as_deref())?;
            if args.fixed_links {
                builder = builder.fixed_links(true);
            } else {
                let most = args.links.get();
                builder = builder.links(most, LEAST_LINKS.min(most));
                if let Some(entry) = cluster.nodes.first() {
                    builder = builder.dial([address_of(entry)?]);
                }
            }
            let (node, events) = builder.start_with_events().await.map_err(Failure::new)?;
            cluster.nodes.push(node);
            cluster.events.push(events);
        }
        if args.fixed_links {
            cluster
                .link(&graph(args.nodes.get(), args.links.get()))
                .await?;
        }
        cluster.at_rest().await?;
        tokio::time::sleep(SETTLE).await;
        Ok(cluster)
    }

    async fn link(&self, pairs: &[(usize, usize)]) -> Result<(), Failure> {
        for (from, to) in pairs {
            let address = address_of(&self.nodes[*to])?;
            self.nodes[*from]
                .connect(address)
                .await
                .map_err(Failure::new)?;
        }
        Ok(())
    }

    /// Waits until there is a way from the first node to every other and no link comes or goes.
    async fn at_rest(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut links = self.links().await;
        let mut since = Instant::now();
        while since.elapsed() < REST || !is_whole(&links) {
            if begun.elapsed() > PATIENCE {
                return Err(Failure::new("the nodes do not come to rest"));
            }
            tokio::time::sleep(LOOK).await;
            let now = self.links().await;
            if now != links {
                links = now;
                since = Instant::now();
            }
        }
        Ok(())
    }

    /// Whom each node is linked with.
    async fn links(&self) -> BTreeMap<PeerId, BTreeSet<PeerId>> {
        let mut links = BTreeMap::new();
        for node in &self.nodes {
            let peers = node.peers().await;
            links.insert(
                node.peer_id(),
                peers.iter().map(|link| link.peer_id).collect(),
            );
        }
        links
    }

    /// Begins to read what the nodes hear into `tally`.
    pub(crate) fn listen(&mut self, tally: &Arc<Tally>) {
        for (n, events) in self.events.drain(..).enumerate() {
            tokio::spawn(read(n, events, tally.clone()));
        }
    }

    /// Messages that came over all links of all nodes, every copy counted.
    pub(crate) fn copies(&self) -> u64 {
        self.nodes.iter().map(Node::gossip_copies).sum()
    }

    pub(crate) async fn stop(self) {
        let stopping: FuturesUnordered<_> = self.nodes.iter().map(Node::shutdown).collect();
        stopping.collect::<()>().await;
    }
}

/// A node on loopback, its log in `folder` if there is one.
pub(crate) async fn start_one(
    rooms: &[RoomName],
    folder: Option<&Path>,
) -> Result<(Node, Events), Failure> {
    builder(rooms, folder)?
        .fixed_links(true)
        .start_with_events()
        .await
        .map_err(Failure::new)
}

pub(crate) fn builder(rooms: &[RoomName], folder: Option<&Path>) -> Result<NodeBuilder, Failure> {
    let loopback = "/ip4/127.0.0.1/tcp/0/ws".parse().map_err(Failure::new)?;
    let builder = Node::builder()
        .identity(Identity::generate())
        .listen([loopback])
        .rooms(rooms.iter().cloned())
        .exempt_loopback(true);
    Ok(match folder {
        Some(folder) => builder.data_dir(folder),
        None => builder,
    })
}

pub(crate) fn address_of(node: &Node) -> Result<Address, Failure> {
    node.addresses()[0].clone().try_into().map_err(Failure::new)
}

fn new_folder(parent: &Path, n: usize) -> Result<PathBuf, Failure> {
    let folder = parent.join(n.to_string());
    std::fs::create_dir(&folder).map_err(Failure::new)?;
    Ok(folder)
}

/// Whether every node can be reached from the first.
fn is_whole(links: &BTreeMap<PeerId, BTreeSet<PeerId>>) -> bool {
    let mut reached: BTreeSet<PeerId> = links.keys().take(1).copied().collect();
    let mut next: Vec<PeerId> = reached.iter().copied().collect();
    while let Some(peer_id) = next.pop() {
        for other in links.get(&peer_id).into_iter().flatten() {
            if reached.insert(*other) {
                next.push(*other);
            }
        }
    }
    links.keys().all(|peer_id| reached.contains(peer_id))
}

async fn read(n: usize, mut events: Events, tally: Arc<Tally>) {
    while let Some(event) = events.next().await {
        match event {
            Event::Message(message) => tally.came(n, &message),
            Event::Missed { events } => tally.missed(n, events),
            Event::Error { reason } => tracing::error!(node = n, reason, "a node complains"),
            Event::LinkDown { reason, .. } => tracing::debug!(node = n, reason, "a link is lost"),
            _ => {}
        }
    }
}

/// Who dials whom: a ring with chords, at most `links` at each node. The chords grow by equal
/// factors, so that the way across a large ring is short.
fn graph(count: usize, links: usize) -> Vec<(usize, usize)> {
    let offsets = links / 2;
    let mut steps: Vec<usize> = (0..offsets)
        .map(|k| (count as f64).powf(k as f64 / offsets as f64) as usize)
        .collect();
    if !links.is_multiple_of(2) && count.is_multiple_of(2) {
        steps.push(count / 2);
    }
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for n in 0..count {
        for step in &steps {
            let other = (n + step) % count;
            let pair = (n.max(other), n.min(other));
            if n != other && !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_node_has_more_links_than_were_asked_for_and_every_node_is_reached() {
        for count in 2..40 {
            for links in 2..8 {
                let pairs = graph(count, links);
                let mut reached = vec![false; count];
                reached[0] = true;
                for _ in 0..count {
                    for (a, b) in &pairs {
                        let either = reached[*a] || reached[*b];
                        (reached[*a], reached[*b]) = (either, either);
                    }
                }
                assert!(reached.iter().all(|r| *r), "{count} nodes, {links} links");
                for n in 0..count {
                    let degree = pairs.iter().filter(|(a, b)| *a == n || *b == n).count();
                    assert!(
                        degree <= links,
                        "{count} nodes, {links} links: {degree} at {n}"
                    );
                }
            }
        }
    }
}
