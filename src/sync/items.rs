//! Index of a room for range-based set reconciliation: ordered items, with the sum of any range available at once.
//!
//! Entry type: [`Items`], a B+ tree that knows the number and the sum of the ids in each subtree. The rule it keeps:
//! the sum of a range, the index of an item and the item at an index cost the height of the tree, whatever the length
//! of the range. So the cost of a neighbour's frame grows with its length and the logarithm of the number of items.

use crate::model::{Id, Item};

/// Number of items in a full leaf: the maximum cost of one lookup in it.
const LEAF: usize = 32;

/// Number of subtrees in a full inner node. With 2^20 items the tree has five levels.
const FANOUT: usize = 16;

/// Sum of ids, as little-endian numbers modulo 2^256, and their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    lanes: [u64; 4],
    count: u64,
}

impl Sum {
    /// Returns the number of ids.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the sum as 32 little-endian bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (eight, lane) in bytes.chunks_exact_mut(8).zip(self.lanes) {
            eight.copy_from_slice(&lane.to_le_bytes());
        }
        bytes
    }

    fn of_id(id: &Id) -> Sum {
        let mut lanes = [0; 4];
        for (lane, eight) in lanes.iter_mut().zip(id.chunks_exact(8)) {
            *lane = eight
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte));
        }
        Sum { lanes, count: 1 }
    }

    pub(super) fn add(&mut self, other: &Sum) {
        work::count(1);
        let mut carry = false;
        for (lane, more) in self.lanes.iter_mut().zip(other.lanes) {
            let (sum, over) = lane.overflowing_add(more);
            let (sum, over_too) = sum.overflowing_add(u64::from(carry));
            *lane = sum;
            carry = over || over_too;
        }
        self.count += other.count;
    }

    fn subtract(&mut self, other: &Sum) {
        work::count(1);
        let mut borrow = false;
        for (lane, less) in self.lanes.iter_mut().zip(other.lanes) {
            let (rest, under) = lane.overflowing_sub(less);
            let (rest, under_too) = rest.overflowing_sub(u64::from(borrow));
            *lane = rest;
            borrow = under || under_too;
        }
        self.count -= other.count;
    }

    fn of(items: &[Item]) -> Sum {
        let mut sum = Sum::default();
        for item in items {
            sum.add(&Sum::of_id(&item.id));
        }
        sum
    }
}

/// The items of one room, in order.
#[derive(Clone, Debug, Default)]
pub struct Items {
    root: Node,
    sum: Sum,
}

#[derive(Clone, Debug)]
enum Node {
    /// In order.
    Leaf(Vec<Item>),
    /// In order, none empty.
    Inner(Vec<Child>),
}

/// A subtree, with its last item and its sum.
#[derive(Clone, Debug)]
struct Child {
    last: Item,
    sum: Sum,
    node: Node,
}

/// Result of an insertion.
enum Inserted {
    /// The item was present already.
    Held,
    Done,
    /// The node was split: this is its right part.
    Split(Node),
}

impl Default for Node {
    fn default() -> Node {
        Node::Leaf(Vec::new())
    }
}

impl Child {
    /// Returns none when the node is empty.
    fn of(node: Node) -> Option<Child> {
        let (last, sum) = match &node {
            Node::Leaf(items) => (*items.last()?, Sum::of(items)),
            Node::Inner(children) => {
                let mut sum = Sum::default();
                for child in children {
                    sum.add(&child.sum);
                }
                (children.last()?.last, sum)
            }
        };
        Some(Child { last, sum, node })
    }

    fn len(&self) -> usize {
        self.sum.count as usize
    }
}

/// Returns the index of the child to which `item` belongs.
fn child_of(children: &[Child], item: &Item) -> usize {
    work::count(1);
    children.partition_point(|child| child.last < *item)
}

impl Node {
    fn insert(&mut self, item: Item) -> Inserted {
        match self {
            Node::Leaf(items) => {
                let Err(place) = items.binary_search(&item) else {
                    return Inserted::Held;
                };
                items.insert(place, item);
                match cut(items, LEAF, place) {
                    Some(right) => Inserted::Split(Node::Leaf(right)),
                    None => Inserted::Done,
                }
            }
            Node::Inner(children) => {
                let at = child_of(children, &item).min(children.len() - 1);
                let child = &mut children[at];
                match child.node.insert(item) {
                    Inserted::Held => Inserted::Held,
                    Inserted::Done => {
                        child.last = child.last.max(item);
                        child.sum.add(&Sum::of_id(&item.id));
                        Inserted::Done
                    }
                    Inserted::Split(right) => {
                        let left = Child::of(std::mem::take(&mut child.node));
                        children.splice(at..=at, left.into_iter().chain(Child::of(right)));
                        match cut(children, FANOUT, at + 1) {
                            Some(right) => Inserted::Split(Node::Inner(right)),
                            None => Inserted::Done,
                        }
                    }
                }
            }
        }
    }

    /// Removes an item. Returns whether it was present.
    fn remove(&mut self, item: &Item) -> bool {
        match self {
            Node::Leaf(items) => match items.binary_search(item) {
                Ok(place) => {
                    items.remove(place);
                    true
                }
                Err(_) => false,
            },
            Node::Inner(children) => {
                let at = child_of(children, item);
                let is_removed = children
                    .get_mut(at)
                    .is_some_and(|child| child.node.remove(item));
                if is_removed {
                    renew(children, at);
                }
                is_removed
            }
        }
    }

    /// Returns the allocated memory, in bytes.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        match self {
            Node::Leaf(items) => items.capacity() * size_of::<Item>(),
            Node::Inner(children) => {
                let below: usize = children.iter().map(|child| child.node.bytes()).sum();
                below + children.capacity() * size_of::<Child>()
            }
        }
    }

    fn remove_before(&mut self, bound: &Item) {
        match self {
            Node::Leaf(items) => {
                items.drain(..items.partition_point(|item| item < bound));
            }
            Node::Inner(children) => {
                children.drain(..child_of(children, bound));
                if let Some(first) = children.first_mut() {
                    first.node.remove_before(bound);
                    renew(children, 0);
                }
            }
        }
    }

    fn index_of(&self, bound: &Item) -> usize {
        match self {
            Node::Leaf(items) => {
                work::count(1);
                items.partition_point(|item| item < bound)
            }
            Node::Inner(children) => {
                let at = child_of(children, bound);
                work::count(at as u64);
                let before: usize = children[..at].iter().map(Child::len).sum();
                before
                    + children
                        .get(at)
                        .map_or(0, |child| child.node.index_of(bound))
            }
        }
    }

    /// Adds the first `count` items to `sum`.
    fn add_first(&self, mut count: usize, sum: &mut Sum) {
        match self {
            Node::Leaf(items) => {
                for item in items.iter().take(count) {
                    sum.add(&Sum::of_id(&item.id));
                }
            }
            Node::Inner(children) => {
                for child in children {
                    if count < child.len() {
                        return child.node.add_first(count, sum);
                    }
                    sum.add(&child.sum);
                    count -= child.len();
                }
            }
        }
    }
}

/// Splits a node with more than `most` entries: in the middle, or before its last entry if that was just added. Most
/// items are added in order, and so the nodes before the last one stay full.
fn cut<T>(all: &mut Vec<T>, most: usize, added_at: usize) -> Option<Vec<T>> {
    if all.len() <= most {
        return None;
    }
    let at = match added_at + 1 == all.len() {
        true => most,
        false => all.len() / 2,
    };
    let after = all.split_off(at);
    // The vector has doubled its capacity for one entry, and most nodes never grow again.
    all.shrink_to_fit();
    Some(after)
}

/// Updates the child at `at`, from which items were removed.
fn renew(children: &mut Vec<Child>, at: usize) {
    let node = std::mem::take(&mut children[at].node);
    children.splice(at..=at, Child::of(node));
}

impl Items {
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.root.bytes()
    }

    /// Returns an empty index.
    pub fn new() -> Items {
        Items::default()
    }

    /// Returns the number of items.
    pub fn len(&self) -> usize {
        self.sum.count as usize
    }

    /// Returns whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the first item.
    pub fn first(&self) -> Option<&Item> {
        self.iter_from(0).next()
    }

    /// Adds an item. Returns whether it was new.
    pub fn insert(&mut self, item: Item) -> bool {
        match self.root.insert(item) {
            Inserted::Held => return false,
            Inserted::Done => {}
            Inserted::Split(right) => {
                let left = Child::of(std::mem::take(&mut self.root));
                let children = left.into_iter().chain(Child::of(right));
                self.root = Node::Inner(children.collect());
            }
        }
        self.sum.add(&Sum::of_id(&item.id));
        true
    }

    /// Removes an item. Returns whether it was present.
    pub fn remove(&mut self, item: &Item) -> bool {
        let is_removed = self.root.remove(item);
        if is_removed {
            self.sum.subtract(&Sum::of_id(&item.id));
            self.flatten();
        }
        is_removed
    }

    /// Removes all items before `bound`.
    pub fn remove_before(&mut self, bound: Item) {
        self.root.remove_before(&bound);
        self.flatten();
        self.sum = Sum::default();
        self.root.add_first(usize::MAX, &mut self.sum);
    }

    /// Returns whether the item is present.
    pub fn contains(&self, item: &Item) -> bool {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(items) => return items.binary_search(item).is_ok(),
                Node::Inner(children) => match children.get(child_of(children, item)) {
                    Some(child) => node = &child.node,
                    None => return false,
                },
            }
        }
    }

    /// Returns the number of items before `bound`, which is the index of the first item that is not before it.
    pub fn index_of(&self, bound: &Item) -> usize {
        self.root.index_of(bound)
    }

    /// Returns the sum of the items from index `lower` up to but not including `upper`.
    pub fn sum(&self, lower: usize, upper: usize) -> Sum {
        if lower >= upper {
            return Sum::default();
        }
        let (mut sum, mut before) = (Sum::default(), Sum::default());
        self.root.add_first(upper, &mut sum);
        self.root.add_first(lower, &mut before);
        sum.subtract(&before);
        sum
    }

    /// Returns the items from index `lower` on.
    pub fn iter_from(&self, mut lower: usize) -> impl Iterator<Item = &Item> {
        let mut iter = Iter::default();
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(items) => {
                    iter.leaf = items.get(lower..).unwrap_or_default().iter();
                    return iter;
                }
                Node::Inner(children) => {
                    let mut at = 0;
                    while at < children.len() && lower >= children[at].len() {
                        work::count(1);
                        lower -= children[at].len();
                        at += 1;
                    }
                    let Some(child) = children.get(at) else {
                        return iter;
                    };
                    iter.inner.push(children[at + 1..].iter());
                    node = &child.node;
                }
            }
        }
    }

    /// A root with one child is none.
    fn flatten(&mut self) {
        while let Node::Inner(children) = &mut self.root
            && children.len() <= 1
        {
            self.root = children.pop().map(|child| child.node).unwrap_or_default();
        }
    }
}

/// Goes through the items in order.
#[derive(Default)]
struct Iter<'a> {
    leaf: std::slice::Iter<'a, Item>,
    inner: Vec<std::slice::Iter<'a, Child>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Item;

    fn next(&mut self) -> Option<&'a Item> {
        loop {
            if let Some(item) = self.leaf.next() {
                work::count(1);
                return Some(item);
            }
            let Some(child) = self.inner.last_mut()?.next() else {
                self.inner.pop();
                continue;
            };
            match &child.node {
                Node::Leaf(items) => self.leaf = items.iter(),
                Node::Inner(children) => self.inner.push(children.iter()),
            }
        }
    }
}

impl FromIterator<Item> for Items {
    /// Builds the index from items in any order; ordered items cost least.
    fn from_iter<I: IntoIterator<Item = Item>>(iter: I) -> Items {
        let mut items = Items::new();
        for item in iter {
            items.insert(item);
        }
        items
    }
}

/// Counts the tree's steps in the tests, which bound the cost of a frame in steps, not in time.
pub(super) mod work {
    #[cfg(test)]
    thread_local!(static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });

    /// Counts sums that are added, nodes that are searched and items that are visited.
    #[cfg(test)]
    pub(super) fn count(steps: u64) {
        STEPS.set(STEPS.get() + steps);
    }

    #[cfg(not(test))]
    pub(super) fn count(_steps: u64) {}

    /// Returns the number of steps on this thread.
    #[cfg(test)]
    pub(in crate::sync) fn steps() -> u64 {
        STEPS.get()
    }
}
