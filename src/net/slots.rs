//! A bounded table of connection slots, with a quota for each source and eviction when all slots are taken.
//!
//! Entry type: [`SlotTable`], pure. The rule it keeps: no source exceeds its quota, and a newcomer evicts the oldest
//! entry of the crowd: the network that holds the most slots. With a bound alone, 33 silent addresses would lock
//! everyone else out. An honest peer finishes its handshake within a second, so that the oldest entry of a crowd is
//! hardly ever an honest peer.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;

use crate::wire::Source;

/// The prefixes by which entries are counted to find the crowd, from the whole network to one source.
///
/// A site has an IPv6 /48 or /56 (RIPE-690), with every /64 in it: counted by /64 alone, one customer would be 65,536
/// sources. Wider prefixes belong to providers, whose customers are unrelated. In IPv4 a /24 is the smallest routed
/// network, and the size of a small provider or a rented rack.
const LEVELS: [Level; 3] = [Level::Network, Level::Subnet, Level::Source];

#[derive(Clone, Copy)]
enum Level {
    /// An IPv6 /48, an IPv4 /24.
    Network,
    /// An IPv6 /56, an IPv4 /24.
    Subnet,
    /// An IPv6 /64, one IPv4 address.
    Source,
}

impl Level {
    /// Returns the prefix of a source at this level, as the first source in it.
    fn of(self, source: Source) -> Source {
        match (self, source) {
            (Level::Network | Level::Subnet, Source::V4(ip)) => {
                let [a, b, c, _] = ip.octets();
                Source::V4(Ipv4Addr::new(a, b, c, 0))
            }
            (Level::Network, Source::V6([a, b, c, _])) => Source::V6([a, b, c, 0]),
            (Level::Subnet, Source::V6([a, b, c, d])) => Source::V6([a, b, c, d & 0xff00]),
            (Level::Source, source) | (_, source @ Source::Other) => source,
        }
    }
}

/// A source has used up its quota of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuotaExceeded;

/// A bounded number of slots, each held by a key of one source.
#[derive(Debug)]
pub(crate) struct SlotTable<K> {
    max: usize,
    max_per_source: usize,
    /// The entries, oldest first. At most `max`, so that a scan costs next to nothing.
    taken: Vec<(K, Source)>,
}

impl<K: Copy + Eq + Hash> SlotTable<K> {
    /// Creates `max` free slots, with a quota of `max_per_source` for one source.
    pub(crate) fn new(max: usize, max_per_source: usize) -> SlotTable<K> {
        SlotTable {
            max,
            max_per_source,
            taken: Vec::new(),
        }
    }

    /// Claims a slot. Returns the evicted key if no slot was free. The quota does not apply to a source that
    /// `is_exempt`.
    ///
    /// # Errors
    ///
    /// The source has used up its quota.
    pub(crate) fn claim(
        &mut self,
        key: K,
        source: Source,
        is_exempt: bool,
    ) -> Result<Option<K>, QuotaExceeded> {
        let has = self.taken.iter().filter(|(_, s)| *s == source).count();
        if !is_exempt && has >= self.max_per_source {
            return Err(QuotaExceeded);
        }
        let gives_way = match self.taken.len() >= self.max {
            true => self.oldest_of_largest_network(),
            false => None,
        };
        if let Some(gone) = gives_way {
            self.release(gone);
        }
        self.taken.push((key, source));
        Ok(gives_way)
    }

    /// Frees the slot of `key`, if it holds one.
    pub(crate) fn release(&mut self, key: K) {
        self.taken.retain(|(taken, _)| *taken != key);
    }

    /// Returns the oldest entry of the network with the most slots, in its subnet with the most, of the source there
    /// with the most.
    fn oldest_of_largest_network(&self) -> Option<K> {
        let mut crowd: Vec<(K, Source)> = self.taken.clone();
        for level in LEVELS {
            let mut counts: HashMap<Source, usize> = HashMap::new();
            for (_, source) in &crowd {
                *counts.entry(level.of(*source)).or_default() += 1;
            }
            let most = counts.values().copied().max()?;
            // Among crowds of the same size, the one with the oldest entry is chosen.
            let first = crowd.iter().map(|(_, source)| level.of(*source));
            let largest = first.into_iter().find(|part| counts[part] == most)?;
            crowd.retain(|(_, source)| level.of(*source) == largest);
        }
        crowd.first().map(|(key, _)| *key)
    }
}

#[cfg(test)]
mod tests;
