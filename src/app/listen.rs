//! Parses addresses to listen on: a multiaddr, `IP:PORT`, `[IPV6%INTERFACE]:PORT`, or a port.
//!
//! Entry function: [`parse_all`]. The rule it keeps: an address that libp2p could not listen on over WebSocket is
//! refused here, with the expected form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::failure::Failure;
use crate::net::{Address, AddressError};

/// Returns the addresses that `texts` name. A port alone gives one address of IPv6 and one of IPv4. With `is_tls`,
/// addresses without a protocol use TLS, because a node with a certificate is meant to use it.
pub(crate) fn parse_all(texts: &[String], is_tls: bool) -> Result<Vec<Multiaddr>, Failure> {
    let mut addresses = Vec::new();
    for text in texts {
        let parsed = parse(text, is_tls).map_err(|reason| {
            Failure::usage(format!(
                "--listen {text:?}: {reason}; write for example /ip4/0.0.0.0/tcp/9000/ws, \
                 [::]:9000 or 9000"
            ))
        })?;
        addresses.extend(parsed);
    }
    Ok(addresses)
}

fn parse(text: &str, is_tls: bool) -> Result<Vec<Multiaddr>, String> {
    if let Ok(port) = text.parse::<u16>() {
        let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        return Ok(vec![of_socket(v6, is_tls), of_socket(v4, is_tls)]);
    }
    if let Ok(socket) = text.parse::<SocketAddr>()
        && !is_link_local(&socket)
    {
        return Ok(vec![of_socket(socket, is_tls)]);
    }
    if !text.starts_with('/') && (text.contains('%') || text.parse::<SocketAddr>().is_ok()) {
        let address: Address = text
            .parse()
            .map_err(|error: AddressError| error.reason().to_owned())?;
        let mut address = address.multiaddr().clone();
        address.pop();
        return Ok(vec![with_websocket(address, is_tls)]);
    }
    if !text.starts_with('/') {
        return Err("it is neither an IP address with a port, nor a port".into());
    }
    let address: Multiaddr = text
        .parse()
        .map_err(|e| format!("it is no multiaddr ({e})"))?;
    check(&address)?;
    Ok(vec![address])
}

fn is_link_local(socket: &SocketAddr) -> bool {
    matches!(socket.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn with_websocket(address: Multiaddr, is_tls: bool) -> Multiaddr {
    let address = match is_tls {
        true => address.with(Protocol::Tls),
        false => address,
    };
    address.with(Protocol::Ws("/".into()))
}

fn of_socket(socket: SocketAddr, is_tls: bool) -> Multiaddr {
    let host = match socket.ip() {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    };
    let address = Multiaddr::empty()
        .with(host)
        .with(Protocol::Tcp(socket.port()));
    with_websocket(address, is_tls)
}

fn check(address: &Multiaddr) -> Result<(), String> {
    let mut parts: Vec<Protocol<'_>> = address.iter().collect();
    let has_zone = matches!(parts.first(), Some(Protocol::Ip6zone(_)));
    if has_zone {
        parts.remove(0);
    }
    let is_link_local =
        matches!(parts.first(), Some(Protocol::Ip6(ip)) if ip.is_unicast_link_local());
    match (has_zone, is_link_local) {
        (true, false) => {
            return Err("/ip6zone goes before a link-local address only, one of fe80::/10".into());
        }
        (false, true) => {
            return Err("a link-local address needs its network interface: write \
                        /ip6zone/eth0/ip6/… or [fe80::…%eth0]:9000"
                .into());
        }
        _ => {}
    }
    match parts.first() {
        Some(Protocol::Ip4(_) | Protocol::Ip6(_)) => {}
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => {
            return Err("a node listens on an IP address, not on a name".into());
        }
        _ => return Err("it must begin with /ip4 or /ip6".into()),
    }
    match parts.get(1) {
        Some(Protocol::Tcp(_)) => {}
        _ => return Err("/tcp/PORT must follow the IP address".into()),
    }
    match parts.get(2..) {
        Some([Protocol::Ws(path) | Protocol::Wss(path)] | [Protocol::Tls, Protocol::Ws(path)]) => {
            match path == "/" {
                true => Ok(()),
                false => Err("a path cannot be listened on, only /ws or /tls/ws".into()),
            }
        }
        Some([.., Protocol::P2p(_)]) => Err("a peer id is for dialling, not for listening".into()),
        Some([]) => Err("it must end with /ws (or /tls/ws): add it".into()),
        _ => Err("only /ws or /tls/ws can follow the port".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match parse(text, false) {
            Ok(addresses) => addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Err(reason) => reason,
        }
    }

    #[test]
    fn a_port_an_ip_with_a_port_and_a_multiaddr_are_understood() {
        assert_eq!(
            parsed("9000"),
            "/ip6/::/tcp/9000/ws /ip4/0.0.0.0/tcp/9000/ws"
        );
        assert_eq!(parsed("[::1]:9000"), "/ip6/::1/tcp/9000/ws");
        let link_local = "/ip6zone/eth0/ip6/fe80::1/tcp/9000/ws";
        assert_eq!(parsed("[fe80::1%eth0]:9000"), link_local);
        assert_eq!(parsed(link_local), link_local);
        for (text, secure) in [
            ("[::1]:9000", "/ip6/::1/tcp/9000/tls/ws"),
            (
                "[fe80::1%eth0]:9000",
                "/ip6zone/eth0/ip6/fe80::1/tcp/9000/tls/ws",
            ),
            ("/ip6/::1/tcp/9000/ws", "/ip6/::1/tcp/9000/ws"),
        ] {
            let addresses = parse(text, true).expect("an address");
            assert_eq!(addresses[0].to_string(), secure);
        }
        assert_eq!(parsed("127.0.0.1:0"), "/ip4/127.0.0.1/tcp/0/ws");
        assert_eq!(
            parsed("/ip4/0.0.0.0/tcp/443/tls/ws"),
            "/ip4/0.0.0.0/tcp/443/tls/ws"
        );
    }

    #[test]
    fn what_cannot_be_listened_on_says_why() {
        assert!(parsed("/ip4/0.0.0.0/tcp/9000").contains("add it"));
        assert!(parsed("/dns/localhost/tcp/9000/ws").contains("not on a name"));
        assert!(parsed("/ip4/0.0.0.0/udp/9000").contains("/tcp/PORT"));
        assert!(parsed("localhost:9000").contains("neither"));
        assert!(parsed("[fe80::1]:9000").contains("%eth0]:9000"));
        assert!(parsed("/ip6/fe80::1/tcp/9000/ws").contains("/ip6zone/eth0"));
        assert!(parsed("/ip6zone/eth0/ip6/::1/tcp/9000/ws").contains("link-local"));
        assert!(parsed("99999").contains("neither"));
        assert!(parsed("/nonsense").contains("no multiaddr"));
        assert!(parsed("/ip4/0.0.0.0/tcp/9000/x-parity-ws/a").contains("a path cannot"));
    }
}
