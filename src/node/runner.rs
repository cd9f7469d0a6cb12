//! The one event loop of a node: network, application and clock in; everything else is told.
//!
//! Entry type: [`Runner`]. The rule it keeps: it decides nothing by itself. Whatever crosses between
//! protocols crosses here, each in a small `on_…` method, and nothing here waits but the loop.

mod clock;
mod connections;
mod dials;
mod gossip;
mod overlay;
mod sync;
mod visitors;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub::MessageId;
use libp2p::request_response::OutboundRequestId;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::admission::Admission;
use super::behaviour::{Behaviour, BehaviourEvent, VerifiedEvent};
use super::builder::can_be_dialled;
use super::clocks::ClockStatus;
use super::dialing::Dialing;
use super::error::{ConnectError, JoinError};
use super::event::{Event, EventBus};
use super::failure;
use super::handle::LinkInfo;
use super::inbox::{Incoming, Verdict};
use super::ingest::{Note, Wish};
use super::links::Links;
use super::outbox::Publish;
use super::rooms::Rooms;
use super::store::RoomStatus;
use crate::clock::{Clock, Time};
use crate::gate;
use crate::gossip::{MessageIds, topic};
use crate::model::RoomName;
use crate::net::address::Address;
use crate::net::backpressure::SendWindows;
use crate::overlay::{DialId, PeerAddress, Saved};
pub(crate) use clock::ClockWatch;
use sync::Replies;

/// What the application asks of the loop.
pub(crate) enum Command {
    Connect {
        address: Address,
        reply: oneshot::Sender<Result<LinkInfo, ConnectError>>,
    },
    KeepDialing {
        address: Address,
    },
    Join {
        room: RoomName,
        reply: oneshot::Sender<Result<(), JoinError>>,
    },
    Leave {
        room: RoomName,
        reply: oneshot::Sender<bool>,
    },
    Rooms {
        reply: oneshot::Sender<Vec<RoomName>>,
    },
    Peers {
        reply: oneshot::Sender<Vec<LinkInfo>>,
    },
    Status {
        reply: oneshot::Sender<Vec<RoomStatus>>,
    },
    Clocks {
        reply: oneshot::Sender<ClockStatus>,
    },
    SetPeerLists {
        trust: Vec<PeerId>,
        deny: Vec<PeerId>,
        reply: oneshot::Sender<()>,
    },
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

/// The channels between the loop and the tasks beside it.
pub(crate) struct Channels {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) publishes: mpsc::Receiver<Publish>,
    pub(crate) incoming: mpsc::Sender<Incoming>,
    pub(crate) verdicts: mpsc::Receiver<Verdict>,
    pub(crate) notes: mpsc::UnboundedSender<Note>,
    pub(crate) wishes: mpsc::Receiver<Wish>,
    /// The keeper, which ends when `wishes` does.
    pub(crate) keeping: JoinHandle<()>,
    /// What waits on the links.
    pub(crate) send_windows: SendWindows,
    /// Makes the ids of gossip's messages.
    pub(crate) ids: Arc<MessageIds>,
    /// Compares this machine's clock with others.
    pub(crate) clocks: ClockWatch,
}

/// The state of a running node.
pub(crate) struct Runner {
    swarm: Swarm<Behaviour>,
    clock: Clock,
    channels: Channels,
    bus: EventBus,
    rng: StdRng,
    links: Links,
    dialing: Dialing,
    admission: Admission,
    rooms: Rooms,
    /// Links that are proved but whose peers have not said yet in which rooms they are: until they
    /// have, or this time is over, nobody is told of them.
    rising: Vec<(Time, LinkInfo, ConnectionId)>,
    /// Dials of the overlay that are under way.
    overlay_dials: HashMap<ConnectionId, DialId>,
    /// Where the address book is kept, and what is to be written there when.
    directory: Option<PathBuf>,
    book: Option<(Time, Vec<Saved<PeerId, PeerAddress>>)>,
    /// Who waits for which dial.
    waiters: HashMap<ConnectionId, Vec<oneshot::Sender<Result<LinkInfo, ConnectError>>>>,
    /// Connections that we close, and why.
    closing: HashMap<ConnectionId, String>,
    /// Connections to close at a later time: losers of two that crossed.
    retiring: Vec<(Time, ConnectionId)>,
    /// When people were last told that nobody known answers.
    complained: Option<Time>,
    /// Connections of links that have ended, which close when what was sent on them has gone out.
    ending: Vec<(Time, ConnectionId)>,
    /// Messages for which the inbox had no place: while there is one, the network is not read.
    held: VecDeque<Incoming>,
    /// Requests of data checking that are with neighbours, and the keeper's numbers for them.
    asked: HashMap<OutboundRequestId, u64>,
    replies: Replies,
    last_request: u64,
    /// Batches that wait for a link to come up wholly, or for room on the links.
    deferred: Option<(Time, Publish)>,
    /// Large messages that are right, from whom they came, and when they are passed on; the next first.
    ripening: VecDeque<(Time, MessageId, PeerId)>,
    /// Whether the node is about to stop, and takes no more commands.
    is_parting: bool,
}

/// How long a shutdown waits for neighbours that are about to fetch large batches which they were offered: with
/// what follows it stays within the two seconds in which a program is to end.
const LAST_FETCHES: Duration = Duration::from_millis(700);
/// How long a shutdown waits until the log is closed: whoever opens it next needs it free.
const CLOSE_LOG: Duration = Duration::from_secs(5);
/// How long the words of leave may take to go out.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How long a shutdown waits for connections to close.
const FAREWELL: Duration = Duration::from_millis(1000);

/// What the loop waits for.
enum Happening {
    Network(Box<SwarmEvent<BehaviourEvent>>),
    Verdict(Verdict),
    Publish(Publish),
    Wish(Wish),
    InboxHasRoom,
    LinksHaveRoom,
    Command(Command),
    HandlesGone,
    Time,
}

impl Runner {
    pub(crate) fn new(
        swarm: Swarm<Behaviour>,
        clock: Clock,
        channels: Channels,
        bus: EventBus,
        bell: Arc<Notify>,
        admission: Admission,
        directory: Option<PathBuf>,
    ) -> Runner {
        Runner {
            swarm,
            clock,
            channels,
            bus,
            rng: StdRng::from_rng(&mut rand::rng()),
            links: Links::default(),
            dialing: Dialing::default(),
            admission,
            rooms: Rooms::new(bell),
            rising: Vec::new(),
            overlay_dials: HashMap::new(),
            directory,
            book: None,
            waiters: HashMap::new(),
            closing: HashMap::new(),
            retiring: Vec::new(),
            complained: None,
            ending: Vec::new(),
            held: VecDeque::new(),
            asked: HashMap::new(),
            replies: Replies::default(),
            last_request: 0,
            deferred: None,
            ripening: VecDeque::new(),
            is_parting: false,
        }
    }

    /// Runs until it is told to stop, or every handle is gone. `early` is what happened before.
    pub(crate) async fn run(mut self, early: Vec<SwarmEvent<BehaviourEvent>>) {
        self.tell_addresses();
        for event in early {
            self.on_swarm_event(event);
        }
        loop {
            match self.next().await {
                Happening::Command(Command::Shutdown { reply }) => {
                    self.farewell().await;
                    let _ = reply.send(());
                    return;
                }
                Happening::HandlesGone => return self.farewell().await,
                happening => self.on_happening(happening),
            }
        }
    }

    fn on_happening(&mut self, happening: Happening) {
        match happening {
            Happening::Network(event) => self.on_swarm_event(*event),
            Happening::Verdict(verdict) => self.on_verdict(verdict),
            Happening::Publish(publish) => self.on_publish(publish),
            Happening::Wish(wish) => self.on_wish(wish),
            Happening::InboxHasRoom => self.refill_inbox(),
            Happening::LinksHaveRoom => self.retry_deferred(self.clock.now()),
            Happening::Command(command) => self.on_command(command),
            Happening::Time | Happening::HandlesGone => {}
        }
        self.on_time(self.clock.now());
    }

    /// Waits for the next thing to happen.
    async fn next(&mut self) -> Happening {
        let deadline = self.deadline().map(|d| self.clock.instant(d));
        let reading = self.held.is_empty();
        let publishing = self.deferred.is_none();
        tokio::select! {
            event = self.swarm.select_next_some(), if reading => Happening::Network(Box::new(event)),
            Some(verdict) = self.channels.verdicts.recv() => Happening::Verdict(verdict),
            Some(wish) = self.channels.wishes.recv() => Happening::Wish(wish),
            Some(publish) = self.channels.publishes.recv(), if publishing => {
                Happening::Publish(publish)
            }
            _ = self.channels.incoming.reserve(), if !reading => Happening::InboxHasRoom,
            () = self.channels.send_windows.writable(), if !publishing => Happening::LinksHaveRoom,
            command = self.channels.commands.recv(), if !self.is_parting => {
                command.map_or(Happening::HandlesGone, Happening::Command)
            }
            () = sleep_until(deadline) => Happening::Time,
        }
    }

    fn deadline(&self) -> Option<Time> {
        let ending = self.ending.iter().map(|(at, _)| *at).min();
        let retiring = self.retiring.iter().map(|(at, _)| *at).min();
        let rising = self.rising.iter().map(|(at, ..)| *at).min();
        let book = self.book.as_ref().map(|(at, _)| *at);
        let deferred = self.deferred.as_ref().map(|(at, _)| *at);
        [
            self.dialing.deadline(),
            ending,
            retiring,
            rising,
            book,
            deferred,
            self.ripening.front().map(|(at, ..)| *at),
            self.bus.deadline(),
            Some(self.channels.clocks.deadline()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_time(&mut self, now: Time) {
        for address in self.dialing.due(now) {
            self.dial(&address);
        }
        let due = |(at, _): &(Time, ConnectionId)| *at <= now;
        for (_, connection_id) in self.retiring.extract_if(.., |r| due(r)).collect::<Vec<_>>() {
            // Unless the peer chose otherwise, and has closed the other one meanwhile.
            if self.links.is_one_of_several(connection_id) {
                let why = "another connection to the same peer was kept";
                self.close(connection_id, why);
            }
        }
        let ended: Vec<_> = self.ending.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, connection_id) in ended {
            self.close(connection_id, "the link has ended");
        }
        self.rise(|(at, ..)| *at <= now);
        self.pass_on(now);
        self.bus.tell_held_back(now);
        self.save_book(now);
        self.channels.clocks.on_time(now);
        if self.deferred.as_ref().is_some_and(|(at, _)| *at <= now)
            && let Some((_, publish)) = self.deferred.take()
        {
            self.publish(now, publish);
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Connect { address, reply } => self.on_connect(&address, reply),
            Command::KeepDialing { address } => self.dialing.add(self.clock.now(), address),
            Command::Join { room, reply } => {
                let _ = reply.send(self.on_join(room));
            }
            Command::Leave { room, reply } => {
                let gossip = &mut self.swarm.behaviour_mut().gate.inner_mut().gossip;
                gossip.unsubscribe(&topic(&room));
                let _ = reply.send(self.rooms.leave(&room));
                self.note(Note::Leave(room));
            }
            Command::Rooms { reply } => {
                let _ = reply.send(self.rooms.joined());
            }
            Command::Peers { reply } => {
                let now = self.clock.now();
                let links = self
                    .links
                    .all()
                    .into_iter()
                    .map(|l| LinkInfo::of(l, now))
                    .collect();
                let _ = reply.send(links);
            }
            Command::SetPeerLists { trust, deny, reply } => {
                self.set_peer_lists(trust, deny);
                let _ = reply.send(());
            }
            Command::Clocks { reply } => {
                let _ = reply.send(self.channels.clocks.status(self.clock.now()));
            }
            Command::Status { reply } => self.note(Note::Status(reply)),
            Command::Shutdown { reply } => {
                let _ = reply.send(());
            }
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(address),
            SwarmEvent::ExpiredListenAddr { .. } => self.tell_addresses(),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed {
                connection_id,
                cause,
                ..
            } => {
                self.on_closed(connection_id, cause.as_ref());
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                let error = failure::of_dial(&error);
                self.on_dial_failed(connection_id, peer_id, None, error);
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error,
                peer_id,
                ..
            } => {
                if let Some(error) = failure::of_incoming(&error) {
                    self.on_visitor_failed(peer_id, send_back_addr, error);
                }
            }
            SwarmEvent::ListenerClosed {
                addresses,
                reason: Err(error),
                ..
            } => {
                let reason = format!("stopped listening on {addresses:?}: {error}");
                self.bus.emit(Event::Error { reason });
            }
            SwarmEvent::ListenerError { error, .. } => self.on_listener_error(error),
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Handshake(event) => self.on_handshake(event),
            BehaviourEvent::Gate(gate::Event::Open { connection_id, .. }) => {
                self.swarm
                    .behaviour_mut()
                    .handshake
                    .gate_open(connection_id);
            }
            BehaviourEvent::Gate(gate::Event::GaveUp { connection_id, .. }) => {
                self.close(
                    connection_id,
                    "its gossip stream died; a new link is needed",
                );
            }
            BehaviourEvent::Gate(gate::Event::Inner(VerifiedEvent::Gossip(event))) => {
                self.on_gossip(event);
            }
            BehaviourEvent::Gate(gate::Event::Inner(VerifiedEvent::Overlay(event))) => {
                self.on_overlay(event);
            }
            BehaviourEvent::Gate(gate::Event::Inner(VerifiedEvent::Sync(event))) => {
                self.on_sync(event);
            }
            BehaviourEvent::Limits(event) => self.on_limits(&event),
            BehaviourEvent::Ping(event) => self.on_ping(event),
            BehaviourEvent::Identify(event) => self.on_identify(&event),
            _ => {}
        }
    }

    fn on_listening(&mut self, address: Multiaddr) {
        if !can_be_dialled(&address) {
            return;
        }
        let own = *self.swarm.local_peer_id();
        let address = address.with_p2p(own).unwrap_or_else(|address| address);
        self.bus.emit(Event::Listening { address });
        self.tell_addresses();
    }

    /// Goes on until the neighbours have what they were offered, but not for long.
    async fn last_fetches(&mut self) {
        let (reply, all_taken) = oneshot::channel();
        self.note(Note::AllTaken(reply));
        let mut over = std::pin::pin!(tokio::time::timeout(LAST_FETCHES, all_taken));
        self.is_parting = true;
        loop {
            tokio::select! {
                _ = &mut over => return,
                happening = self.next() => self.on_happening(happening),
            }
        }
    }

    /// Closes every connection, which tells the peers, and waits shortly for it.
    async fn farewell(mut self) {
        self.last_fetches().await;
        let saving = self.save_book(self.clock.now() + overlay::SAVE_EVERY);
        if let Some(overlay) = self.overlay() {
            overlay.stop();
            let words = async {
                loop {
                    self.swarm.select_next_some().await;
                }
            };
            let _ = tokio::time::timeout(LAST_WORDS, words).await;
        }
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer_id in peers {
            let _ = self.swarm.disconnect_peer_id(peer_id);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, closed).await;
        if let Some(saving) = saving {
            let _ = tokio::time::timeout(FAREWELL, saving).await;
        }
        // The keeper ends when nobody takes its wishes and verdicts any more.
        let Channels {
            keeping,
            wishes,
            verdicts,
            ..
        } = self.channels;
        drop((wishes, verdicts));
        let _ = tokio::time::timeout(CLOSE_LOG, keeping).await;
        self.bus.close();
    }
}

async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
