//! Checks that a port is free. libp2p listens with SO_REUSEPORT, so that two nodes on one port would silently share it,
//! each with half of the connections.
//!
//! Entry function: [`check_free`]. The rule it keeps: it refuses only ports in use; the listener reports every other
//! error.

use std::io;
use std::net::{IpAddr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use socket2::{Domain, Socket, Type};

/// Checks that no other socket listens on the port of `address`.
///
/// # Errors
///
/// The port is in use; the text names the remedy.
pub(crate) fn check_free(address: &Multiaddr) -> Result<(), String> {
    let Some(socket_address) = socket_address(address) else {
        return Ok(());
    };
    match bind(socket_address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(
            "another program has the port; stop it, or choose another port with --listen"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Binds as a listener does, but without sharing the port.
fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Lingering connections of an earlier run do not block the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) if port != 0 => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}
