//! The links of the benchmark's nodes: the wanted graph, and whether the overlay has settled.
//!
//! Entry types: [`Mesh`]; entry function: [`graph`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::super::failure::Failure;

/// Interval without a change of links after which the overlay counts as settled.
const QUIET_INTERVAL: Duration = Duration::from_secs(1);
/// In a large mesh some link moves at any time: when there has been a way to everybody for this
/// long, it is as much at rest as it will be.
const CONNECTED_INTERVAL: Duration = Duration::from_secs(5);
/// How long they may take for that, and how much longer for each node.
const MESH_TIMEOUT: Duration = Duration::from_secs(60);
const MESH_TIMEOUT_PER_NODE: Duration = Duration::from_secs(1);
/// How long the mesh is given to form once the links are there: more than a heartbeat.
pub(crate) const SETTLE_INTERVAL: Duration = Duration::from_millis(1500);

type Links = BTreeMap<String, BTreeSet<String>>;

/// The links of all nodes, by their ids, with the time of the last change.
#[derive(Debug)]
pub(crate) struct Mesh {
    links: Links,
    begun: Instant,
    still_since: Instant,
    whole_since: Option<Instant>,
}

impl Mesh {
    pub(crate) fn new() -> Mesh {
        Mesh {
            links: Links::new(),
            begun: Instant::now(),
            still_since: Instant::now(),
            whole_since: None,
        }
    }

    /// A node is linked with these now.
    pub(crate) fn update(&mut self, node: String, peers: BTreeSet<String>) {
        if self.links.get(&node) == Some(&peers) {
            return;
        }
        self.links.insert(node, peers);
        let now = Instant::now();
        self.still_since = now;
        self.whole_since = match is_whole(&self.links) {
            true => self.whole_since.or(Some(now)),
            false => None,
        };
    }

    /// Whether there is a way from the first node to every other, and has been for long enough; an
    /// error when that is not going to be.
    pub(crate) fn is_at_rest(&self) -> Result<bool, Failure> {
        let nodes = u32::try_from(self.links.len()).unwrap_or(u32::MAX);
        if self.begun.elapsed() > MESH_TIMEOUT + MESH_TIMEOUT_PER_NODE * nodes {
            return Err(Failure::new(
                "the nodes do not come to rest: is the machine busy with something else?",
            ));
        }
        Ok(self.whole_since.is_some_and(|since| {
            self.still_since.elapsed() >= QUIET_INTERVAL || since.elapsed() >= CONNECTED_INTERVAL
        }))
    }
}

/// Whether every node can be reached from the first.
fn is_whole(links: &Links) -> bool {
    let mut reached: BTreeSet<&String> = links.keys().take(1).collect();
    let mut next: Vec<&String> = reached.iter().copied().collect();
    while let Some(node) = next.pop() {
        for other in links.get(node).into_iter().flatten() {
            if reached.insert(other) {
                next.push(other);
            }
        }
    }
    links.keys().all(|node| reached.contains(node))
}

/// Returns the pairs that dial each other: a ring with chords, at most `links` at each node. The chords grow by equal
/// factors, so that the path across a large ring is short.
pub(crate) fn graph(count: usize, links: usize) -> Vec<(usize, usize)> {
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
