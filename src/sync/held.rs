//! The set that is compared with one neighbour: our items, and beside them those that this neighbour has removed, which
//! must not be found lacking again.
//!
//! Entry type: [`Held`]. The rule it keeps: as in [`Items`], a query costs at most the heights of the trees, and the
//! logarithm of the number of items beside.

use super::items::{Items, Sum};
use crate::model::Item;

/// Ordered view of two trees that have no item in common.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    items: &'a Items,
    /// None when it would be empty.
    beside: Option<&'a Items>,
}

impl<'a> From<&'a Items> for Held<'a> {
    fn from(items: &'a Items) -> Held<'a> {
        Held {
            items,
            beside: None,
        }
    }
}

impl<'a> Held<'a> {
    pub(super) fn with(items: &'a Items, beside: Option<&'a Items>) -> Held<'a> {
        Held {
            items,
            beside: beside.filter(|beside| !beside.is_empty()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len() + self.beside.map_or(0, Items::len)
    }

    /// Returns the number of items before `bound`.
    pub(super) fn index_of(&self, bound: &Item) -> usize {
        self.items.index_of(bound) + self.beside.map_or(0, |beside| beside.index_of(bound))
    }

    /// Returns the sum of the items from index `lower` up to but not including `upper`.
    pub(super) fn sum(&self, lower: usize, upper: usize) -> Sum {
        let (from, to) = (self.place(lower), self.place(upper));
        let mut sum = self.items.sum(from.0, to.0);
        if let Some(beside) = self.beside {
            sum.add(&beside.sum(from.1, to.1));
        }
        sum
    }

    /// Returns the items from index `lower` on.
    pub(super) fn iter_from(&self, lower: usize) -> impl Iterator<Item = &'a Item> {
        let place = self.place(lower);
        let mut items = self.items.iter_from(place.0).peekable();
        let mut beside = self
            .beside
            .map(|beside| beside.iter_from(place.1).peekable());
        std::iter::from_fn(move || {
            let Some(beside) = &mut beside else {
                return items.next();
            };
            match (items.peek(), beside.peek()) {
                (Some(item), Some(other)) if other < item => beside.next(),
                (None, _) => beside.next(),
                _ => items.next(),
            }
        })
    }

    /// Returns the number of items of each tree before the item with this index.
    fn place(&self, index: usize) -> (usize, usize) {
        let Some(beside) = self.beside else {
            return (index, 0);
        };
        // Binary search: counts the items beside with a rank below `index`.
        let (mut low, mut high) = (0, beside.len().min(index));
        while low < high {
            let middle = low + (high - low) / 2;
            let rank = beside
                .iter_from(middle)
                .next()
                .map(|item| middle + self.items.index_of(item));
            match rank {
                Some(rank) if rank < index => low = middle + 1,
                _ => high = middle,
            }
        }
        (index - low, low)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn two_trees_are_as_one(
            all in prop::collection::btree_map(0u64..500, any::<bool>(), 0..300),
            (from, to) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        ) {
            let item = |ms: u64| Item { sent_at_ms: ms, id: [ms as u8; 32] };
            let of = |is_beside: bool| -> Items {
                let some = all.iter().filter(|(_, beside)| **beside == is_beside);
                some.map(|(ms, _)| item(*ms)).collect()
            };
            let (items, beside) = (of(false), of(true));
            let held = Held::with(&items, Some(&beside));
            let one: Items = all.keys().map(|ms| item(*ms)).collect();
            prop_assert_eq!(held.len(), one.len());
            let (from, to) = (from.index(one.len() + 1), to.index(one.len() + 1));
            let (from, to) = (from.min(to), from.max(to));
            prop_assert_eq!(held.sum(from, to), one.sum(from, to));
            prop_assert!(held.iter_from(from).eq(one.iter_from(from)));
            prop_assert_eq!(held.index_of(&item(250)), one.index_of(&item(250)));
        }
    }
}
