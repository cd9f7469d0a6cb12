//! Addresses in the forms that people write: a multiaddr, `[IPV6]:PORT`, `HOST:PORT`, a ws:// URL, or a port of this
//! machine.
//!
//! Entry type: [`Address`]. The rules it keeps: an address that cannot be dialled over WebSocket is refused here, with
//! the expected form in the error; and only a host and a port of the text reach the bytes that a dial sends. Addresses
//! named by a peer or a file follow stricter rules: see [`crate::overlay::PeerAddress`].

mod parts;

use std::fmt;
use std::str::FromStr;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use self::parts::{check, parse_host, split_port};

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
        let peer_id = match multiaddr.iter().last() {
            Some(Protocol::P2p(peer_id)) => {
                multiaddr.pop();
                Some(peer_id)
            }
            _ => None,
        };
        if let Err(reason) = check(&multiaddr) {
            return Err(AddressError { text, reason });
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

#[cfg(test)]
mod tests;
