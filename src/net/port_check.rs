//! Whether a port is free. libp2p listens with SO_REUSEPORT, so that two nodes on one port would
//! share it in silence, each with half of the connections.
//!
//! Entry function: [`check_free`]. The rule it keeps: it refuses only what is really taken; any
//! other trouble is left to listening itself.

use std::io;
use std::net::{IpAddr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use socket2::{Domain, Socket, Type};

/// Refuses `address` when another socket listens on its port.
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
    // Connections that linger from an earlier run do not count.
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
