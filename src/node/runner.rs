//! The event loop of a node: waits for the network, the application and the clock, and passes each event to one driver.
//!
//! Entry type: [`Runner`]. The rule it keeps: it decides nothing. A driver has the state of one protocol, handles its events,
//! and queues [`effect::Effect`]s for the others; the loop applies these, runs due timers, and waits for nothing else.

mod apply_effects;
mod channels;
mod clock;
mod connections;
mod effect;
mod gossip;
mod link_lifecycle;
mod network;
mod overlay;
mod shutdown;
mod sync;

use std::path::PathBuf;
use std::sync::Arc;

use libp2p::swarm::{Swarm, SwarmEvent};

pub(crate) use self::channels::{Channels, IngestChannels};
pub(crate) use self::clock::ClockWatch;
use self::connections::Connections;
use self::effect::{DialFailure, Effects};
use self::gossip::GossipDriver;
use self::network::Network;
use self::overlay::OverlayDriver;
use self::sync::SyncRelay;
use super::admission::Admission;
use super::behaviour::{Behaviour, BehaviourEvent, VerifiedEvent};
use super::command::Command;
use super::event::{Event, EventBus};
use super::failure;
use super::inbox::Verdict;
use super::ingest::{NetworkRequest, SyncCommand};
use super::outbox::Publish;
use crate::clock::{Clock, Time};
use crate::gate;
use crate::gossip::MessageIds;
use crate::net::backpressure::SendWindows;

/// The values of a node that its loop needs.
pub(crate) struct RunnerParts {
    pub(crate) clock: Clock,
    pub(crate) bus: EventBus,
    pub(crate) clocks: ClockWatch,
    pub(crate) admission: Admission,
    /// The directory of the address book, if the node has one.
    pub(crate) directory: Option<PathBuf>,
    /// Backpressure of the links.
    pub(crate) send_windows: SendWindows,
    pub(crate) ids: Arc<MessageIds>,
}

/// The state of a running node.
pub(crate) struct Runner {
    clock: Clock,
    bus: EventBus,
    network: Network,
    channels: Channels,
    connections: Connections,
    overlay: OverlayDriver,
    gossip: GossipDriver,
    sync: SyncRelay,
    clocks: ClockWatch,
    effects: Effects,
    /// Whether the node is about to stop, and takes no more commands.
    is_stopping: bool,
}

/// An event for the loop.
enum LoopEvent {
    Network(Box<SwarmEvent<BehaviourEvent>>),
    Verdict(Verdict),
    Publish(Publish),
    NetworkRequest(NetworkRequest),
    /// The ingest task's queue of messages has room again.
    InboxWritable,
    /// A link has room for more.
    LinksWritable,
    Command(Command),
    /// The application has dropped its last handle.
    HandlesGone,
    Deadline,
}

impl Runner {
    pub(crate) fn new(swarm: Swarm<Behaviour>, channels: Channels, parts: RunnerParts) -> Runner {
        let RunnerParts { clock, bus, .. } = parts;
        let windows = parts.send_windows;
        let ingest = &channels.ingest;
        Runner {
            clock,
            network: Network::new(swarm),
            connections: Connections::new(bus.clone(), parts.admission, windows.clone()),
            overlay: OverlayDriver::new(bus.clone(), parts.directory),
            gossip: GossipDriver::new(
                bus.clone(),
                ingest.messages.clone(),
                channels.peer_joined.clone(),
                windows,
                parts.ids,
            ),
            sync: SyncRelay::new(bus.clone(), ingest.commands.clone()),
            clocks: parts.clocks,
            channels,
            bus,
            effects: Effects::new(),
            is_stopping: false,
        }
    }

    /// Runs until the application stops the node or has dropped every handle. `early` are events from before the loop.
    pub(crate) async fn run(mut self, early: Vec<SwarmEvent<BehaviourEvent>>) {
        self.overlay.update_addresses(&mut self.network);
        for event in early {
            self.on_swarm_event(event);
            self.apply_effects();
        }
        loop {
            match self.next().await {
                LoopEvent::Command(Command::Shutdown { reply }) => {
                    self.shut_down().await;
                    let _ = reply.send(());
                    return;
                }
                LoopEvent::HandlesGone => return self.shut_down().await,
                event => self.on_loop_event(event),
            }
        }
    }

    /// Waits for the next event. Backpressure: the network is read only while received messages have room, and the outbox
    /// only while the links have.
    async fn next(&mut self) -> LoopEvent {
        let deadline = self.deadline().map(|at| self.clock.instant(at));
        let can_receive = self.gossip.can_receive();
        let can_publish = self.gossip.can_publish();
        let ingest = &mut self.channels.ingest;
        tokio::select! {
            event = self.network.next(), if can_receive => LoopEvent::Network(Box::new(event)),
            Some(verdict) = ingest.verdicts.recv() => LoopEvent::Verdict(verdict),
            Some(request) = ingest.network_requests.recv() => LoopEvent::NetworkRequest(request),
            Some(publish) = self.channels.publishes.recv(), if can_publish => {
                LoopEvent::Publish(publish)
            }
            () = self.gossip.inbox_writable(), if !can_receive => LoopEvent::InboxWritable,
            () = self.gossip.links_writable(), if !can_publish => LoopEvent::LinksWritable,
            command = self.channels.commands.recv(), if !self.is_stopping => {
                command.map_or(LoopEvent::HandlesGone, LoopEvent::Command)
            }
            () = sleep_until(deadline) => LoopEvent::Deadline,
        }
    }

    fn on_loop_event(&mut self, event: LoopEvent) {
        let now = self.clock.now();
        let (network, effects) = (&mut self.network, &mut self.effects);
        match event {
            LoopEvent::Network(event) => self.on_swarm_event(*event),
            LoopEvent::Verdict(verdict) => self.gossip.on_verdict(now, network, verdict, effects),
            LoopEvent::Publish(publish) => {
                self.gossip.on_publish(now, network, &self.clocks, publish);
            }
            LoopEvent::NetworkRequest(request) => {
                self.sync.on_network_request(network, request, effects);
            }
            LoopEvent::InboxWritable => self.gossip.refill_inbox(),
            LoopEvent::LinksWritable => self.retry_publish(),
            LoopEvent::Command(command) => self.on_command(command),
            LoopEvent::Deadline | LoopEvent::HandlesGone => {}
        }
        self.apply_effects();
        self.on_time(self.clock.now());
    }

    fn deadline(&self) -> Option<Time> {
        [
            self.connections.deadline(),
            self.overlay.deadline(),
            self.gossip.deadline(),
            self.bus.deadline(),
            Some(self.clocks.deadline()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Runs the timers that are due by `now`.
    fn on_time(&mut self, now: Time) {
        let network = &mut self.network;
        self.connections.on_time(now, network, &mut self.effects);
        self.overlay.on_time(now);
        self.bus.emit_held_back(now);
        self.clocks.on_time(now);
        self.gossip.on_time(now, network, &self.clocks);
        self.apply_effects();
    }

    fn on_command(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Connect { address, reply } => {
                let network = &mut self.network;
                self.connections.connect(now, network, &address, reply);
            }
            Command::KeepDialing { address } => self.connections.keep_dialing(now, address),
            Command::Join { room, reply } => {
                let joined = self.gossip.join(&mut self.network, &room);
                if joined.is_ok() {
                    self.sync.send(SyncCommand::Join(room));
                }
                let _ = reply.send(joined);
            }
            Command::Leave { room, reply } => {
                let _ = reply.send(self.gossip.leave(&mut self.network, &room));
                self.sync.send(SyncCommand::Leave(room));
            }
            Command::Rooms { reply } => {
                let _ = reply.send(self.gossip.joined());
            }
            Command::Peers { reply } => {
                let _ = reply.send(self.connections.infos(now));
            }
            Command::SetPeerLists { trust, deny, reply } => {
                let network = &mut self.network;
                self.connections.set_peer_lists(now, network, trust, deny);
                let _ = reply.send(());
            }
            Command::Clocks { reply } => {
                let _ = reply.send(self.clocks.status(now));
            }
            Command::Status { reply } => self.sync.send(SyncCommand::Status(reply)),
            Command::Shutdown { reply } => {
                let _ = reply.send(());
            }
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let now = self.clock.now();
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(now, event),
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(address),
            SwarmEvent::ExpiredListenAddr { .. } => {
                self.overlay.update_addresses(&mut self.network);
            }
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => self.on_established(peer_id, connection_id, &endpoint),
            SwarmEvent::ConnectionClosed {
                connection_id,
                cause,
                ..
            } => {
                let (cause, effects) = (cause.as_ref(), &mut self.effects);
                self.connections
                    .on_closed(now, connection_id, cause, effects);
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => self.on_dial_failed(DialFailure {
                connection_id,
                peer_id,
                address: None,
                error: failure::of_dial(&error),
            }),
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error,
                peer_id,
                ..
            } => {
                let is_dialing = self.overlay.is_dialing();
                let failure = (peer_id, send_back_addr, &error);
                self.connections.on_inbound_failed(now, failure, is_dialing);
            }
            SwarmEvent::ListenerClosed {
                addresses,
                reason: Err(error),
                ..
            } => {
                let reason = format!("stopped listening on {addresses:?}: {error}");
                self.bus.emit(Event::Error { reason });
            }
            SwarmEvent::ListenerError { error, .. } => self.connections.on_listener_error(error),
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, now: Time, event: BehaviourEvent) {
        let (network, effects) = (&mut self.network, &mut self.effects);
        match event {
            BehaviourEvent::Handshake(event) => self.on_handshake(event),
            BehaviourEvent::Gate(gate::Event::Open { connection_id, .. }) => {
                network.handshake().gate_open(connection_id);
            }
            BehaviourEvent::Gate(gate::Event::GaveUp { connection_id, .. }) => {
                let reason = "its gossip stream died; a new link is needed";
                self.connections.close(network, connection_id, reason);
            }
            BehaviourEvent::Gate(gate::Event::Inner(event)) => match event {
                VerifiedEvent::Gossip(event) => self.gossip.on_event(network, event, effects),
                VerifiedEvent::Overlay(event) => {
                    self.overlay.on_event(now, network, event, effects);
                }
                VerifiedEvent::Sync(event) => self.sync.on_event(event, effects),
            },
            BehaviourEvent::Limits(event) => self.connections.on_limits(network, &event),
            BehaviourEvent::Ping(event) => self.connections.on_ping(now, network, event),
            BehaviourEvent::Identify(event) => self.connections.on_identify(now, &event),
            _ => {}
        }
    }
}

async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
