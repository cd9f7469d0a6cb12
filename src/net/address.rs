//! Addresses in the forms that people write: a multiaddr, `[IPV6]:PORT`, `HOST:PORT`, a ws:// URL, or a port of this
//! machine.
//!
//! Entry type: [`Address`]. The rules it keeps: an address that cannot be dialled over WebSocket is refused here, with
//! the expected form in the error; and only a host and a port of the text reach the bytes that a dial sends. Addresses
//! named by a peer or a file follow stricter rules: see [`crate::overlay::PeerAddress`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// Maximum length of the name of a network interface, in bytes: Linux allows 15, others a little more.
const MAX_INTERFACE_NAME: usize = 32;

/// An address to dial, with the id of the peer that must answer there if it is known.
///
/// ```
/// use diatribe::Address;
///
/// let address: Address = "[::1]:9000".parse()?;
/// assert_eq!(address.to_string(), "/ip6/::1/tcp/9000/ws");
/// let address: Address = "chat.example.org:443".parse()?;
/// assert_eq!(address.to_string(), "/dns/chat.example.org/tcp/443/ws");
/// let address: Address = "[fe80::1%eth0]:9000".parse()?;
/// assert_eq!(address.to_string(), "/ip6zone/eth0/ip6/fe80::1/tcp/9000/ws");
/// let address: Address = "9000".parse()?;
/// assert_eq!(address.to_string(), "/dns/localhost/tcp/9000/ws");
/// assert!("chat.example.org".parse::<Address>().is_err());
/// # Ok::<(), diatribe::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    multiaddr: Multiaddr,
    peer_id: Option<PeerId>,
}

/// A text is not an address that can be dialled. The message repeats the text and names the fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an address to dial: {reason}")]
pub struct AddressError {
    text: String,
    reason: String,
}

impl AddressError {
    /// Returns the fault of the text, without repeating the text.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl Address {
    /// Returns the address without the peer id.
    pub fn multiaddr(&self) -> &Multiaddr {
        &self.multiaddr
    }

    /// Returns the id of the peer that must answer, when the address names one.
    pub fn peer_id(&self) -> Option<PeerId> {
        self.peer_id
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer_id {
            Some(peer_id) => write!(f, "{}/p2p/{peer_id}", self.multiaddr),
            None => self.multiaddr.fmt(f),
        }
    }
}

impl Address {
    /// Returns whether the address is dialled with TLS.
    pub(crate) fn is_secure(&self) -> bool {
        let mut parts = self.multiaddr.iter();
        parts.any(|part| matches!(part, Protocol::Tls | Protocol::Wss(_)))
    }
}

impl TryFrom<Multiaddr> for Address {
    type Error = AddressError;

    fn try_from(mut multiaddr: Multiaddr) -> Result<Address, AddressError> {
        let text = multiaddr.to_string();
        let wrong = |reason: &str| AddressError {
            text: text.clone(),
            reason: reason.to_owned(),
        };
        let peer_id = match multiaddr.iter().last() {
            Some(Protocol::P2p(peer_id)) => {
                multiaddr.pop();
                Some(peer_id)
            }
            _ => None,
        };
        let mut parts: Vec<Protocol<'_>> = multiaddr.iter().collect();
        let zone = match parts.first() {
            Some(Protocol::Ip6zone(zone)) => Some(zone.clone()),
            _ => None,
        };
        if let Some(zone) = &zone {
            if !is_interface_name(zone) {
                return Err(wrong("what follows /ip6zone is no network interface"));
            }
            parts.remove(0);
        }
        match (zone, parts.first()) {
            (Some(_), Some(Protocol::Ip6(ip))) if ip.is_unicast_link_local() => {}
            (Some(_), _) => {
                return Err(wrong(
                    "a network interface goes before a link-local address only, one of fe80::/10",
                ));
            }
            (None, Some(Protocol::Ip6(ip))) if ip.is_unicast_link_local() => {
                return Err(wrong(&format!(
                    "a link-local address needs the network interface of this machine by which it is reached; write for \
                     example [{ip}%eth0]:9000 (`ip link` lists the interfaces)"
                )));
            }
            (None, _) => {}
        }
        match parts.first() {
            Some(Protocol::Ip4(ip)) if ip.is_unspecified() => {
                return Err(wrong("0.0.0.0 is where to listen, not where to dial"));
            }
            Some(Protocol::Ip6(ip)) if ip.is_unspecified() => {
                return Err(wrong("`::` is where to listen, not where to dial"));
            }
            Some(Protocol::Ip4(_) | Protocol::Ip6(_)) => {}
            Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => {
                if !is_host_name(name) {
                    return Err(wrong("what follows /dns is no host name"));
                }
            }
            Some(Protocol::Dnsaddr(_)) => {
                return Err(wrong(
                    "/dnsaddr is not looked up: give the address it stands for",
                ));
            }
            _ => return Err(wrong("it must begin with /ip4, /ip6 or /dns")),
        }
        match parts.get(1) {
            Some(Protocol::Tcp(0)) => return Err(wrong("port 0 cannot be dialled")),
            Some(Protocol::Tcp(_)) => {}
            _ => return Err(wrong("/tcp/PORT must follow the host")),
        }
        match parts.get(2..) {
            Some(
                [Protocol::Ws(path) | Protocol::Wss(path)] | [Protocol::Tls, Protocol::Ws(path)],
            ) => {
                if path != "/" {
                    return Err(wrong("a path cannot be dialled, only /ws, /tls/ws or /wss"));
                }
            }
            Some([]) => return Err(wrong("it must end with /ws (or /tls/ws): add it")),
            _ => return Err(wrong("only /ws, /tls/ws or /wss can follow the port")),
        }
        Ok(Address { multiaddr, peer_id })
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let text = text.trim();
        let wrong = |reason: String| AddressError {
            text: text.to_owned(),
            reason,
        };
        if text.starts_with('/') {
            let multiaddr =
                Multiaddr::from_str(text).map_err(|e| wrong(format!("no multiaddr ({e})")))?;
            return Address::try_from(multiaddr);
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let port: u16 = text
                .parse()
                .map_err(|_| wrong(format!("`{text}` is no port (1 to 65535)")))?;
            // A port alone means a node on this machine.
            let local = Multiaddr::empty().with(Protocol::Dns("localhost".into()));
            return Address::try_from(
                local
                    .with(Protocol::Tcp(port))
                    .with(Protocol::Ws("/".into())),
            );
        }
        let (host_port, last, default_port) = match text.split_once("://") {
            Some(("ws", rest)) => (
                rest.trim_end_matches('/'),
                Protocol::Ws("/".into()),
                Some(80),
            ),
            Some(("wss", rest)) => (
                rest.trim_end_matches('/'),
                Protocol::Wss("/".into()),
                Some(443),
            ),
            Some((scheme, _)) => {
                return Err(wrong(format!(
                    "`{scheme}` is not spoken here, only ws and wss"
                )));
            }
            None => (text, Protocol::Ws("/".into()), None),
        };
        if host_port.contains('/') {
            return Err(wrong("a path cannot be dialled, only HOST:PORT".into()));
        }
        let (host, port) = split_port(host_port, default_port).map_err(wrong)?;
        let mut multiaddr = Multiaddr::empty();
        for part in parse_host(host).map_err(|reason| AddressError {
            text: text.to_owned(),
            reason,
        })? {
            multiaddr.push(part);
        }
        multiaddr.push(Protocol::Tcp(port));
        multiaddr.push(last);
        Address::try_from(multiaddr)
    }
}

fn split_port(host_port: &str, default: Option<u16>) -> Result<(&str, u16), String> {
    let bare_v6 = split_zone(host_port).0.parse::<Ipv6Addr>().is_ok();
    let is_zone_last = bare_v6 && host_port.contains('%');
    match host_port.rsplit_once(':') {
        // In `fe80::1%eth0:9000` the interface separates the address from the port.
        Some((host, port)) if (!bare_v6 || host.contains('%')) && !host_port.ends_with(']') => {
            let port = port
                .parse()
                .map_err(|_| format!("`{port}` is no port (1 to 65535)"))?;
            Ok((host, port))
        }
        _ if bare_v6 && (default.is_none() || !is_zone_last) => Err(format!(
            "an IPv6 address needs brackets and a port: [{host_port}]:9000"
        )),
        _ => match default {
            Some(port) => Ok((host_port, port)),
            None => Err(format!(
                "it has no port; write {host_port}:9000, or a multiaddr"
            )),
        },
    }
}

/// Splits an address from the network interface after it.
fn split_zone(host: &str) -> (&str, Option<&str>) {
    match host.split_once('%') {
        // In a URL the percent sign is written as %25 (RFC 6874).
        Some((ip, zone)) => (ip, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (host, None),
    }
}

fn parse_host(host: &str) -> Result<Vec<Protocol<'_>>, String> {
    // Some programs write `[fe80::1]%eth0`.
    let (ip, zone) = match (host.strip_prefix('['), host.strip_suffix(']')) {
        (Some(_), Some(_)) => split_zone(&host[1..host.len() - 1]),
        _ => split_zone(host),
    };
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    if let Some(zone) = zone {
        let ip = bare.unwrap_or(ip);
        let ip: Ipv6Addr = ip
            .parse()
            .map_err(|_| format!("`{ip}` is no IPv6 address, and only those have an interface"))?;
        return Ok(vec![Protocol::Ip6zone(zone.into()), Protocol::Ip6(ip)]);
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        let ip: Ipv6Addr = inner
            .parse()
            .map_err(|_| format!("`{inner}` is no IPv6 address"))?;
        return Ok(vec![Protocol::Ip6(ip)]);
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Ok(vec![Protocol::Ip4(ip)]);
    }
    if host.parse::<IpAddr>().is_ok() || host.contains(':') {
        return Err(format!("an IPv6 address needs brackets: [{host}]"));
    }
    if !is_host_name(host) {
        return Err(format!("`{host}` is no host name"));
    }
    Ok(vec![Protocol::Dns(host.into())])
}

/// Returns whether the text can be the name of a network interface, or its number as on Windows.
pub(crate) fn is_interface_name(zone: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=MAX_INTERFACE_NAME).contains(&zone.len()) && zone.chars().all(is_fit)
}

/// Returns whether the text has only characters of a host name, so that it is safe in a request's `Host` header.
fn is_host_name(host: &str) -> bool {
    let labels_fit = host.trim_end_matches('.').split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label
                .chars()
                .all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    });
    host.len() <= 253 && labels_fit
}

#[cfg(test)]
mod tests;
