//! Measures of a graph of links: components, degrees, distances.
//!
//! Entry type: [`Graph`]. An edge counts when both of its ends have the link.

use super::world::{Id, World};

/// The links between live nodes at one moment.
pub(crate) struct Graph {
    pub(crate) edges: Vec<Vec<u32>>,
    pub(crate) ids: Vec<Id>,
}

/// Distances, over all sources or a sample of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Distances {
    pub(crate) diameter: u32,
    pub(crate) mean: f64,
    pub(crate) sources: usize,
}

impl Graph {
    /// Returns the graph of the nodes that `take` accepts.
    pub(crate) fn of(world: &World, take: impl Fn(Id) -> bool) -> Graph {
        let ids: Vec<Id> = world.alive().filter(|id| take(*id)).collect();
        let mut index = vec![u32::MAX; world.nodes.len()];
        for (at, id) in ids.iter().enumerate() {
            index[*id as usize] = at as u32;
        }
        let both = |a: Id, b: Id| {
            world.nodes[b as usize]
                .links
                .iter()
                .any(|(peer, _)| *peer == a)
        };
        let edges = ids
            .iter()
            .map(|&id| {
                let links = world.nodes[id as usize].links.iter().map(|(peer, _)| *peer);
                links
                    .filter(|&peer| index[peer as usize] != u32::MAX && both(id, peer))
                    .map(|peer| index[peer as usize])
                    .collect()
            })
            .collect();
        Graph { edges, ids }
    }

    /// Returns the share of nodes in the largest component.
    pub(crate) fn connected(&self) -> f64 {
        let mut seen = vec![false; self.ids.len()];
        let mut largest = 0;
        for from in 0..self.ids.len() {
            if !seen[from] {
                let mut size = 0;
                let mut stack = vec![from as u32];
                seen[from] = true;
                while let Some(at) = stack.pop() {
                    size += 1;
                    for &next in &self.edges[at as usize] {
                        if !std::mem::replace(&mut seen[next as usize], true) {
                            stack.push(next);
                        }
                    }
                }
                largest = largest.max(size);
            }
        }
        largest as f64 / self.ids.len().max(1) as f64
    }

    /// Returns the numbers of nodes with 0, 1, 2 … links.
    pub(crate) fn degrees(&self) -> [usize; 8] {
        let mut degrees = [0; 8];
        for edges in &self.edges {
            degrees[edges.len().min(7)] += 1;
        }
        degrees
    }

    pub(crate) fn mean_degree(&self) -> f64 {
        self.edges.iter().map(Vec::len).sum::<usize>() as f64 / self.ids.len().max(1) as f64
    }

    /// Returns the distances from at most `sources` nodes, spread evenly.
    pub(crate) fn distances(&self, sources: usize) -> Distances {
        let nodes = self.ids.len();
        let step = (nodes / sources.max(1)).max(1);
        let (mut diameter, mut sum, mut count, mut taken) = (0, 0u64, 0u64, 0);
        let mut distance = vec![u32::MAX; nodes];
        let mut queue = Vec::with_capacity(nodes);
        for source in (0..nodes).step_by(step) {
            taken += 1;
            distance.fill(u32::MAX);
            queue.clear();
            queue.push(source as u32);
            distance[source] = 0;
            let mut head = 0;
            while head < queue.len() {
                let at = queue[head] as usize;
                head += 1;
                for &next in &self.edges[at] {
                    if distance[next as usize] == u32::MAX {
                        distance[next as usize] = distance[at] + 1;
                        diameter = diameter.max(distance[at] + 1);
                        sum += u64::from(distance[at] + 1);
                        count += 1;
                        queue.push(next);
                    }
                }
            }
        }
        Distances {
            diameter,
            mean: sum as f64 / count.max(1) as f64,
            sources: taken,
        }
    }
}
