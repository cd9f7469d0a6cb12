//! An address that a peer or a file has named: one spelling, in which its author can choose only an IP address, a port and TLS.
//!
//! Entry type: [`PeerAddress`]. The rule it keeps: a dial to such an address sends the same bytes for every author: no name is
//! resolved, and no path or host of the author's is sent.

use std::fmt;
use std::net::IpAddr;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::address::{Address, Remote};
use super::scope::{Reach, behind, reach_of};
use crate::wire::Source;

/// Maximum length of a binary multiaddr, in bytes: an IPv6 address with port, `/tls/ws` and a `/p2p` has 65.
const MAX_BYTES: usize = 128;
/// Maximum length of a multiaddr as text, in bytes: that longest address has 118.
const MAX_TEXT: usize = 256;
/// Lowest port that peers may name freely. Lower ports belong to system services, which no peer may make this node dial, except
/// for HTTP and HTTPS, which proxies in front of nodes use.
const MIN_FREE_PORT: u16 = 1024;
const WEB_PORTS: [u16; 2] = [80, 443];

/// An address of a peer, as a peer or a file has named it.
///
/// ```
/// use diatribe::overlay::{PeerAddress, PeerAddressError};
///
/// let address = PeerAddress::from_text("/ip6/::ffff:8.8.8.8/tcp/443/wss", None)?;
/// assert_eq!(address.to_string(), "/ip4/8.8.8.8/tcp/443/tls/ws");
/// let wrong = PeerAddress::from_text("/ip4/8.8.8.8/tcp/6379/ws/http-path/x", None);
/// assert_eq!(wrong, Err(PeerAddressError::NotWebsocket));
/// # Ok::<(), PeerAddressError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerAddress {
    ip: IpAddr,
    port: u16,
    is_tls: bool,
    reach: Reach,
}

/// The reason for which an address that a peer or a file has named is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerAddressError {
    /// The bytes or the text are no multiaddr.
    #[error("it is no multiaddr")]
    NotMultiaddr,
    /// It is longer than any address.
    #[error("it is longer than any address")]
    TooLong,
    /// It begins with a name.
    #[error("it is a name, and only IP addresses are taken from others")]
    Name,
    /// It does not begin with an IP address.
    #[error("it does not begin with /ip4 or /ip6")]
    NotIp,
    /// No TCP port follows.
    #[error("/tcp/PORT does not follow the IP address")]
    NotTcp,
    /// The WebSocket has a path.
    #[error("it has a path other than /")]
    Path,
    /// The port is not followed by `/ws`, `/tls/ws` or `/wss`.
    #[error("something else than /ws, /tls/ws or /wss follows the port")]
    NotWebsocket,
    /// The `/p2p` at its end names another peer.
    #[error("it names another peer")]
    OtherPeer,
    /// The port is 0, or belongs to a system service.
    #[error("port {0} is not dialled on another's word: only 80, 443 and those from 1024 on")]
    Port(u16),
    /// No machine can be dialled there: multicast, reserved, documentation, a tunnel.
    #[error("{0} is no address of a machine that others can dial")]
    NoScope(IpAddr),
}

impl PeerAddress {
    /// Parses a binary multiaddr of `peer`.
    ///
    /// # Errors
    ///
    /// The first respect in which it differs from the one form.
    pub fn from_bytes(
        bytes: &[u8],
        peer: Option<&PeerId>,
    ) -> Result<PeerAddress, PeerAddressError> {
        if bytes.len() > MAX_BYTES {
            return Err(PeerAddressError::TooLong);
        }
        let address = Multiaddr::try_from(bytes.to_vec());
        PeerAddress::parse(&address.map_err(|_| PeerAddressError::NotMultiaddr)?, peer)
    }

    /// Parses the text of a multiaddr of `peer`.
    ///
    /// # Errors
    ///
    /// The first respect in which it differs from the one form.
    pub fn from_text(text: &str, peer: Option<&PeerId>) -> Result<PeerAddress, PeerAddressError> {
        if text.len() > MAX_TEXT {
            return Err(PeerAddressError::TooLong);
        }
        let address = text.parse::<Multiaddr>();
        PeerAddress::parse(&address.map_err(|_| PeerAddressError::NotMultiaddr)?, peer)
    }

    /// Converts a multiaddr of `peer`: an IP address, a TCP port, `/ws`, `/tls/ws` or `/wss`, and optionally the `/p2p` of that
    /// peer. IPv4 mapped into IPv6 becomes IPv4.
    ///
    /// # Errors
    ///
    /// The first respect in which it differs from the one form.
    pub fn parse(
        address: &Multiaddr,
        peer: Option<&PeerId>,
    ) -> Result<PeerAddress, PeerAddressError> {
        let mut parts = address.iter();
        let ip: IpAddr = match parts.next() {
            Some(Protocol::Ip4(ip)) => ip.into(),
            Some(Protocol::Ip6(ip)) => ip.into(),
            Some(
                Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_),
            ) => {
                return Err(PeerAddressError::Name);
            }
            _ => return Err(PeerAddressError::NotIp),
        };
        let Some(Protocol::Tcp(port)) = parts.next() else {
            return Err(PeerAddressError::NotTcp);
        };
        let (is_tls, path) = match parts.next() {
            Some(Protocol::Ws(path)) => (false, path),
            Some(Protocol::Wss(path)) => (true, path),
            Some(Protocol::Tls) => match parts.next() {
                Some(Protocol::Ws(path)) => (true, path),
                _ => return Err(PeerAddressError::NotWebsocket),
            },
            _ => return Err(PeerAddressError::NotWebsocket),
        };
        if path != "/" {
            return Err(PeerAddressError::Path);
        }
        match (parts.next(), parts.next()) {
            (None, _) => {}
            (Some(Protocol::P2p(named)), None) if Some(&named) == peer => {}
            (Some(Protocol::P2p(_)), None) => return Err(PeerAddressError::OtherPeer),
            _ => return Err(PeerAddressError::NotWebsocket),
        }
        PeerAddress::new(ip, port, is_tls)
    }

    fn new(ip: IpAddr, port: u16, is_tls: bool) -> Result<PeerAddress, PeerAddressError> {
        let ip = ip.to_canonical();
        if port < MIN_FREE_PORT && !WEB_PORTS.contains(&port) {
            return Err(PeerAddressError::Port(port));
        }
        // A link-local address has no meaning without its interface, which no multiaddr here has.
        let is_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let reach = reach_of(ip).filter(|_| !is_local);
        let reach = reach.ok_or(PeerAddressError::NoScope(ip))?;
        Ok(PeerAddress {
            ip,
            port,
            is_tls,
            reach,
        })
    }

    /// Returns the IP address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Returns the address as a multiaddr, in its one spelling.
    pub fn to_multiaddr(&self) -> Multiaddr {
        let address = Multiaddr::from(self.ip).with(Protocol::Tcp(self.port));
        let address = match self.is_tls {
            true => address.with(Protocol::Tls),
            false => address,
        };
        address.with(Protocol::Ws("/".into()))
    }
}

impl Address for PeerAddress {
    type Host = Source;

    fn reach(&self) -> Reach {
        self.reach
    }

    fn host(&self) -> Source {
        Source::of_ip(behind(self.ip))
    }

    fn network(host: Source) -> Source {
        match host {
            Source::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Source::V4([a, b, c, 0].into())
            }
            other => other,
        }
    }
}

impl Remote<PeerAddress> {
    /// Returns the other end of a connection with a socket at `ip`, which was dialled at `address`. A socket whose address has no
    /// scope counts as public, which lets its peer name the least.
    pub fn at(ip: Option<IpAddr>, address: Option<PeerAddress>) -> Remote<PeerAddress> {
        Remote {
            host: ip.map_or(Source::Other, |ip| Source::of_ip(behind(ip))),
            reach: ip.and_then(reach_of).unwrap_or(Reach::Public),
            address,
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_multiaddr().fmt(f)
    }
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<PeerAddress> for Multiaddr {
    fn from(address: PeerAddress) -> Multiaddr {
        address.to_multiaddr()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn read(text: &str) -> Result<String, PeerAddressError> {
        let peer = PEER.parse().expect("a peer id");
        PeerAddress::from_text(text, Some(&peer)).map(|address| address.to_string())
    }

    #[test]
    fn there_is_one_spelling() {
        for (text, spelt) in [
            ("/ip4/8.8.8.8/tcp/9000/ws", "/ip4/8.8.8.8/tcp/9000/ws"),
            ("/ip4/8.8.8.8/tcp/80/ws", "/ip4/8.8.8.8/tcp/80/ws"),
            ("/ip4/8.8.8.8/tcp/443/wss", "/ip4/8.8.8.8/tcp/443/tls/ws"),
            ("/ip4/8.8.8.8/tcp/443/tls/ws", "/ip4/8.8.8.8/tcp/443/tls/ws"),
            (
                "/ip6/::ffff:8.8.8.8/tcp/1024/ws",
                "/ip4/8.8.8.8/tcp/1024/ws",
            ),
            ("/ip6/fd00:0::1/tcp/9000/ws", "/ip6/fd00::1/tcp/9000/ws"),
            (
                "/ip4/8.8.8.8/tcp/9000/x-parity-ws/%2F",
                "/ip4/8.8.8.8/tcp/9000/ws",
            ),
            (
                "/ip4/8.8.8.8/tcp/9000/x-parity-wss/%2F",
                "/ip4/8.8.8.8/tcp/9000/tls/ws",
            ),
        ] {
            assert_eq!(read(text).as_deref(), Ok(spelt), "{text}");
            assert_eq!(read(&format!("{text}/p2p/{PEER}")).as_deref(), Ok(spelt));
        }
    }

    #[test]
    fn other_forms_are_refused_with_the_reason() {
        use PeerAddressError::*;
        let other = PeerId::random();
        let injected =
            "/ip4/127.0.0.1/tcp/6379/x-parity-ws/%2F%20HTTP%2F1.1%0D%0ASET%20a%20b%0D%0A";
        for (text, error) in [
            ("nonsense".to_owned(), NotMultiaddr),
            (
                format!("/ip4/8.8.8.8/tcp/9000/x-parity-ws/{}", "a".repeat(300)),
                TooLong,
            ),
            ("/dns/localhost/tcp/9000/ws".to_owned(), Name),
            ("/dns4/localhost/tcp/9000/ws".to_owned(), Name),
            ("/dnsaddr/localhost".to_owned(), Name),
            ("/unix/run".to_owned(), NotIp),
            (String::new(), NotIp),
            ("/ip4/8.8.8.8/udp/9000/ws".to_owned(), NotTcp),
            ("/ip4/8.8.8.8/ip4/127.0.0.1/tcp/9000/ws".to_owned(), NotTcp),
            (injected.to_owned(), Path),
            ("/ip4/8.8.8.8/tcp/443/tls/x-parity-ws/%2Fa".to_owned(), Path),
            ("/ip4/8.8.8.8/tcp/443/x-parity-wss/a".to_owned(), Path),
            ("/ip4/8.8.8.8/tcp/9000".to_owned(), NotWebsocket),
            ("/ip4/8.8.8.8/tcp/9000/tls".to_owned(), NotWebsocket),
            ("/ip4/8.8.8.8/tcp/443/tls/sni/a/ws".to_owned(), NotWebsocket),
            ("/ip4/8.8.8.8/tcp/443/ws/ws".to_owned(), NotWebsocket),
            (
                "/ip4/8.8.8.8/tcp/9000/ws/p2p-circuit".to_owned(),
                NotWebsocket,
            ),
            (
                format!("/ip4/8.8.8.8/tcp/9000/ws/p2p/{PEER}/p2p/{PEER}"),
                NotWebsocket,
            ),
            (format!("/ip4/8.8.8.8/tcp/9000/ws/p2p/{other}"), OtherPeer),
            ("/ip4/8.8.8.8/tcp/0/ws".to_owned(), Port(0)),
            ("/ip4/8.8.8.8/tcp/22/ws".to_owned(), Port(22)),
            ("/ip4/8.8.8.8/tcp/1023/tls/ws".to_owned(), Port(1023)),
            (
                "/ip4/0.0.0.0/tcp/9000/ws".to_owned(),
                NoScope([0; 4].into()),
            ),
            (
                "/ip6/fe80::1/tcp/9000/ws".to_owned(),
                NoScope("fe80::1".parse().expect("an IP address")),
            ),
        ] {
            assert_eq!(read(&text), Err(error), "{text}");
        }
        let anonymous = format!("/ip4/8.8.8.8/tcp/9000/ws/p2p/{PEER}");
        assert_eq!(PeerAddress::from_text(&anonymous, None), Err(OtherPeer));
        assert_eq!(PeerAddress::from_bytes(&[4; 200], None), Err(TooLong));
        assert_eq!(PeerAddress::from_bytes(&[4], None), Err(NotMultiaddr));
    }

    #[test]
    fn an_address_behind_a_translator_is_of_the_same_host() {
        let host = |text| {
            PeerAddress::from_text(text, None)
                .expect("an address")
                .host()
        };
        assert_eq!(
            host("/ip6/64:ff9b::808:808/tcp/9000/ws"),
            host("/ip4/8.8.8.8/tcp/9001/ws")
        );
        assert_eq!(
            host("/ip6/fd00::1/tcp/9000/ws"),
            host("/ip6/fd00::2/tcp/9000/ws")
        );
        assert_ne!(
            host("/ip6/fd00::1/tcp/9000/ws"),
            host("/ip6/fd00:0:0:1::1/tcp/9000/ws")
        );
    }

    /// Returns multiaddrs of random parts, of which some are in a valid order.
    fn parts() -> impl Strategy<Value = Multiaddr> {
        let part = prop_oneof![
            any::<[u8; 4]>().prop_map(|ip| Protocol::Ip4(ip.into())),
            any::<[u8; 16]>().prop_map(|ip| Protocol::Ip6(ip.into())),
            any::<u16>().prop_map(Protocol::Tcp),
            any::<u16>().prop_map(Protocol::Udp),
            Just(Protocol::Tls),
            Just(Protocol::Ws("/".into())),
            Just(Protocol::Wss("/".into())),
            ".{0,12}".prop_map(|path| Protocol::Ws(path.into())),
            "[a-z]{1,8}".prop_map(|name| Protocol::Dns(name.into())),
            "[a-z]{1,8}".prop_map(|name| Protocol::Sni(name.into())),
        ];
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.into_iter().collect())
    }

    proptest! {
        #[test]
        fn an_address_that_parses_parses_again_as_itself(address in parts(), bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let read = [PeerAddress::parse(&address, None), PeerAddress::from_bytes(&bytes, None)];
            for address in read.into_iter().flatten() {
                let spelt = address.to_multiaddr();
                prop_assert_eq!(PeerAddress::from_bytes(&spelt.to_vec(), None), Ok(address));
                prop_assert_eq!(PeerAddress::from_text(&spelt.to_string(), None), Ok(address));
                prop_assert!(!spelt.to_string().contains("x-parity"));
            }
        }
    }
}
