//! From what the application asks for to a node that is online.
//!
//! Entry type: [`NodeBuilder`]. The rule it keeps: `start` answers only when every address is
//! listened on, or says which is not and why.

use std::any::Any;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{Config as SwarmConfig, Swarm};
use libp2p::{Multiaddr, PeerId, Transport};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Notify, Semaphore, mpsc};

use super::admission::Admission;
use super::behaviour::Behaviour;
use super::error::StartError;
use super::event::{Event, EventBus, Events};
use super::handle::{Node, Shared};
use super::heads::Heads;
use super::history_stream::LogReplay;
use super::inbox::{self, Inbox};
use super::ingest::{self, Ends, Keeper, Own};
use super::runner::{Channels, ClockWatch, Command, Runner};
use super::store::Store;
use super::supervisor::{Supervisor, panic_message};
use super::{book, outbox};
use crate::clock::{Clock, UnixClock};
use crate::gossip::{Author, MAX_ROOMS, MessageIds};
use crate::handshake::{HandshakeLimit, Local};
use crate::identity::{Identity, NetworkId, NetworkKey};
use crate::model::RoomName;
use crate::net::address::Address;
use crate::net::backpressure::SendWindows;
use crate::net::half_open::{AbortableUpgrades, HalfOpenConnections};
use crate::net::limits::{self, Caps};
use crate::net::tls::certificate;
use crate::net::tls::{self, TlsFiles};
use crate::net::{listening, transport};
use crate::overlay;
use crate::store::{Log, LogError, Notice, RetentionPolicy, Writer};
use crate::sync;

/// Where a node listens when it is not told: IPv6 and IPv4 apart, because libp2p binds IPv6 alone.
pub const DEFAULT_LISTEN: [&str; 2] = ["/ip6/::/tcp/9000/ws", "/ip4/0.0.0.0/tcp/9000/ws"];
/// The same for a node that was given a TLS certificate.
const DEFAULT_LISTEN_TLS: [&str; 2] = ["/ip6/::/tcp/9000/tls/ws", "/ip4/0.0.0.0/tcp/9000/tls/ws"];
/// The room a node is in when it is not told.
pub const DEFAULT_ROOM: &str = "lobby";
/// What a log in memory keeps at most: 64 MiB.
pub const EPHEMERAL_BYTES: u64 = 64 << 20;
/// Commands of the application that may wait for the loop.
const MAX_COMMANDS: usize = 64;
/// A connection on which nothing happens and that is neither a link nor in a handshake.
const IDLE: Duration = Duration::from_secs(15);
/// Streams of one connection whose protocol is not negotiated yet.
const MAX_NEGOTIATING: usize = 16;

/// How a node is to be: [`super::Node::builder`] begins one, [`NodeBuilder::start`] ends it.
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
    /// The node's identity; a new random one when it is not given.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Listens on these addresses instead of [`DEFAULT_LISTEN`]; on none when there are none.
    pub fn listen(mut self, addresses: impl IntoIterator<Item = Multiaddr>) -> Self {
        self.listen = Some(addresses.into_iter().collect());
        self
    }

    /// Dials these addresses until they answer, and again when their links are lost.
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

    /// Links only with these peers. Without any: with every peer that proves its key.
    pub fn trust(mut self, peers: impl IntoIterator<Item = PeerId>) -> Self {
        self.trust.extend(peers);
        self
    }

    /// Never links with these peers.
    pub fn deny(mut self, peers: impl IntoIterator<Item = PeerId>) -> Self {
        self.deny.extend(peers);
        self
    }

    /// Listens on `/tls/ws` addresses, which the default ones then are, with this certificate chain and its key (PEM files).
    /// The files are looked at every 10 seconds: a renewed certificate serves new connections from then on, and links stay.
    /// A certificate that is not valid yet, or has expired, is told as [`super::Event::Error`].
    pub fn tls(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.tls.certificate = Some((certificate.as_ref().into(), key.as_ref().into()));
        self
    }

    /// Trusts this certificate (a PEM file) when dialling `/tls/ws` and `/wss`, beside the usual
    /// authorities.
    pub fn tls_ca(mut self, certificate: impl AsRef<Path>) -> Self {
        self.tls.authorities.push(certificate.as_ref().into());
        self
    }

    /// Tells peers that the node can be dialled there: behind a proxy or a forwarded port. They are told IP addresses only;
    /// names are for people to pass on. Whatever comes in then counts as coming from the internet, wherever its socket is.
    pub fn announce(mut self, addresses: impl IntoIterator<Item = Multiaddr>) -> Self {
        self.announce.extend(addresses);
        self
    }

    /// How many connections of one address may wait for their handshake, instead of 4; twice as
    /// many may be half-open, and as many handshakes may begin at once.
    pub fn per_address_limit(mut self, connections: usize) -> Self {
        self.per_address = Some(connections);
        self
    }

    /// Does not count loopback addresses in the limits by address: for many nodes on one machine.
    pub fn exempt_loopback(mut self, exempt: bool) -> Self {
        self.exempt_loopback = exempt;
        self
    }

    /// Keeps the log in this directory: what is said in the node's rooms survives the process.
    /// Without one it is kept in memory, up to [`EPHEMERAL_BYTES`].
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(directory.into());
        self
    }

    /// How long and how much the log keeps, and what a power cut may take.
    pub fn keep(mut self, keep: RetentionPolicy) -> Self {
        self.keep = Some(keep);
        self
    }

    /// How many links the node holds: at most `most`, and one more while a link moves; below
    /// `least` it seeks fast. The defaults are 5 and 2.
    pub fn links(mut self, most: usize, least: usize) -> Self {
        self.links = Some((most, least));
        self
    }

    /// Links only as it is told, by [`NodeBuilder::dial`] and [`super::Node::connect`]: no redirect
    /// hints, no limit, no repair but dialling again. For test benches and meshes drawn by hand.
    pub fn fixed_links(mut self, fixed: bool) -> Self {
        self.fixed_links = fixed;
        self
    }

    /// Whether large batches come by gossip alone, as to a peer that understands no offers: several copies
    /// of each, but none of them has to be asked for. By default they are offered and fetched once.
    pub fn gossip_only(mut self, gossip_only: bool) -> Self {
        self.gossip_only = gossip_only;
        self
    }

    /// An event counts as sent only when `neighbours` linked peers have said that they stored it; by default when it is
    /// stored here. When they have not within 10 s the answer is [`super::BroadcastError::NotConfirmed`]. Peers that
    /// understand no offers (`proto/README.md`, chapter 10) cannot say it.
    pub fn confirmed_by(mut self, neighbours: usize) -> Self {
        self.confirmed_by = neighbours;
        self
    }

    /// Starts the node. Resolves when it is online: every address is listened on and every room is
    /// joined. Dialling goes on from there.
    ///
    /// Must be called inside a Tokio runtime.
    pub async fn start(self) -> Result<Node, StartError> {
        self.start_with_events().await.map(|(node, _)| node)
    }

    /// The same, with a reader of the node's events from the very first.
    pub async fn start_with_events(self) -> Result<(Node, Events), StartError> {
        let clock = Clock::start();
        let identity = self.identity.clone().unwrap_or_else(Identity::generate);
        let instance_id = rand::random();
        let rooms = self.initial_rooms()?;
        let bus = match self.exempt_loopback {
            // For meshes on one machine, whose nodes come and go as they are told.
            true => EventBus::new(clock).with_all_links(),
            false => EventBus::new(clock),
        };
        let events = bus.subscribe();
        let send_windows = SendWindows::default();
        let network = NetworkId::of(self.network.as_ref());
        let ids = Arc::new(MessageIds::default());
        let heads = Arc::new(Heads::new(identity.peer_id(), instance_id));
        let (commands, commands_in) = mpsc::channel(MAX_COMMANDS);
        let supervisor = Supervisor::new(bus.clone(), &commands);
        let tls = tls::load(&self.tls).map_err(StartError::Tls)?;
        let certificate = tls.certificate.clone();
        let transport = transport::build(identity.keypair(), tls, None, send_windows.clone())
            .map_err(|e| StartError::System(e.to_string()))?;
        let mut swarm = self.swarm(
            &identity,
            transport,
            instance_id,
            clock,
            ids.clone(),
            &supervisor,
        )?;
        let (addresses, early) =
            listening::listen(&mut swarm, self.listen_addresses(), &self.tls).await?;
        for address in &self.announce {
            swarm.add_external_address(address.clone());
        }

        let (outgoing, outgoing_in) = mpsc::channel(outbox::MAX_WAITING);
        let (publishes, publishes_in) = mpsc::channel(1);
        let (incoming, incoming_in) = mpsc::channel(inbox::MAX_WAITING);
        let (verdicts, verdicts_in) = mpsc::channel(inbox::MAX_WAITING);
        let (notes, notes_in) = mpsc::unbounded_channel();
        let (wishes, wishes_in) = mpsc::channel(ingest::MAX_WISHES);
        let keep = self.kept();
        let unix = UnixClock::from(clock);
        let opened = self.open_log(keep, network, clock, &unix, &supervisor);
        let (store, notices, newest_ms) = opened.await?;
        bus.set_past(Arc::new(LogReplay::new(store.clone(), network)));
        let clocks = ClockWatch::start(clock.now(), unix.clone(), bus.clone(), keep.age, newest_ms);
        let ends = Ends {
            inbox: Inbox::new(unix.clone(), network, incoming_in, verdicts),
            notes: notes_in,
            wishes,
            notices,
            send_windows: send_windows.clone(),
            ids: ids.clone(),
            confirmed_by: self.confirmed_by,
        };
        let own = Own {
            peer_id: identity.peer_id(),
            instance_id,
            network,
            heads: heads.clone(),
            unix: unix.clone(),
        };
        let keeper = Keeper::new(own, clock, bus.clone(), store.clone(), keep, ends)
            .ok_or_else(|| StartError::System("the log is closed".to_owned()))?;
        let keeping = supervisor.spawn("ingest", keeper.run());
        let sending = outbox::run(
            Author::new(identity.clone(), network, instance_id),
            heads,
            unix,
            outgoing_in,
            outbox::Ends {
                publishes,
                store: store.clone(),
                notes: notes.clone(),
                is_confirmed: self.confirmed_by > 0,
            },
        );
        supervisor.spawn("outbox", sending);
        let channels = Channels {
            commands: commands_in,
            publishes: publishes_in,
            incoming,
            verdicts: verdicts_in,
            notes,
            wishes: wishes_in,
            keeping,
            send_windows,
            ids: ids.clone(),
            clocks,
        };
        let bell = Arc::new(Notify::new());
        let runner = Runner::new(
            swarm,
            clock,
            channels,
            bus.clone(),
            bell.clone(),
            Admission::new(self.trust, self.deny),
            self.data_dir.clone(),
        );
        supervisor.spawn("loop", runner.run(early));
        if let Some(certificate) = &certificate {
            let bus = bus.clone();
            let watching = certificate::watch(Arc::downgrade(certificate), move |reason| {
                bus.emit_as(None, Event::Error { reason });
            });
            supervisor.spawn("certificate", watching);
        }

        let own = identity.peer_id();
        let node = Node {
            shared: Arc::new(Shared {
                peer_id: own,
                addresses: dialable(addresses.into_iter().chain(self.announce), own),
                commands,
                outbox: outgoing,
                outbox_bytes: Arc::new(Semaphore::new(outbox::MAX_WAITING_BYTES)),
                bell,
                bus,
                store,
                ids,
                network,
                supervisor,
                certificate: certificate.map(|c| Arc::downgrade(&c)),
            }),
        };
        for room in rooms {
            node.join(room)
                .await
                .map_err(|e| StartError::System(e.to_string()))?;
        }
        for address in self.dial {
            let _ = node
                .shared
                .commands
                .send(Command::KeepDialing { address })
                .await;
        }
        Ok((node, events))
    }

    /// Returns the addresses to listen on: those that were given, or the defaults.
    fn listen_addresses(&self) -> Vec<Multiaddr> {
        let defaults = match self.tls.certificate.is_some() {
            true => DEFAULT_LISTEN_TLS,
            false => DEFAULT_LISTEN,
        };
        let defaults = || defaults.iter().filter_map(|a| a.parse().ok());
        self.listen.clone().unwrap_or_else(|| defaults().collect())
    }

    fn kept(&self) -> RetentionPolicy {
        let mut keep = self.keep.unwrap_or_default();
        if self.data_dir.is_none() && self.keep.is_none() {
            keep.bytes = EPHEMERAL_BYTES;
        }
        keep
    }

    async fn open_log(
        &self,
        keep: RetentionPolicy,
        network: NetworkId,
        clock: Clock,
        unix: &UnixClock,
        supervisor: &Supervisor,
    ) -> Result<(Store, mpsc::UnboundedReceiver<Notice>, Option<u64>), StartError> {
        let unix = unix.clone();
        let supervisor = supervisor.clone();
        let directory = self.data_dir.clone();
        let (notify, notices) = ingest::notice_channel();
        let opening = tokio::task::spawn_blocking(move || {
            let log = match &directory {
                Some(directory) => Log::open(directory, keep),
                None => Log::ephemeral(keep),
            }?
            .of_network(network)?;
            let newest_ms = log.newest_ms()?;
            let on_panic = move |thread, panic: &(dyn Any + Send)| {
                supervisor.fail(thread, panic_message(panic));
            };
            let writer = Writer::start_watched(log, unix, notify, on_panic)?;
            Ok::<_, LogError>((writer, newest_ms))
        });
        let (writer, newest_ms) = opening
            .await
            .map_err(|e| StartError::System(format!("opening the log: {e}")))??;
        Ok((Store::new(writer, clock), notices, newest_ms))
    }

    fn initial_rooms(&self) -> Result<Vec<RoomName>, StartError> {
        let rooms = match &self.rooms {
            Some(rooms) => rooms.clone(),
            None => DEFAULT_ROOM.parse().into_iter().collect(),
        };
        let distinct: HashSet<&RoomName> = rooms.iter().collect();
        if distinct.len() > MAX_ROOMS {
            return Err(StartError::TooManyRooms {
                max: MAX_ROOMS,
                asked: distinct.len(),
            });
        }
        Ok(rooms)
    }

    fn swarm(
        &self,
        identity: &Identity,
        transport: Boxed<(PeerId, StreamMuxerBox)>,
        instance_id: [u8; 16],
        clock: Clock,
        ids: Arc<MessageIds>,
        supervisor: &Supervisor,
    ) -> Result<Swarm<Behaviour>, StartError> {
        let half_open = HalfOpenConnections::default();
        let transport = AbortableUpgrades::new(transport, half_open.clone()).boxed();
        let local = Local::new(identity.clone(), self.network.clone(), instance_id)
            .with_features(if self.gossip_only { 0 } else { sync::OFFERS });
        let local = Arc::new(local);
        let overlay = (!self.fixed_links).then(|| self.overlay(identity.peer_id(), clock));
        let behaviour = Behaviour::new(
            identity,
            local,
            clock,
            limits::Behaviour::new(self.caps(), half_open),
            self.handshake_limit(),
            overlay,
            ids,
        )
        .map_err(StartError::System)?;
        let supervisor = supervisor.clone();
        let spawn = move |task: Pin<Box<dyn Future<Output = ()> + Send>>| {
            supervisor.spawn("connection", task);
        };
        let config = SwarmConfig::with_executor(Box::new(spawn))
            .with_idle_connection_timeout(IDLE)
            .with_max_negotiating_inbound_streams(MAX_NEGOTIATING)
            // A request goes out with the name of its protocol, and does not wait until the peer agrees.
            .with_substream_upgrade_protocol_override(Version::V1Lazy);
        Ok(Swarm::new(transport, behaviour, identity.peer_id(), config))
    }

    fn overlay(&self, own: PeerId, clock: Clock) -> overlay::Behaviour {
        let options = match self.links {
            Some((most, least)) => overlay::Options::with_links(most, least),
            None => overlay::Options::default(),
        };
        let options = overlay::Options {
            behind_proxy: !self.announce.is_empty(),
            ..options
        };
        let saved = self.data_dir.as_deref().map(book::load).unwrap_or_default();
        let rng = StdRng::from_rng(&mut rand::rng());
        overlay::Behaviour::new(own, options, clock, rng, saved)
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

/// A link-local IPv6 address means nothing without the interface, which is there only when it was asked for by name.
pub(super) fn can_be_dialled(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip6(ip)) => !ip.is_unicast_link_local(),
        _ => true,
    }
}

/// Adds `/p2p/`, so that whoever dials one of them knows whom to expect.
fn dialable(addresses: impl Iterator<Item = Multiaddr>, own: PeerId) -> Vec<Multiaddr> {
    addresses
        .filter(can_be_dialled)
        .map(|address| address.with_p2p(own).unwrap_or_else(|address| address))
        .collect()
}
