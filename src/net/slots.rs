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
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(&address.parse().unwrap())
    }

    fn v4(a: u8, b: u8, c: u8, d: u8) -> Source {
        Source::V4(Ipv4Addr::new(a, b, c, d))
    }

    /// Fills the table with the sources that `crowd` returns for the numbers from 0 on; each must find a free slot.
    fn filled(max: usize, crowd: impl Fn(usize) -> Source) -> SlotTable<usize> {
        let mut places = SlotTable::new(max, max);
        for n in 0..max {
            assert_eq!(places.claim(n, crowd(n), false), Ok(None));
        }
        places
    }

    #[test]
    fn one_source_has_its_share_and_no_more() {
        let mut places = SlotTable::new(256, 8);
        let of_one = (0..2000).filter(|n| places.claim(*n, v4(192, 0, 2, 1), false).is_ok());
        assert_eq!(of_one.count(), 8);
        assert_eq!(places.claim(5000, v4(192, 0, 2, 2), false), Ok(None));
        places.release(3);
        assert_eq!(places.claim(5001, v4(192, 0, 2, 1), false), Ok(None));
        assert_eq!(
            places.claim(5002, v4(192, 0, 2, 1), false),
            Err(QuotaExceeded)
        );
    }

    #[test]
    fn whoever_is_exempt_has_no_share_but_gives_way_like_others() {
        let mut places = SlotTable::new(256, 8);
        for n in 0..256 {
            assert_eq!(places.claim(n, source("/ip6/::1/tcp/7"), true), Ok(None));
        }
        assert_eq!(
            places.claim(256, source("/ip6/::1/tcp/7"), true),
            Ok(Some(0))
        );
        assert_eq!(places.taken.len(), 256);
    }

    /// 32 addresses with 8 sockets each fill the 256 slots: of one IPv4 /24; of one /56, one /48, or both mixed.
    #[test]
    fn a_crowd_gives_way_to_everybody_else() {
        let crowds: [fn(usize) -> Source; 4] = [
            |n| v4(198, 51, 100, (n / 8) as u8),
            |n| Source::V6([0x2001, 0xdb8, 7, 0x4200 + (n / 8) as u16]),
            |n| Source::V6([0x2001, 0xdb8, 7, ((n / 8) as u16) << 8]),
            |n| match n % 3 {
                0 => v4(198, 51, 100, (n / 8) as u8),
                _ => Source::V6([0x2001, 0xdb8, 7, (n as u16) << 6]),
            },
        ];
        for crowd in crowds {
            let mut places = filled(256, crowd);
            // Newcomers of many networks, as many as the crowd: none is evicted while the crowd is larger than each of
            // their networks.
            for n in 0..100 {
                let newcomer = v4(203, n, 113, 5);
                let gone = places.claim(1000 + n as usize, newcomer, false);
                assert!(gone.unwrap().unwrap() < 256, "newcomer {n}");
            }
            // An address that reconnects repeatedly evicts only its own entries.
            for n in 0..2000 {
                let gone = places.claim(5000 + n, crowd(n % 256), false).unwrap();
                assert!(!(1000..1100).contains(&gone.unwrap()), "{gone:?}");
            }
        }
    }

    #[test]
    fn the_oldest_of_the_largest_source_of_the_largest_subnet_goes() {
        // In one /48: a /56 with two /64 of 1 and 3 slots, and another /56 with 2; outside of it a /64 with 4.
        let at = |subnet: u16| Source::V6([0x2001, 0xdb8, 7, subnet]);
        let all = [
            Source::V6([0x2001, 0xdb8, 8, 1]),
            at(0x0100),
            at(0x0201),
            at(0x0100),
            at(0x0202),
            at(0x0202),
            at(0x0202),
            Source::V6([0x2001, 0xdb8, 8, 1]),
            Source::V6([0x2001, 0xdb8, 8, 1]),
            Source::V6([0x2001, 0xdb8, 8, 1]),
        ];
        let mut places = filled(10, |n| all[n]);
        assert_eq!(places.claim(10, v4(203, 0, 113, 5), false), Ok(Some(4)));
    }

    #[test]
    fn where_nobody_holds_more_than_others_the_oldest_goes() {
        let mut places = filled(64, |n| v4(10, n as u8, 0, 1));
        for n in 0..64 {
            assert_eq!(
                places.claim(64 + n, v4(11, n as u8, 0, 1), false),
                Ok(Some(n))
            );
        }
    }

    #[test]
    fn a_place_that_was_left_is_free() {
        let mut places = filled(4, |n| v4(10, n as u8, 0, 1));
        places.release(2);
        assert_eq!(places.claim(9, v4(11, 0, 0, 1), false), Ok(None));
        places.release(77);
        assert_eq!(places.taken.len(), 4);
    }
}
