//! Configuration and start of a node.
//!
//! Entry type: [`NodeBuilder`]. The rule it keeps: every option has a default with which a node works.

mod start;

use std::path::{Path, PathBuf};
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::handshake::HandshakeLimit;
use crate::identity::{Identity, NetworkKey};
use crate::model::RoomName;
use crate::net::address::Address;
use crate::net::limits::Caps;
use crate::net::tls::TlsFiles;
use crate::store::RetentionPolicy;

/// Default addresses to listen on. IPv6 and IPv4 are separate, because libp2p binds IPv6 sockets to IPv6 only.
pub const DEFAULT_LISTEN: [&str; 2] = ["/ip6/::/tcp/9000/ws", "/ip4/0.0.0.0/tcp/9000/ws"];
/// Default addresses to listen on with a TLS certificate.
const DEFAULT_LISTEN_TLS: [&str; 2] = ["/ip6/::/tcp/9000/tls/ws", "/ip4/0.0.0.0/tcp/9000/tls/ws"];
/// Default room.
pub const DEFAULT_ROOM: &str = "lobby";
/// Maximum size of a log in memory: 64 MiB.
pub const EPHEMERAL_BYTES: u64 = 64 << 20;
/// Maximum number of the application's commands that wait for the loop.
const MAX_COMMANDS: usize = 64;
/// Time after which an idle connection that is neither a link nor in a handshake is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum number of streams of one connection that wait for the negotiation of their protocol.
const MAX_NEGOTIATING: usize = 16;

/// The options of a node. [`super::Node::builder`] returns the defaults, [`NodeBuilder::start`] starts the node.
///
/// # Examples
///
/// ```no_run
/// use diatribe::{Identity, Node};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder()
///     .identity(Identity::generate())
///     .dial(["[2001:db8::1]:9000".parse()?])
///     .data_dir("/var/lib/example")
///     .start()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder does nothing before `start`"]
pub struct NodeBuilder {
    identity: Option<Identity>,
    listen: Option<Vec<Multiaddr>>,
    dial: Vec<Address>,
    rooms: Option<Vec<RoomName>>,
    network: Option<NetworkKey>,
    trust: Vec<PeerId>,
    deny: Vec<PeerId>,
    tls: TlsFiles,
    announce: Vec<Multiaddr>,
    per_address: Option<usize>,
    exempt_loopback: bool,
    data_dir: Option<PathBuf>,
    keep: Option<RetentionPolicy>,
    links: Option<(usize, usize)>,
    fixed_links: bool,
    gossip_only: bool,
    confirmed_by: usize,
}

impl NodeBuilder {
    /// Sets the node's identity; by default a new random one.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Listens on these addresses instead of [`DEFAULT_LISTEN`]; an empty list listens on none.
    pub fn listen(mut self, addresses: impl IntoIterator<Item = Multiaddr>) -> Self {
        self.listen = Some(addresses.into_iter().collect());
        self
    }

    /// Dials these addresses until they answer, and again when all links are lost.
    pub fn dial(mut self, addresses: impl IntoIterator<Item = Address>) -> Self {
        self.dial.extend(addresses);
        self
    }

    /// Joins these rooms instead of [`DEFAULT_ROOM`].
    pub fn rooms(mut self, rooms: impl IntoIterator<Item = RoomName>) -> Self {
        self.rooms = Some(rooms.into_iter().collect());
        self
    }

    /// Links only with nodes that have the same network key.
    pub fn network_key(mut self, key: NetworkKey) -> Self {
        self.network = Some(key);
        self
    }

    /// Links only with these peers. Without any, links with every peer that proves its key.
    pub fn trust(mut self, peers: impl IntoIterator<Item = PeerId>) -> Self {
        self.trust.extend(peers);
        self
    }

    /// Never links with these peers.
    pub fn deny(mut self, peers: impl IntoIterator<Item = PeerId>) -> Self {
        self.deny.extend(peers);
        self
    }

    /// Listens on `/tls/ws` addresses, also by default, with this certificate chain and its key (PEM files). The files are
    /// read every 10 seconds: a renewed certificate serves new connections, and links stay. A certificate that is not valid
    /// yet, or has expired, is reported as [`super::Event::Error`].
    pub fn tls(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.tls.certificate = Some((certificate.as_ref().into(), key.as_ref().into()));
        self
    }

    /// Trusts this certificate (a PEM file) for dials to `/tls/ws` and `/wss`, in addition to the usual authorities.
    pub fn tls_ca(mut self, certificate: impl AsRef<Path>) -> Self {
        self.tls.authorities.push(certificate.as_ref().into());
        self
    }

    /// Announces these addresses of a proxy or a forwarded port to peers. Only IP addresses are announced; names are for
    /// people to pass on. With announced addresses, all inbound connections count as connections from the internet.
    pub fn announce(mut self, addresses: impl IntoIterator<Item = Multiaddr>) -> Self {
        self.announce.extend(addresses);
        self
    }

    /// Sets the maximum number of connections of one address that wait for their handshake (default 4). Twice as many may be
    /// half-open, and as many handshakes may begin at once.
    pub fn per_address_limit(mut self, connections: usize) -> Self {
        self.per_address = Some(connections);
        self
    }

    /// Exempts loopback addresses from the limits by address, and links from the event rate limit: for many nodes on one
    /// machine.
    pub fn exempt_loopback(mut self, exempt: bool) -> Self {
        self.exempt_loopback = exempt;
        self
    }

    /// Keeps the log in this directory, so that the messages of the node's rooms survive the process. By default it is in
    /// memory, up to [`EPHEMERAL_BYTES`].
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(directory.into());
        self
    }

    /// Sets the log's retention policy, and its durability after a power cut.
    pub fn retention(mut self, policy: RetentionPolicy) -> Self {
        self.keep = Some(policy);
        self
    }

    /// Sets the maximum number of links (default 5; one more during a handover), and the minimum (default 2) below which the
    /// node looks for peers urgently.
    pub fn links(mut self, max: usize, min: usize) -> Self {
        self.links = Some((max, min));
        self
    }

    /// Makes only the links of [`NodeBuilder::dial`] and [`super::Node::connect`]: no overlay, no redirect hints, no limit,
    /// no repair except redials. For test benches and meshes drawn by hand.
    pub fn fixed_links(mut self, fixed: bool) -> Self {
        self.fixed_links = fixed;
        self
    }

    /// Receives large batches by gossip only, as a peer that understands no announcements: several copies of each, without
    /// a fetch. By default they are announced and fetched once.
    pub fn gossip_only(mut self, gossip_only: bool) -> Self {
        self.gossip_only = gossip_only;
        self
    }

    /// Requires that `neighbours` linked peers confirm that they store an event before it counts as sent; by default it
    /// counts when it is stored here. Without confirmation within 10 s the answer is
    /// [`super::BroadcastError::NotConfirmed`]. Peers that understand no announcements (`proto/README.md`, chapter 10) cannot
    /// confirm.
    pub fn confirmed_by(mut self, neighbours: usize) -> Self {
        self.confirmed_by = neighbours;
        self
    }

    fn caps(&self) -> Caps {
        let mut caps = Caps {
            exempt_loopback: self.exempt_loopback,
            ..Caps::default()
        };
        if let Some(n) = self.per_address {
            caps.unverified_per_source = n;
            caps.pending_per_source = n.saturating_mul(2);
        }
        caps
    }

    fn handshake_limit(&self) -> HandshakeLimit {
        let mut limit = HandshakeLimit {
            exempt_loopback: self.exempt_loopback,
            ..HandshakeLimit::default()
        };
        if let Some(n) = self.per_address {
            limit.burst = limit.burst.max(n as f64);
        }
        limit
    }
}

/// Returns whether other nodes can dial the address. A link-local IPv6 address means nothing without its interface.
pub(super) fn can_be_dialled(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip6(ip)) => !ip.is_unicast_link_local(),
        _ => true,
    }
}
