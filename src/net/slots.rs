//! The places before the gate: who holds one, and who gives way when all are taken.
//!
//! Entry type: [`SlotTable`], pure. The rule it keeps: no source has more than its share, and a newcomer takes the place of
//! whoever has waited longest in the crowd: the network that holds the most places. A cap alone would let 33 addresses
//! that say nothing lock everyone out. Honest peers are through within a second, so that the oldest of a crowd is not one
//! of them unless the crowd is.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;

use crate::wire::Source;

/// How much of an address is looked at to find the crowd, from the whole network to one source.
///
/// A site is given an IPv6 /48 or a /56 (RIPE-690), and has every /64 in it: counted by /64 alone, one customer is 65,536
/// strangers. Wider than that are providers, whose customers have nothing to do with each other. In IPv4 a /24 is the
/// smallest network that is routed, and what a small provider or a rented rack has.
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
    /// The part of a source that counts at this level, as the first source in it.
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

/// A source that holds as many places as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuotaExceeded;

/// A bounded number of places, and whose they are.
#[derive(Debug)]
pub(crate) struct SlotTable<K> {
    max: usize,
    max_per_source: usize,
    /// Whoever has waited longest stands first. At most `max`, so that looking through them costs next to nothing.
    taken: Vec<(K, Source)>,
}

impl<K: Copy + Eq + Hash> SlotTable<K> {
    /// `max` free places, of which one source may have `max_per_source`.
    pub(crate) fn new(max: usize, max_per_source: usize) -> SlotTable<K> {
        SlotTable {
            max,
            max_per_source,
            taken: Vec::new(),
        }
    }

    /// Takes a place. Returns whose place that was, if it was not free; that one has no place any more. The share of a
    /// source that `is_exempt` is not looked at.
    ///
    /// # Errors
    ///
    /// The source has its share already.
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
            true => self.oldest_of_the_crowd(),
            false => None,
        };
        if let Some(gone) = gives_way {
            self.release(gone);
        }
        self.taken.push((key, source));
        Ok(gives_way)
    }

    /// Frees a place, if this one has one.
    pub(crate) fn release(&mut self, key: K) {
        self.taken.retain(|(taken, _)| *taken != key);
    }

    /// Whoever has waited longest in the network that holds most places, in its subnet that holds most, from the source
    /// there that holds most.
    fn oldest_of_the_crowd(&self) -> Option<K> {
        let mut crowd: Vec<(K, Source)> = self.taken.clone();
        for level in LEVELS {
            let mut counts: HashMap<Source, usize> = HashMap::new();
            for (_, source) in &crowd {
                *counts.entry(level.of(*source)).or_default() += 1;
            }
            let most = counts.values().copied().max()?;
            // Of several that are as large, the one with the oldest.
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

    /// Fills the places with what `crowd` makes of the numbers from 0 on; each must find a free one.
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

    /// 32 addresses with 8 sockets each fill the 256 places: of one IPv4 /24; of one /56, one /48, of the two mixed.
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
            // Newcomers from all over, as many as the crowd: none of them gives way, as long as it is larger than they are.
            for n in 0..100 {
                let newcomer = v4(203, n, 113, 5);
                let gone = places.claim(1000 + n as usize, newcomer, false);
                assert!(gone.unwrap().unwrap() < 256, "newcomer {n}");
            }
            // And those who come again and again only push each other out.
            for n in 0..2000 {
                let gone = places.claim(5000 + n, crowd(n % 256), false).unwrap();
                assert!(!(1000..1100).contains(&gone.unwrap()), "{gone:?}");
            }
        }
    }

    #[test]
    fn the_oldest_of_the_largest_source_of_the_largest_subnet_goes() {
        // In one /48: a /56 with two /64 of 1 and 3 places, and another /56 with 2; outside a /64 with 4.
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
