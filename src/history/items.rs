//! What a room holds, as it is compared: items in order, with the sum of any range at hand.
//!
//! Entry type: [`Items`]. The rule it keeps: the sum of a range costs the blocks it spans and the
//! rest of two, not its items, so that saying "we agree" about 100,000 batches takes microseconds.

use super::record::Id;

/// An item of the comparison: when the batch was sent and its id, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// Unix time in milliseconds, as signed by the author.
    pub sent_at_ms: u64,
    /// The batch id.
    pub id: Id,
}

impl Item {
    /// The first item that could have been sent at this time.
    pub const fn at(sent_at_ms: u64) -> Item {
        Item {
            sent_at_ms,
            id: [0; 32],
        }
    }
}

/// Items in a full block; a block that outgrows it is halved. Sums over n items cost about n / this
/// + this steps: the root of the 100,000 batches that are a large room.
const BLOCK: usize = 512;

/// The sum of ids as little-endian numbers modulo 2^256, and how many they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    lanes: [u64; 4],
    count: u64,
}

impl Sum {
    /// How many ids were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum as 32 little-endian bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (eight, lane) in bytes.chunks_exact_mut(8).zip(self.lanes) {
            eight.copy_from_slice(&lane.to_le_bytes());
        }
        bytes
    }

    fn add_id(&mut self, id: &Id) {
        let mut lanes = [0; 4];
        for (lane, eight) in lanes.iter_mut().zip(id.chunks_exact(8)) {
            *lane = eight
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte));
        }
        self.add(&Sum { lanes, count: 1 });
    }

    fn add(&mut self, other: &Sum) {
        let mut carry = false;
        for (lane, more) in self.lanes.iter_mut().zip(other.lanes) {
            let (sum, over) = lane.overflowing_add(more);
            let (sum, over_too) = sum.overflowing_add(u64::from(carry));
            *lane = sum;
            carry = over || over_too;
        }
        self.count += other.count;
    }

    fn of(items: &[Item]) -> Sum {
        let mut sum = Sum::default();
        for item in items {
            sum.add_id(&item.id);
        }
        sum
    }
}

/// The items of one room, in order.
#[derive(Clone, Debug, Default)]
pub struct Items {
    /// Each sorted, all in order, none empty.
    blocks: Vec<Block>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Block {
    items: Vec<Item>,
    sum: Sum,
}

impl Block {
    fn new(items: Vec<Item>) -> Block {
        Block {
            sum: Sum::of(&items),
            items,
        }
    }

    fn last(&self) -> Option<&Item> {
        self.items.last()
    }
}

impl Items {
    /// No items.
    pub fn new() -> Items {
        Items::default()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first item.
    pub fn first(&self) -> Option<&Item> {
        self.blocks.first().and_then(|block| block.items.first())
    }

    /// Adds an item; whether it was new.
    pub fn insert(&mut self, item: Item) -> bool {
        let at = self
            .blocks
            .partition_point(|block| block.last().is_some_and(|last| *last < item));
        let Some(block) = self.blocks.get_mut(at) else {
            return self.push(item);
        };
        let Err(place) = block.items.binary_search(&item) else {
            return false;
        };
        block.items.insert(place, item);
        block.sum.add_id(&item.id);
        self.len += 1;
        if block.items.len() > BLOCK {
            let upper = Block::new(block.items.split_off(BLOCK / 2));
            block.sum = Sum::of(&block.items);
            self.blocks.insert(at + 1, upper);
        }
        true
    }

    /// Removes everything before `bound`.
    pub fn remove_before(&mut self, bound: Item) {
        let whole = self
            .blocks
            .partition_point(|block| block.last().is_some_and(|l| *l < bound));
        for block in self.blocks.drain(..whole) {
            self.len -= block.items.len();
        }
        if let Some(block) = self.blocks.first_mut() {
            let gone = block.items.partition_point(|item| *item < bound);
            if gone > 0 {
                self.len -= gone;
                *block = Block::new(block.items.split_off(gone));
            }
        }
    }

    /// Whether it is among them.
    pub fn contains(&self, item: &Item) -> bool {
        let at = self
            .blocks
            .partition_point(|block| block.last().is_some_and(|last| last < item));
        self.blocks
            .get(at)
            .is_some_and(|block| block.items.binary_search(item).is_ok())
    }

    /// How many items are before `bound`: the index of the first that is not.
    pub fn index_of(&self, bound: &Item) -> usize {
        let at = self
            .blocks
            .partition_point(|block| block.last().is_some_and(|last| last < bound));
        let before: usize = self.blocks[..at]
            .iter()
            .map(|block| block.items.len())
            .sum();
        before
            + self
                .blocks
                .get(at)
                .map_or(0, |block| block.items.partition_point(|i| i < bound))
    }

    /// The sum over the items from index `lower` up to before `upper`.
    pub fn sum(&self, lower: usize, upper: usize) -> Sum {
        let mut sum = Sum::default();
        let mut begin = 0;
        for block in &self.blocks {
            let end = begin + block.items.len();
            if end > lower && begin < upper {
                if lower <= begin && end <= upper {
                    sum.add(&block.sum);
                } else {
                    let from = lower.saturating_sub(begin);
                    let to = (upper - begin).min(block.items.len());
                    sum.add(&Sum::of(&block.items[from..to]));
                }
            }
            if end >= upper {
                break;
            }
            begin = end;
        }
        sum
    }

    /// The items from index `lower` on.
    pub fn iter_from(&self, lower: usize) -> impl Iterator<Item = &Item> {
        let mut skip = lower;
        let mut first = 0;
        for block in &self.blocks {
            if skip < block.items.len() {
                break;
            }
            skip -= block.items.len();
            first += 1;
        }
        self.blocks[first..]
            .iter()
            .flat_map(|block| &block.items)
            .skip(skip)
    }

    fn push(&mut self, item: Item) -> bool {
        self.len += 1;
        match self.blocks.last_mut() {
            Some(block) if block.items.len() < BLOCK => {
                block.items.push(item);
                block.sum.add_id(&item.id);
            }
            _ => self.blocks.push(Block::new(vec![item])),
        }
        true
    }
}

impl FromIterator<Item> for Items {
    /// From any order; what is in order already costs least.
    fn from_iter<I: IntoIterator<Item = Item>>(iter: I) -> Items {
        let mut items = Items::new();
        for item in iter {
            items.insert(item);
        }
        items
    }
}
