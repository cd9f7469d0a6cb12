//! Source addresses, as every rate limit and quota per address counts them.
//!
//! Entry type: [`Source`]. The rule it keeps: one IPv4 address, or one IPv6 /64, is one source, because the owner of one
//! IPv6 address commonly has the /64 around it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Source of a connection: an IPv4 address, an IPv6 /64, or none.
///
/// # Examples
///
/// ```
/// use diatribe::wire::Source;
///
/// # fn main() -> Result<(), libp2p::multiaddr::Error> {
/// let one = Source::of(&"/ip6/2001:db8::1/tcp/4001".parse()?);
/// let other = Source::of(&"/ip6/2001:db8::2/tcp/4001".parse()?);
/// assert_eq!(one, other);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// One IPv4 address, also if it is mapped into IPv6.
    V4(Ipv4Addr),
    /// The upper 64 bits of an IPv6 address.
    V6([u16; 4]),
    /// No IP address: all multiaddrs without one are one source.
    Other,
}

impl Source {
    /// Returns the source of a peer's address.
    pub fn of(address: &Multiaddr) -> Source {
        ip_of(address).map_or(Source::Other, Source::of_ip)
    }

    /// Returns the source of an IP address.
    pub fn of_ip(ip: IpAddr) -> Source {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Source::V4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Source::V6([a, b, c, d])
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::V4(ip) => ip.fmt(f),
            Source::V6([a, b, c, d]) => {
                write!(f, "{}/64", Ipv6Addr::new(*a, *b, *c, *d, 0, 0, 0, 0))
            }
            Source::Other => f.write_str("an address without IP"),
        }
    }
}

/// Returns the IP address at the beginning of a multiaddr; skips the interface that may precede a link-local one.
pub fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    let mut parts = address
        .iter()
        .skip_while(|part| matches!(part, Protocol::Ip6zone(_)));
    match parts.next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Returns whether a multiaddr begins with a loopback address.
pub fn is_loopback(address: &Multiaddr) -> bool {
    ip_of(address).is_some_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::of(&address.parse().expect("a multiaddr"))
    }

    #[test]
    fn one_ipv6_network_is_one_source_and_a_mapped_ipv4_address_is_ipv4() {
        assert_eq!(
            source("/ip6/2001:db8::1/tcp/1"),
            source("/ip6/2001:db8::2/tcp/9")
        );
        assert_ne!(
            source("/ip6/2001:db8::1/tcp/1"),
            source("/ip6/2001:db8:0:1::1/tcp/1")
        );
        assert_eq!(
            source("/ip6/::ffff:1.2.3.4/tcp/1"),
            source("/ip4/1.2.3.4/tcp/1")
        );
        assert_eq!(
            source("/ip6zone/eth0/ip6/fe80::1/tcp/1"),
            source("/ip6/fe80::2/tcp/1")
        );
        assert_eq!(source("/dns/example.org/tcp/1"), Source::Other);
    }
}
