//! The parts of an address: its interface, host, port and protocols.
//!
//! Entry functions: [`check`] for a multiaddr, [`split_port`] and [`parse_host`] for a text. The rule they keep: every
//! refusal says what is expected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Maximum length of the name of a network interface, in bytes: Linux allows 15, others a little more.
const MAX_INTERFACE_NAME: usize = 32;

/// Checks that an address without a peer id can be dialled.
///
/// # Errors
///
/// The fault, and the expected form.
pub(super) fn check(address: &Multiaddr) -> Result<(), String> {
    let mut parts: Vec<Protocol<'_>> = address.iter().collect();
    let zone = match parts.first() {
        Some(Protocol::Ip6zone(zone)) => Some(zone.clone()),
        _ => None,
    };
    if let Some(zone) = &zone {
        if !is_interface_name(zone) {
            return Err("what follows /ip6zone is no network interface".to_owned());
        }
        parts.remove(0);
    }
    check_zone(zone.is_some(), parts.first())?;
    check_host(parts.first())?;
    check_protocols(&parts)
}

/// Checks that a link-local address has an interface, and no other address has one.
fn check_zone(has_zone: bool, host: Option<&Protocol<'_>>) -> Result<(), String> {
    match (has_zone, host) {
        (true, Some(Protocol::Ip6(ip))) if ip.is_unicast_link_local() => Ok(()),
        (true, _) => Err(
            "a network interface goes before a link-local address only, one of fe80::/10"
                .to_owned(),
        ),
        (false, Some(Protocol::Ip6(ip))) if ip.is_unicast_link_local() => Err(format!(
            "a link-local address needs the network interface of this machine by which it is reached; write for \
             example [{ip}%eth0]:9000 (`ip link` lists the interfaces)"
        )),
        (false, _) => Ok(()),
    }
}

fn check_host(host: Option<&Protocol<'_>>) -> Result<(), String> {
    let reason = match host {
        Some(Protocol::Ip4(ip)) if ip.is_unspecified() => {
            "0.0.0.0 is where to listen, not where to dial"
        }
        Some(Protocol::Ip6(ip)) if ip.is_unspecified() => {
            "`::` is where to listen, not where to dial"
        }
        Some(Protocol::Ip4(_) | Protocol::Ip6(_)) => return Ok(()),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => {
            match is_host_name(name) {
                true => return Ok(()),
                false => "what follows /dns is no host name",
            }
        }
        Some(Protocol::Dnsaddr(_)) => "/dnsaddr is not looked up: give the address it stands for",
        _ => "it must begin with /ip4, /ip6 or /dns",
    };
    Err(reason.to_owned())
}

/// Checks the port and the protocols after the host.
fn check_protocols(parts: &[Protocol<'_>]) -> Result<(), String> {
    let reason = match (parts.get(1), parts.get(2..)) {
        (Some(Protocol::Tcp(0)), _) => "port 0 cannot be dialled",
        (
            Some(Protocol::Tcp(_)),
            Some([Protocol::Ws(path) | Protocol::Wss(path)] | [Protocol::Tls, Protocol::Ws(path)]),
        ) => match path == "/" {
            true => return Ok(()),
            false => "a path cannot be dialled, only /ws, /tls/ws or /wss",
        },
        (Some(Protocol::Tcp(_)), Some([])) => "it must end with /ws (or /tls/ws): add it",
        (Some(Protocol::Tcp(_)), _) => "only /ws, /tls/ws or /wss can follow the port",
        _ => "/tcp/PORT must follow the host",
    };
    Err(reason.to_owned())
}

/// Splits a host from the port after it.
pub(super) fn split_port(host_port: &str, default: Option<u16>) -> Result<(&str, u16), String> {
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

/// Parses a host name or an IP address with its interface.
pub(super) fn parse_host(host: &str) -> Result<Vec<Protocol<'_>>, String> {
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
fn is_interface_name(zone: &str) -> bool {
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
