//! How far an address reaches, so that nobody is told to dial into a network he should not.
//!
//! Entry type: [`Address`]. The rule it keeps: who is linked over a wide scope cannot name an
//! address of a narrower one, and a name (DNS) is no address at all.

use std::fmt::Debug;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

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

/// What the overlay must know of an address. The simulation brings its own.
pub trait Address: Clone + Eq + Hash + Debug {
    /// Its scope; `None` when it may not be dialled on anybody's word.
    fn reach(&self) -> Option<Reach>;
}

impl Address for Multiaddr {
    fn reach(&self) -> Option<Reach> {
        let mut parts = self.iter();
        let ip = match parts.next()? {
            Protocol::Ip4(ip) => IpAddr::V4(ip),
            Protocol::Ip6(ip) => IpAddr::V6(ip),
            _ => return None,
        };
        let Some(Protocol::Tcp(port)) = parts.next() else {
            return None;
        };
        let transport = parts.all(|part| {
            matches!(
                part,
                Protocol::Ws(_)
                    | Protocol::Wss(_)
                    | Protocol::Tls
                    | Protocol::Sni(_)
                    | Protocol::P2p(_)
            )
        });
        if port == 0 || !transport {
            return None;
        }
        match ip.to_canonical() {
            IpAddr::V4(ip) => reach_v4(ip),
            IpAddr::V6(ip) => reach_v6(ip),
        }
    }
}

fn reach_v4(ip: Ipv4Addr) -> Option<Reach> {
    let [a, b, ..] = ip.octets();
    if a == 0 || ip.is_multicast() || a >= 240 {
        return None;
    }
    if ip.is_loopback() {
        return Some(Reach::Loopback);
    }
    let shared = a == 100 && (64..128).contains(&b); // RFC 6598
    let private = ip.is_private() || ip.is_link_local() || shared;
    Some(if private {
        Reach::Private
    } else {
        Reach::Public
    })
}

fn reach_v6(ip: Ipv6Addr) -> Option<Reach> {
    if ip.is_unspecified() || ip.is_multicast() {
        return None;
    }
    if ip.is_loopback() {
        return Some(Reach::Loopback);
    }
    let [a, b, c, ..] = ip.segments();
    let [.., w, x, y, z] = ip.octets();
    let embedded = match (a, b) {
        (0x64, 0xff9b) => Some(Ipv4Addr::new(w, x, y, z)), // NAT64, RFC 6052
        (0x2002, _) => {
            let ([w, x], [y, z]) = (b.to_be_bytes(), c.to_be_bytes()); // 6to4, RFC 3056
            Some(Ipv4Addr::new(w, x, y, z))
        }
        _ => None,
    };
    if let Some(ip) = embedded {
        return reach_v4(ip);
    }
    let private = ip.is_unique_local() || ip.is_unicast_link_local();
    Some(if private {
        Reach::Private
    } else {
        Reach::Public
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_reach_as_far_as_their_network() {
        for (address, reach) in [
            ("/ip4/127.0.0.1/tcp/9000/ws", Some(Reach::Loopback)),
            ("/ip6/::1/tcp/9000/ws", Some(Reach::Loopback)),
            ("/ip6/::ffff:127.0.0.1/tcp/9000/ws", Some(Reach::Loopback)),
            ("/ip4/192.168.1.2/tcp/9000/ws", Some(Reach::Private)),
            ("/ip4/100.64.0.1/tcp/9000/ws", Some(Reach::Private)),
            ("/ip6/fd00::1/tcp/9000/tls/ws", Some(Reach::Private)),
            ("/ip6/2002:a00:1::/tcp/9000/ws", Some(Reach::Private)),
            ("/ip6/64:ff9b::7f00:1/tcp/9000/ws", Some(Reach::Loopback)),
            ("/ip4/8.8.8.8/tcp/443/tls/ws", Some(Reach::Public)),
            ("/ip4/0.0.0.0/tcp/9000/ws", None),
            ("/ip4/8.8.8.8/tcp/0/ws", None),
            ("/ip4/8.8.8.8/udp/9000", None),
            ("/dns/example.org/tcp/9000/ws", None),
            ("/ip4/8.8.8.8/tcp/9000/ws/p2p-circuit", None),
            ("/ip4/255.255.255.255/tcp/9000/ws", None),
        ] {
            let parsed: Multiaddr = address.parse().expect("a multiaddr");
            assert_eq!(parsed.reach(), reach, "{address}");
        }
    }
}
