//! The scope of an IP address: this machine, a local network, the internet, or none at all.
//!
//! Entry function: [`reach_of`]. The rule it keeps: public addresses are global unicast addresses outside the IANA registries of
//! special-purpose addresses (RFC 6890 and its updates); addresses of tunnels, translators and documentation have no scope.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The scope of an address, narrow to wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// This machine alone.
    Loopback,
    /// A local network.
    Private,
    /// The internet.
    Public,
}

/// A block of addresses and its scope; without one, no peer can make this node dial such an address.
type Block<Ip> = (Ip, u32, Option<Reach>);

/// The first block that an address is in decides; an address in no block is public.
const IPV4: &[Block<Ipv4Addr>] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, None),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Some(Reach::Private)),
    // Carriers' shared space, RFC 6598.
    (Ipv4Addr::new(100, 64, 0, 0), 10, Some(Reach::Private)),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Some(Reach::Loopback)),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Some(Reach::Private)),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Some(Reach::Private)),
    // Protocol assignments.
    (Ipv4Addr::new(192, 0, 0, 0), 24, None),
    // Documentation, three times.
    (Ipv4Addr::new(192, 0, 2, 0), 24, None),
    (Ipv4Addr::new(198, 51, 100, 0), 24, None),
    (Ipv4Addr::new(203, 0, 113, 0), 24, None),
    // Relays of 6to4, RFC 7526.
    (Ipv4Addr::new(192, 88, 99, 0), 24, None),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Some(Reach::Private)),
    // Benchmarks, RFC 2544.
    (Ipv4Addr::new(198, 18, 0, 0), 15, Some(Reach::Private)),
    // Multicast, reserved, broadcast.
    (Ipv4Addr::new(224, 0, 0, 0), 3, None),
];

/// The first block that an address is in decides; an address in no block has no scope.
const IPV6: &[Block<Ipv6Addr>] = &[
    (Ipv6Addr::LOCALHOST, 128, Some(Reach::Loopback)),
    (
        Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0),
        7,
        Some(Reach::Private),
    ),
    (
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        10,
        Some(Reach::Private),
    ),
    // Site-local, RFC 3879.
    (
        Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0),
        10,
        Some(Reach::Private),
    ),
    // Benchmarks, RFC 5180.
    (
        Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0),
        48,
        Some(Reach::Private),
    ),
    // Protocol assignments, Teredo among them.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, None),
    // Documentation, twice.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, None),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, None),
    // 6to4.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, None),
    (
        Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0),
        3,
        Some(Reach::Public),
    ),
];

/// Returns the scope of `ip`; none when no peer may make this node dial it.
pub fn reach_of(ip: IpAddr) -> Option<Reach> {
    match behind(ip) {
        IpAddr::V4(v4) => {
            let reach = reach_of_v4(v4);
            // The translator is another machine: only public addresses mean the same behind it.
            reach.filter(|reach| is_native(ip) || *reach == Reach::Public)
        }
        IpAddr::V6(ip) => reach_of_v6(ip),
    }
}

/// Returns the address that a dial to `ip` reaches: IPv4 for IPv4 mapped into IPv6 and for the well-known prefix of
/// NAT64 (64:ff9b::/96, RFC 6052), else `ip` itself.
pub(crate) fn behind(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                Ipv4Addr::new(a, b, c, d).into()
            }
            _ => v6.into(),
        },
        v4 => v4,
    }
}

/// Returns whether `ip` is the address of the machine itself, without a translator's prefix.
fn is_native(ip: IpAddr) -> bool {
    behind(ip) == ip.to_canonical()
}

fn reach_of_v4(ip: Ipv4Addr) -> Option<Reach> {
    let within =
        |block: &&Block<Ipv4Addr>| (ip.to_bits() ^ block.0.to_bits()) >> (32 - block.1) == 0;
    IPV4.iter()
        .find(within)
        .map_or(Some(Reach::Public), |block| block.2)
}

fn reach_of_v6(ip: Ipv6Addr) -> Option<Reach> {
    if is_isatap(ip) {
        return None;
    }
    let within =
        |block: &&Block<Ipv6Addr>| (ip.to_bits() ^ block.0.to_bits()) >> (128 - block.1) == 0;
    IPV6.iter().find(within).and_then(|block| block.2)
}

/// Returns whether the lower half names an end of an ISATAP tunnel (RFC 5214) to the IPv4 address in its last 4 bytes.
fn is_isatap(ip: Ipv6Addr) -> bool {
    let [.., upper, marker, _, _] = ip.segments();
    upper & !0x0200 == 0 && marker == 0x5efe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_outside_the_registries_are_public() {
        use Reach::*;
        for (ip, reach) in [
            ("127.0.0.1", Some(Loopback)),
            ("::1", Some(Loopback)),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("192.168.1.2", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("172.32.0.0", Some(Public)),
            ("100.64.0.1", Some(Private)),
            ("100.128.0.1", Some(Public)),
            ("198.18.0.1", Some(Private)),
            ("198.19.255.255", Some(Private)),
            ("198.20.0.0", Some(Public)),
            ("8.8.8.8", Some(Public)),
            ("::ffff:8.8.8.8", Some(Public)),
            ("fd00::1", Some(Private)),
            ("fe80::1", Some(Private)),
            ("fec0::1", Some(Private)),
            ("2001:2::1", Some(Private)),
            ("2606:4700::1111", Some(Public)),
            ("2001:200::1", Some(Public)),
            ("64:ff9b::808:808", Some(Public)),
            ("64:ff9b::7f00:1", None),
            ("64:ff9b::a00:1", None),
            ("64:ff9b:0:1::808:808", None),
            ("64:ff9b:1::808:808", None),
            ("0.0.0.0", None),
            ("192.0.0.9", None),
            ("192.0.2.1", None),
            ("192.88.99.1", None),
            ("198.51.100.1", None),
            ("203.0.113.1", None),
            ("224.0.0.1", None),
            ("240.0.0.1", None),
            ("255.255.255.255", None),
            ("::", None),
            ("::8.8.8.8", None),
            ("::ffff:0:808:808", None),
            ("100::1", None),
            ("2001::1", None),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", None),
            ("2001:10::1", None),
            ("2001:20::1", None),
            ("2001:db8::1", None),
            ("2002:808:808::1", None),
            ("2002:a00:1::", None),
            ("2606:4700::5efe:808:808", None),
            ("2606:4700::200:5efe:808:808", None),
            ("fd00::5efe:a00:1", None),
            ("3fff::1", None),
            ("4000::1", None),
            ("5f00::1", None),
            ("ff02::1", None),
        ] {
            assert_eq!(reach_of(ip.parse().expect("an IP address")), reach, "{ip}");
        }
    }
}
