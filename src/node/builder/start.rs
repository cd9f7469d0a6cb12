//! Startup: the swarm, the log, the channels and the tasks of a node.
//!
//! Entry: [`NodeBuilder::start_with_events`]. The rule it keeps: a node is returned only when every address is listened on
//! and every room is joined; otherwise the error says which part failed and why.

use std::any::Any;
use std::collections::HashSet;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use libp2p::core::upgrade::Version;
use libp2p::swarm::{Config as SwarmConfig, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Transport};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Notify, Semaphore, mpsc};

use super::{
    DEFAULT_LISTEN, DEFAULT_LISTEN_TLS, DEFAULT_ROOM, EPHEMERAL_BYTES, IDLE_TIMEOUT, MAX_COMMANDS,
    MAX_NEGOTIATING, NodeBuilder,
};
use crate::clock::{Clock, UnixClock};
use crate::gossip::{Author, MAX_ROOMS, MessageIds};
use crate::handshake::Local;
use crate::identity::{Identity, NetworkId};
use crate::model::RoomName;
use crate::net::address::Address;
use crate::net::backpressure::SendWindows;
use crate::net::half_open::{AbortableUpgrades, HalfOpenConnections};
use crate::net::tls::certificate::{self, OwnCertificate};
use crate::net::tls::{self, TlsContext};
use crate::net::{limits, listening, transport};
use crate::node::admission::Admission;
use crate::node::behaviour::{Behaviour, BehaviourEvent};
use crate::node::book;
use crate::node::builder::can_be_dialled;
use crate::node::command::Command;
use crate::node::error::StartError;
use crate::node::event::{Event, EventBus, Events};
use crate::node::handle::{Node, Shared};
use crate::node::heads::Heads;
use crate::node::history_stream::LogReplay;
use crate::node::inbox::{self, Inbox};
use crate::node::ingest::{self, IngestTask, LocalAuthor, SyncChannels};
use crate::node::outbox::{self, Outgoing};
use crate::node::runner::{Channels, ClockWatch, IngestChannels, Runner, RunnerParts};
use crate::node::store::Store;
use crate::node::supervisor::{Supervisor, panic_message};
use crate::overlay;
use crate::store::{Log, LogError, Notice, RetentionPolicy, Writer};

/// The values that the parts of a node share.
struct Parts {
    clock: Clock,
    unix: UnixClock,
    identity: Identity,
    instance_id: [u8; 16],
    network: NetworkId,
    bus: EventBus,
    send_windows: SendWindows,
    ids: Arc<MessageIds>,
    heads: Arc<Heads>,
    supervisor: Supervisor,
}

/// The log of a node that starts.
struct OpenedLog {
    store: Store,
    notices: mpsc::UnboundedReceiver<Notice>,
    /// Date of the newest batch in it, in Unix milliseconds.
    newest_ms: Option<u64>,
    keep: RetentionPolicy,
}

impl NodeBuilder {
    /// Starts the node. Resolves when it is online: every address is listened on and every room is joined. Dialling
    /// continues in the background.
    ///
    /// Must be called inside a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Says which part could not be started and why: an address, the log, TLS, or the system.
    pub async fn start(self) -> Result<Node, StartError> {
        self.start_with_events().await.map(|(node, _)| node)
    }

    /// Starts the node as [`NodeBuilder::start`] does, and returns a reader of its events from the very first.
    ///
    /// # Errors
    ///
    /// As those of [`NodeBuilder::start`].
    pub async fn start_with_events(self) -> Result<(Node, Events), StartError> {
        let rooms = self.initial_rooms()?;
        let (commands, commands_in) = mpsc::channel(MAX_COMMANDS);
        let parts = self.parts(&commands);
        let events = parts.bus.subscribe();
        let tls = tls::load(&self.tls).map_err(StartError::Tls)?;
        let certificate = tls.certificate.clone();
        let mut swarm = self.swarm(&parts, tls)?;
        let (addresses, early) =
            listening::listen(&mut swarm, self.listen_addresses(), &self.tls).await?;

        let log = self.open_log(&parts).await?;
        let store = log.store.clone();
        let replay = LogReplay::new(store.clone(), parts.network);
        parts.bus.set_log(Arc::new(replay));
        let (publishes, publishes_in) = mpsc::channel(1);
        let (outbox, outbox_in) = mpsc::channel(outbox::MAX_WAITING);
        let clocks = parts.start_clocks(&log);
        let ingest = parts.spawn_ingest(log, self.confirmed_by)?;
        let outbox_channels = outbox::TaskChannels {
            publishes,
            store: store.clone(),
            sync_commands: ingest.commands.clone(),
            is_confirmed: self.confirmed_by > 0,
        };
        parts.spawn_outbox(outbox_in, outbox_channels);
        let peer_joined = Arc::new(Notify::new());
        let channels = Channels {
            commands: commands_in,
            publishes: publishes_in,
            ingest,
            peer_joined: peer_joined.clone(),
        };
        let admission = Admission::new(self.trust, self.deny);
        parts.spawn_loop(swarm, channels, clocks, admission, self.data_dir, early);
        let certificate = certificate.map(|certificate| parts.watch_certificate(&certificate));

        let own = parts.identity.peer_id();
        let node = Node {
            shared: Arc::new(Shared {
                peer_id: own,
                addresses: dialable(addresses.into_iter().chain(self.announce), own),
                commands,
                outbox,
                outbox_bytes: Arc::new(Semaphore::new(outbox::MAX_WAITING_BYTES)),
                peer_joined,
                bus: parts.bus,
                store,
                ids: parts.ids,
                network: parts.network,
                supervisor: parts.supervisor,
                certificate,
            }),
        };
        join_and_dial(&node, rooms, self.dial).await?;
        Ok((node, events))
    }

    fn parts(&self, commands: &mpsc::Sender<Command>) -> Parts {
        let clock = Clock::start();
        let identity = self.identity.clone().unwrap_or_else(Identity::generate);
        let instance_id = rand::random();
        let bus = match self.exempt_loopback {
            // For meshes on one machine: their nodes start and stop on command.
            true => EventBus::new(clock).with_all_links(),
            false => EventBus::new(clock),
        };
        Parts {
            clock,
            unix: UnixClock::from(clock),
            heads: Arc::new(Heads::new(identity.peer_id(), instance_id)),
            identity,
            instance_id,
            network: NetworkId::of(self.network.as_ref()),
            supervisor: Supervisor::new(bus.clone(), commands),
            bus,
            send_windows: SendWindows::default(),
            ids: Arc::new(MessageIds::default()),
        }
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

    /// Returns how long and how much the log keeps.
    fn retention_policy(&self) -> RetentionPolicy {
        let mut keep = self.keep.unwrap_or_default();
        if self.data_dir.is_none() && self.keep.is_none() {
            keep.bytes = EPHEMERAL_BYTES;
        }
        keep
    }

    async fn open_log(&self, parts: &Parts) -> Result<OpenedLog, StartError> {
        let keep = self.retention_policy();
        let (unix, network) = (parts.unix.clone(), parts.network);
        let supervisor = parts.supervisor.clone();
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
        Ok(OpenedLog {
            store: Store::new(writer, parts.clock),
            notices,
            newest_ms,
            keep,
        })
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

    fn swarm(&self, parts: &Parts, tls: TlsContext) -> Result<Swarm<Behaviour>, StartError> {
        let keypair = parts.identity.keypair();
        let transport = transport::build(keypair, tls, None, parts.send_windows.clone())
            .map_err(|e| StartError::System(e.to_string()))?;
        let half_open = HalfOpenConnections::default();
        let transport = AbortableUpgrades::new(transport, half_open.clone()).boxed();
        let identity = &parts.identity;
        let local = Local::new(identity.clone(), self.network.clone(), parts.instance_id)
            .with_features(if self.gossip_only {
                0
            } else {
                crate::sync::ANNOUNCE_FEATURE
            });
        let own = identity.peer_id();
        let overlay = (!self.fixed_links).then(|| self.overlay(own, parts.clock));
        let behaviour = Behaviour::new(
            identity,
            Arc::new(local),
            parts.clock,
            limits::Behaviour::new(self.caps(), half_open),
            self.handshake_limit(),
            overlay,
            parts.ids.clone(),
        )
        .map_err(StartError::System)?;
        let supervisor = parts.supervisor.clone();
        let spawn = move |task: Pin<Box<dyn Future<Output = ()> + Send>>| {
            supervisor.spawn("connection", task);
        };
        let config = SwarmConfig::with_executor(Box::new(spawn))
            .with_idle_connection_timeout(IDLE_TIMEOUT)
            .with_max_negotiating_inbound_streams(MAX_NEGOTIATING)
            // A request is sent together with its protocol's name, without waiting for the peer's agreement.
            .with_substream_upgrade_protocol_override(Version::V1Lazy);
        let mut swarm = Swarm::new(transport, behaviour, own, config);
        for address in &self.announce {
            swarm.add_external_address(address.clone());
        }
        Ok(swarm)
    }

    fn overlay(&self, own: PeerId, clock: Clock) -> overlay::Behaviour {
        let options = match self.links {
            Some((max, min)) => overlay::Options::with_links(max, min),
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
}

impl Parts {
    fn start_clocks(&self, log: &OpenedLog) -> ClockWatch {
        ClockWatch::start(
            self.clock.now(),
            self.unix.clone(),
            self.bus.clone(),
            log.keep.age,
            log.newest_ms,
        )
    }

    /// Starts the ingest task, and returns the loop's ends of its channels.
    fn spawn_ingest(
        &self,
        log: OpenedLog,
        confirmed_by: usize,
    ) -> Result<IngestChannels, StartError> {
        let (messages, messages_in) = mpsc::channel(inbox::MAX_QUEUED_MESSAGES);
        let (verdicts, verdicts_in) = mpsc::channel(inbox::MAX_QUEUED_MESSAGES);
        let (commands, commands_in) = mpsc::unbounded_channel();
        let (network_requests, network_requests_in) = mpsc::channel(ingest::MAX_NETWORK_REQUESTS);
        let channels = ingest::TaskChannels {
            inbox: Inbox::new(self.unix.clone(), self.network, messages_in, verdicts),
            commands: commands_in,
            notices: log.notices,
            sync: SyncChannels {
                network_requests,
                send_windows: self.send_windows.clone(),
                ids: self.ids.clone(),
                confirmed_by,
            },
        };
        let local = LocalAuthor {
            peer_id: self.identity.peer_id(),
            instance_id: self.instance_id,
            network: self.network,
            heads: self.heads.clone(),
            unix: self.unix.clone(),
        };
        let (bus, store) = (self.bus.clone(), log.store);
        let task = IngestTask::new(local, self.clock, bus, store, log.keep, channels)
            .ok_or_else(|| StartError::System("the log is closed".to_owned()))?;
        Ok(IngestChannels {
            messages,
            verdicts: verdicts_in,
            commands,
            network_requests: network_requests_in,
            task: self.supervisor.spawn("ingest", task.run()),
        })
    }

    /// Reports problems of the certificate as events. Returns a weak handle, because the task ends with the transport.
    fn watch_certificate(&self, certificate: &Arc<OwnCertificate>) -> Weak<OwnCertificate> {
        let bus = self.bus.clone();
        let watch = certificate::watch(Arc::downgrade(certificate), move |reason| {
            bus.emit_as(None, Event::Error { reason });
        });
        self.supervisor.spawn("certificate", watch);
        Arc::downgrade(certificate)
    }

    fn spawn_outbox(&self, events: mpsc::Receiver<Outgoing>, channels: outbox::TaskChannels) {
        let author = Author::new(self.identity.clone(), self.network, self.instance_id);
        let (heads, unix) = (self.heads.clone(), self.unix.clone());
        let outbox = outbox::run(author, heads, unix, events, channels);
        self.supervisor.spawn("outbox", outbox);
    }

    fn spawn_loop(
        &self,
        swarm: Swarm<Behaviour>,
        channels: Channels,
        clocks: ClockWatch,
        admission: Admission,
        directory: Option<PathBuf>,
        early: Vec<SwarmEvent<BehaviourEvent>>,
    ) {
        let runner = Runner::new(
            swarm,
            channels,
            RunnerParts {
                clock: self.clock,
                bus: self.bus.clone(),
                clocks,
                admission,
                directory,
                send_windows: self.send_windows.clone(),
                ids: self.ids.clone(),
            },
        );
        self.supervisor.spawn("loop", runner.run(early));
    }
}

/// Joins the first rooms, and begins to dial.
async fn join_and_dial(
    node: &Node,
    rooms: Vec<RoomName>,
    addresses: Vec<Address>,
) -> Result<(), StartError> {
    for room in rooms {
        let joined = node.join(room).await;
        joined.map_err(|e| StartError::System(e.to_string()))?;
    }
    for address in addresses {
        node.keep_dialing(address).await;
    }
    Ok(())
}

/// Adds `/p2p/`, so that a dialer knows which peer to expect.
fn dialable(addresses: impl Iterator<Item = Multiaddr>, own: PeerId) -> Vec<Multiaddr> {
    addresses
        .filter(can_be_dialled)
        .map(|address| address.with_p2p(own).unwrap_or_else(|address| address))
        .collect()
}
