//! Quotas of authors in a full log: counts the bytes of each author and picks the one to evict from.
//!
//! Entry type: [`Usage`]. The rules it keeps: the author with the most bytes is evicted from first, so that messages
//! never push out those of an author that holds less; keys cost nothing, so that all new authors share one quota; the
//! memory is bounded for any number of authors.

use std::collections::HashMap;

/// Divisor of the log's size that gives the quota of one author: 64 MiB of a log of the default size.
pub(super) const AUTHOR_SHARE: u64 = 16;

/// Divisor of the log's size that gives the common quota of all authors that are in the log for less than [`NEW_MS`]:
/// anybody can make any number of keys, and older authors keep the rest.
pub(super) const NEW_SHARE: u64 = 4;

/// Duration for which an author counts as new after its first batch was stored, in milliseconds: a day.
pub(super) const NEW_MS: u64 = 24 * 3600 * 1000;

/// Maximum number of authors that are counted one by one: 512 KiB of memory. Beyond it the smaller half is counted
/// together, by link. Small in the tests, so that this happens.
const MAX_AUTHORS: usize = if cfg!(test) { 64 } else { 8192 };

/// Maximum number of links counted for an author; further links count as the last of them.
const MAX_LINKS_PER_AUTHOR: usize = 8;

/// Row numbers of a batch's author and of the link that delivered it first (0 if this node made it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) author: i64,
    pub(super) link: i64,
}

/// Bytes that an author holds in the log.
#[derive(Clone, Debug, Default)]
struct Author {
    bytes: u64,
    /// Time at which its first batch was stored, in Unix milliseconds.
    since_ms: u64,
    /// Bytes that each link delivered.
    links: Vec<(i64, u64)>,
}

/// Quota that an eviction enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EvictionReason {
    /// The author exceeds the quota of one author.
    Author,
    /// The new authors exceed their common quota, and the link delivered the most of their bytes.
    Link,
    /// No quota is exceeded, and the author holds the most.
    Largest,
}

/// Author whose oldest batches are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    /// Row number of the author.
    pub(super) author: i64,
    /// Link that delivered most of its bytes; 0 for none.
    pub(super) link: i64,
    pub(super) reason: EvictionReason,
    /// Bytes of the author; for [`EvictionReason::Link`], of all new authors that the link delivered.
    pub(super) bytes: u64,
    /// Quota in bytes.
    pub(super) share: u64,
    /// Bytes that may be evicted before another author holds the most.
    pub(super) surplus: u64,
}

/// Bytes that each author holds, and that each link delivered.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    authors: HashMap<i64, Author>,
    /// Bytes of the authors that are not counted one by one, by link.
    others: HashMap<i64, u64>,
}

impl Author {
    fn add(&mut self, link: i64, bytes: u64) {
        self.bytes += bytes;
        let is_full = self.links.len() >= MAX_LINKS_PER_AUTHOR;
        match self.links.iter_mut().find(|(other, _)| *other == link) {
            Some((_, held)) => *held += bytes,
            None if is_full => {
                if let Some((_, held)) = self.links.last_mut() {
                    *held += bytes;
                }
            }
            None => self.links.push((link, bytes)),
        }
    }

    fn remove(&mut self, link: i64, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
        let at = self.links.iter().position(|(other, _)| *other == link);
        let at = at.or(self.links.len().checked_sub(1));
        if let Some(at) = at {
            let held = &mut self.links[at].1;
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                self.links.remove(at);
            }
        }
    }

    /// Returns the link that delivered most of the author's bytes.
    fn main_link(&self) -> i64 {
        let largest = self.links.iter().max_by_key(|(_, bytes)| *bytes);
        largest.map_or(0, |(link, _)| *link)
    }

    fn is_new(&self, now_ms: u64) -> bool {
        now_ms < self.since_ms.saturating_add(NEW_MS)
    }
}

impl Usage {
    /// Adds a batch of an author whose first one was stored at `since_ms`.
    pub(super) fn add(&mut self, owner: Owner, bytes: u64, since_ms: u64) {
        let author = self.authors.entry(owner.author).or_default();
        author.since_ms = since_ms;
        author.add(owner.link, bytes);
        if self.authors.len() > MAX_AUTHORS {
            self.count_the_small_together();
        }
    }

    /// Subtracts a removed batch.
    pub(super) fn remove(&mut self, owner: Owner, bytes: u64) {
        if let Some(author) = self.authors.get_mut(&owner.author) {
            author.remove(owner.link, bytes);
            if author.bytes == 0 {
                self.authors.remove(&owner.author);
            }
        } else if let Some(held) = self.others.get_mut(&owner.link) {
            *held = held.saturating_sub(bytes);
            if *held == 0 {
                self.others.remove(&owner.link);
            }
        }
    }

    /// Returns the author to evict from in a log of `log_bytes`; none if none is counted.
    ///
    /// 1. The largest author, if it exceeds the quota of one author.
    /// 2. If the new authors exceed their common quota: of the link that delivered the most of them, the largest new
    ///    author.
    /// 3. The largest author.
    pub(super) fn victim(&self, log_bytes: u64, now_ms: u64) -> Option<Victim> {
        let largest = |link: Option<i64>| {
            let of_link = |author: &Author| {
                link.is_none_or(|link| author.is_new(now_ms) && author.main_link() == link)
            };
            // Of authors with equal bytes, the newest.
            let key = |(n, author): &(i64, &Author)| (author.bytes, author.since_ms, *n);
            let (mut first, mut second) = (None, 0);
            let some = self.authors.iter().filter(|(_, author)| of_link(author));
            for (n, author) in some.map(|(n, author)| (*n, author)) {
                match first {
                    Some(before) if key(&before) >= key(&(n, author)) => {
                        second = author.bytes.max(second);
                    }
                    before => {
                        second = before.map_or(0, |(_, author): (i64, &Author)| author.bytes);
                        first = Some((n, author));
                    }
                }
            }
            first.map(|(n, author)| (n, author, second))
        };
        let victim = |(n, author, second): (i64, &Author, u64), reason, bytes, share| Victim {
            author: n,
            link: author.main_link(),
            reason,
            bytes,
            share,
            surplus: author.bytes.saturating_sub(second).max(1),
        };
        let share = log_bytes / AUTHOR_SHARE;
        let first = largest(None)?;
        let held = first.1.bytes;
        if held > share {
            return Some(victim(first, EvictionReason::Author, held, share));
        }
        let newcomers = self.newcomers(now_ms);
        let new_share = log_bytes / NEW_SHARE;
        if newcomers.values().sum::<u64>() > new_share {
            let link = newcomers
                .iter()
                .max_by_key(|(link, bytes)| (**bytes, **link));
            if let Some((link, bytes)) = link
                && let Some(new) = largest(Some(*link))
            {
                return Some(victim(new, EvictionReason::Link, *bytes, new_share));
            }
        }
        Some(victim(first, EvictionReason::Largest, held, share))
    }

    /// Returns the bytes of new authors and of those counted together, by the link that delivered most of each.
    fn newcomers(&self, now_ms: u64) -> HashMap<i64, u64> {
        let mut newcomers = self.others.clone();
        for author in self.authors.values().filter(|author| author.is_new(now_ms)) {
            *newcomers.entry(author.main_link()).or_default() += author.bytes;
        }
        newcomers
    }

    fn count_the_small_together(&mut self) {
        let mut sizes: Vec<u64> = self.authors.values().map(|author| author.bytes).collect();
        let middle = sizes.len() / 2;
        let (_, median, _) = sizes.select_nth_unstable(middle);
        let median = *median;
        let mut surplus = self.authors.len() / 2;
        let others = &mut self.others;
        self.authors.retain(|_, author| {
            let stays = author.bytes > median || surplus == 0;
            if !stays {
                surplus -= 1;
                for (link, bytes) in &author.links {
                    *others.entry(*link).or_default() += bytes;
                }
            }
            stays
        });
    }

    /// Returns the bytes of an author.
    #[cfg(test)]
    pub(super) fn of(&self, author: i64) -> u64 {
        self.authors.get(&author).map_or(0, |author| author.bytes)
    }

    /// Returns the bytes of all authors.
    #[cfg(test)]
    pub(super) fn total(&self) -> u64 {
        let counted = self.authors.values().map(|author| author.bytes);
        counted.sum::<u64>() + self.others.values().sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOG: u64 = 1 << 20;
    const NOW: u64 = 10 * NEW_MS;
    const OLD: u64 = NOW - 2 * NEW_MS;

    fn owner(author: i64, link: i64) -> Owner {
        Owner { author, link }
    }

    /// Removes a batch at a time until all fit.
    fn settle(usage: &mut Usage, batches: &mut Vec<(Owner, u64)>) {
        while usage.total() > LOG {
            let victim = usage.victim(LOG, NOW).unwrap();
            let at = batches
                .iter()
                .position(|(owner, _)| owner.author == victim.author);
            let (owner, bytes) = batches.remove(at.expect("it holds something"));
            usage.remove(owner, bytes);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// One author, over any links, never pushes out batches of authors within their share, while the others
        /// together leave that author its own.
        #[test]
        fn one_author_removes_nobody_s_history(
            others in prop::collection::vec((2i64..12, 1i64..5, 1u64..20_000, prop_oneof![Just(OLD), Just(NOW)]), 0..60),
            flood in prop::collection::vec((1i64..5, 1u64..60_000), 0..200),
        ) {
            let mut usage = Usage::default();
            let mut batches = Vec::new();
            for (author, link, bytes, since_ms) in others {
                let is_within = usage.of(author) + bytes <= LOG / AUTHOR_SHARE
                    && usage.total() + bytes <= LOG - LOG / AUTHOR_SHARE;
                if is_within {
                    usage.add(owner(author, link), bytes, since_ms);
                    batches.push((owner(author, link), bytes));
                }
            }
            let held: Vec<u64> = (2..12).map(|author| usage.of(author)).collect();
            for (link, bytes) in flood {
                usage.add(owner(1, link), bytes, NOW);
                batches.push((owner(1, link), bytes));
                settle(&mut usage, &mut batches);
            }
            prop_assert_eq!((2..12).map(|author| usage.of(author)).collect::<Vec<_>>(), held);
        }

        /// New authors of one link, however many, never push out batches of old authors, nor of new ones that another
        /// link delivered while those hold at most half of the common quota.
        #[test]
        fn many_keys_of_one_link_remove_nobody_s_history(
            old in prop::collection::vec((2i64..12, 1u64..20_000), 0..60),
            new in prop::collection::vec((20i64..25, 2i64..4, 1u64..9_000), 0..30),
            flood in prop::collection::vec((100i64..300, 1u64..30_000), 0..400),
        ) {
            let mut usage = Usage::default();
            let mut batches = Vec::new();
            let mut total = 0;
            for (author, bytes) in old {
                if usage.of(author) + bytes <= LOG / AUTHOR_SHARE
                    && total + bytes <= LOG - LOG / NEW_SHARE
                {
                    total += bytes;
                    usage.add(owner(author, 1), bytes, OLD);
                    batches.push((owner(author, 1), bytes));
                }
            }
            let mut new_total = 0;
            for (author, link, bytes) in new {
                if new_total + bytes <= LOG / NEW_SHARE / 4 {
                    new_total += bytes;
                    usage.add(owner(author, link), bytes, NOW);
                    batches.push((owner(author, link), bytes));
                }
            }
            let held = |batches: &[(Owner, u64)]| {
                let before = batches.iter().filter(|(owner, _)| owner.author < 100);
                before.copied().collect::<Vec<_>>()
            };
            let before = held(&batches);
            for (author, bytes) in flood {
                usage.add(owner(author, 1), bytes, NOW);
                batches.push((owner(author, 1), bytes));
                settle(&mut usage, &mut batches);
            }
            prop_assert_eq!(held(&batches), before);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_of_it_is_lost() {
        let mut usage = Usage::default();
        for author in 0..10_000 {
            usage.add(owner(author, author % 3), 100, NOW);
        }
        usage.add(owner(3, 1), 5_000, NOW);
        assert!(usage.authors.len() <= MAX_AUTHORS && usage.others.len() <= 3);
        assert_eq!(usage.total(), 10_000 * 100 + 5_000);
        for author in 0..10_000 {
            usage.remove(owner(author, author % 3), 100);
        }
        // Authors counted together may leave a remainder with those counted again.
        assert!(usage.total() <= 5_000 + 100 * MAX_AUTHORS as u64);
    }

    #[test]
    fn of_those_who_hold_the_same_the_last_to_come_makes_room() {
        let mut usage = Usage::default();
        usage.add(owner(7, 1), 100, OLD);
        usage.add(owner(5, 1), 100, NOW);
        usage.add(owner(6, 1), 100, OLD);
        let victim = usage.victim(LOG, NOW).unwrap();
        assert_eq!((victim.author, victim.bytes, victim.surplus), (5, 100, 1));
        assert_eq!(victim.share, LOG / AUTHOR_SHARE);
        assert_eq!(Usage::default().victim(LOG, NOW), None);
    }
}
