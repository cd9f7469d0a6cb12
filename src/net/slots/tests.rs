//! Tests of quotas and eviction.

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
