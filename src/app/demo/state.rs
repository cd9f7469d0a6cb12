//! The state of the mesh as its nodes report it: links and deliveries.
//!
//! Entry type: [`MeshState`]. The rules it keeps: pure; a link counts from the report of its second end until the first
//! report of its loss.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::app::output;

/// Minimum number of links that every node should reach.
pub(super) const MIN_LINKS: usize = 2;
/// Maximum number of links of a node at rest.
pub(super) const MAX_LINKS: usize = 5;

/// Links and deliveries of nodes numbered from 1.
#[derive(Clone, Debug, Default)]
pub(super) struct MeshState {
    nodes: usize,
    /// Pairs of the reporting node and its peer.
    told: BTreeSet<(usize, usize)>,
    heard: Vec<Option<Delivery>>,
    most: usize,
}

/// The delivery of the message at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Time since it was sent.
    pub(super) after: Duration,
    /// Whether anti-entropy (data checking) delivered it, instead of gossip.
    pub(super) backfill: bool,
}

impl MeshState {
    pub(super) fn of(nodes: usize) -> MeshState {
        MeshState {
            nodes,
            heard: vec![None; nodes],
            ..MeshState::default()
        }
    }

    /// Records that `node` reports a link. Returns whether both ends have now reported it.
    pub(super) fn up(&mut self, node: usize, peer: usize, links: usize) -> bool {
        self.most = self.most.max(links);
        self.told.insert((node, peer)) && self.told.contains(&(peer, node))
    }

    /// Records that `node` reports the end of a link. Returns whether both ends had reported it.
    pub(super) fn down(&mut self, node: usize, peer: usize) -> bool {
        self.told.remove(&(node, peer)) && self.told.contains(&(peer, node))
    }

    /// Records the delivery of the message at `node`; the first one counts.
    pub(super) fn heard(&mut self, node: usize, heard: Delivery) {
        if let Some(slot) = self.heard.get_mut(node.wrapping_sub(1)) {
            slot.get_or_insert(heard);
        }
    }

    /// Returns the nodes that `node` is linked with.
    pub(super) fn links_of(&self, node: usize) -> Vec<usize> {
        let peers = self.told.range((node, 0)..(node + 1, 0));
        peers
            .map(|(_, peer)| *peer)
            .filter(|peer| self.told.contains(&(*peer, node)))
            .collect()
    }

    /// Returns every link once, the smaller number first.
    pub(super) fn links(&self) -> Vec<(usize, usize)> {
        let both = |(a, b): &&(usize, usize)| a < b && self.told.contains(&(*b, *a));
        self.told.iter().filter(both).copied().collect()
    }

    pub(super) fn when_heard(&self, node: usize) -> Option<Delivery> {
        *self.heard.get(node.wrapping_sub(1))?
    }

    /// Returns the maximum number of links that any node had at any time.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Returns whether every node has two to five links and all form one component.
    pub(super) fn is_settled(&self) -> bool {
        self.trouble_with_links().is_empty()
    }

    /// Returns whether the mesh is settled and every node has received the message.
    pub(super) fn is_done(&self) -> bool {
        self.missing().is_empty()
    }

    /// Returns the unmet promises, each in a sentence; empty when all hold.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing = self.trouble_with_links();
        let deaf: Vec<usize> = (1..=self.nodes)
            .filter(|node| self.when_heard(*node).is_none())
            .collect();
        if !deaf.is_empty() {
            missing.push(format!("the message has not come to {}", listed(&deaf)));
        }
        missing
    }

    fn trouble_with_links(&self) -> Vec<String> {
        let mut trouble = Vec::new();
        for node in 1..=self.nodes {
            let links = self.links_of(node).len();
            if !(MIN_LINKS..=MAX_LINKS).contains(&links) {
                let links = output::count(links);
                trouble.push(format!(
                    "node {node} has {links}, not {MIN_LINKS} to {MAX_LINKS}"
                ));
            }
        }
        let reached = self.reached_from_first();
        let apart: Vec<usize> = (1..=self.nodes).filter(|n| !reached.contains(n)).collect();
        if !apart.is_empty() {
            trouble.push(format!("no way leads from 1 to {}", listed(&apart)));
        }
        trouble
    }

    fn reached_from_first(&self) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut next = vec![1];
        while let Some(node) = next.pop() {
            if reached.insert(node) {
                next.extend(self.links_of(node));
            }
        }
        reached
    }
}

/// Returns the numbers as a list: "1, 2 and 3".
pub(super) fn listed(nodes: &[usize]) -> String {
    let texts: Vec<String> = nodes.iter().map(usize::to_string).collect();
    match texts.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => "nobody".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(nodes: usize) -> MeshState {
        let mut view = MeshState::of(nodes);
        for node in 1..=nodes {
            let next = node % nodes + 1;
            view.up(node, next, 2);
            view.up(next, node, 2);
        }
        view
    }

    #[test]
    fn a_link_counts_when_both_ends_tell_of_it_until_one_tells_of_its_end() {
        let mut view = MeshState::of(2);
        assert!(!view.up(1, 2, 1));
        assert!(view.links().is_empty());
        assert!(view.up(2, 1, 1));
        assert_eq!(view.links(), [(1, 2)]);
        assert!(view.down(1, 2));
        assert!(view.links().is_empty());
        assert!(!view.down(2, 1));
    }

    #[test]
    fn a_ring_is_settled_and_two_rings_are_not() {
        assert!(ring(4).is_settled());
        let mut view = MeshState::of(6);
        for (a, b) in [(1, 2), (2, 3), (3, 1), (4, 5), (5, 6), (6, 4)] {
            view.up(a, b, 2);
            view.up(b, a, 2);
        }
        assert_eq!(view.missing()[0], "no way leads from 1 to 4, 5 and 6");
    }

    #[test]
    fn who_has_too_few_links_or_no_message_is_named() {
        let mut view = ring(3);
        view.down(1, 2);
        for node in [1, 2] {
            let after = Duration::ZERO;
            view.heard(
                node,
                Delivery {
                    after,
                    backfill: false,
                },
            );
        }
        assert_eq!(
            view.missing(),
            [
                "node 1 has 1 link, not 2 to 5",
                "node 2 has 1 link, not 2 to 5",
                "the message has not come to 3"
            ]
        );
    }
}
