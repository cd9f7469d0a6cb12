//! The one event loop of a node: network, application and clock in; everything else is told.
//!
//! Entry type: [`Runner`]. The rule it keeps: it decides nothing by itself. Whatever crosses between
//! protocols crosses here, each in a small `on_…` method, and nothing here waits but the loop.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::gossipsub::{self, MessageAcceptance, PublishError};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionError, ConnectionId, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, ping};
use rand::rngs::StdRng;
use tokio::sync::{Notify, mpsc, oneshot};

use super::address::Address;
use super::admission::Admission;
use super::behaviour::{Behaviour, BehaviourEvent, VerifiedEvent};
use super::dialing::Dialing;
use super::error::{BroadcastError, ConnectError, JoinError};
use super::event::{Direction, Event, EventBus};
use super::failure;
use super::handle::LinkInfo;
use super::inbox::{Incoming, Verdict};
use super::links::{Duplicate, Entered, Link, Links};
use super::outbox::Publish;
use super::refusals::Refusals;
use super::rooms::Rooms;
use super::stage::{Stage, StageError};
use crate::clock::{Clock, Time};
use crate::gossip::{self, RoomName};
use crate::handshake::{self, RejectCode};
use crate::{gate, handshake::Proof};

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
    refusals: Refusals,
    /// Links that are proved but whose peers have not said yet in which rooms they are: until they
    /// have, or this time is over, nobody is told of them.
    rising: Vec<(Time, LinkInfo, ConnectionId)>,
    /// Who waits for which dial.
    waiters: HashMap<ConnectionId, Vec<oneshot::Sender<Result<LinkInfo, ConnectError>>>>,
    /// Connections that we close, and why.
    closing: HashMap<ConnectionId, String>,
    /// Connections to close at a later time: losers of two that crossed.
    retiring: Vec<(Time, ConnectionId)>,
    /// Messages for which the inbox had no place: while there is one, the network is not read.
    held: VecDeque<Incoming>,
    /// A batch that waits for a link to come up wholly, or for room in its queues.
    deferred: Option<(Time, Publish)>,
}

/// A connection that lost against another is closed this much later, so that what travels on it
/// arrives.
const RETIRE_AFTER: std::time::Duration = std::time::Duration::from_secs(2);
/// How soon a batch that found all queues full is tried again.
const RETRY_FULL: std::time::Duration = std::time::Duration::from_millis(5);
/// How long a shutdown waits for connections to close.
const FAREWELL: std::time::Duration = std::time::Duration::from_millis(1000);

/// What the loop waits for.
enum Happening {
    Network(Box<SwarmEvent<BehaviourEvent>>),
    Verdict(Verdict),
    Publish(Publish),
    InboxHasRoom,
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
        rng: StdRng,
        admission: Admission,
    ) -> Runner {
        Runner {
            swarm,
            clock,
            channels,
            bus,
            rng,
            links: Links::default(),
            dialing: Dialing::default(),
            admission,
            rooms: Rooms::new(bell),
            refusals: Refusals::default(),
            rising: Vec::new(),
            waiters: HashMap::new(),
            closing: HashMap::new(),
            retiring: Vec::new(),
            held: VecDeque::new(),
            deferred: None,
        }
    }

    /// Runs until it is told to stop, or every handle is gone.
    pub(crate) async fn run(mut self) {
        loop {
            match self.next().await {
                Happening::Network(event) => self.on_swarm_event(*event),
                Happening::Verdict(verdict) => self.on_verdict(verdict),
                Happening::Publish(publish) => self.on_publish(publish),
                Happening::InboxHasRoom => self.refill_inbox(),
                Happening::Time => {}
                Happening::Command(Command::Shutdown { reply }) => {
                    self.farewell().await;
                    let _ = reply.send(());
                    return;
                }
                Happening::Command(command) => self.on_command(command),
                Happening::HandlesGone => return self.farewell().await,
            }
            self.on_time(self.clock.now());
        }
    }

    /// Waits for the next thing to happen.
    async fn next(&mut self) -> Happening {
        let deadline = self.deadline().map(|d| self.clock.instant(d));
        let reading = self.held.is_empty();
        let publishing = self.deferred.is_none();
        tokio::select! {
            event = self.swarm.select_next_some(), if reading => Happening::Network(Box::new(event)),
            Some(verdict) = self.channels.verdicts.recv() => Happening::Verdict(verdict),
            Some(publish) = self.channels.publishes.recv(), if publishing => {
                Happening::Publish(publish)
            }
            _ = self.channels.incoming.reserve(), if !reading => Happening::InboxHasRoom,
            command = self.channels.commands.recv() => {
                command.map_or(Happening::HandlesGone, Happening::Command)
            }
            () = sleep_until(deadline) => Happening::Time,
        }
    }

    fn refill_inbox(&mut self) {
        while let Some(incoming) = self.held.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(incoming)) =
                self.channels.incoming.try_send(incoming)
            {
                self.held.push_front(incoming);
                return;
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        let retiring = self.retiring.iter().map(|(at, _)| *at).min();
        let rising = self.rising.iter().map(|(at, ..)| *at).min();
        let deferred = self.deferred.as_ref().map(|(at, _)| *at);
        [self.dialing.deadline(), retiring, rising, deferred]
            .into_iter()
            .flatten()
            .min()
    }

    fn on_time(&mut self, now: Time) {
        for address in self.dialing.due(now) {
            match self.dial(&address) {
                Ok(connection_id) => self.dialing.started(&address, connection_id),
                Err(connection_id) => {
                    self.dialing.started(&address, connection_id);
                    self.dialing.failed(now, connection_id, &mut self.rng);
                }
            }
        }
        let due = |(at, _): &(Time, ConnectionId)| *at <= now;
        for (_, connection_id) in self.retiring.extract_if(.., |r| due(r)).collect::<Vec<_>>() {
            self.close(
                connection_id,
                "another connection to the same peer was kept",
            );
        }
        self.rise(|(at, ..)| *at <= now);
        if self.deferred.as_ref().is_some_and(|(at, _)| *at <= now)
            && let Some((_, publish)) = self.deferred.take()
        {
            self.publish(now, publish);
        }
    }

    /// Dials; the id is that of the attempt, also when it was refused at once.
    fn dial(&mut self, address: &Address) -> Result<ConnectionId, ConnectionId> {
        let multiaddr = address.multiaddr().clone();
        let opts = match address.peer_id() {
            Some(peer_id) => DialOpts::peer_id(peer_id)
                .condition(PeerCondition::Always)
                .addresses(vec![multiaddr])
                .build(),
            None => DialOpts::unknown_peer_id().address(multiaddr).build(),
        };
        let connection_id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => Ok(connection_id),
            Err(error) => {
                self.refused(
                    address.peer_id(),
                    address.multiaddr().clone(),
                    failure::of_dial(&error),
                );
                Err(connection_id)
            }
        }
    }

    fn close(&mut self, connection_id: ConnectionId, why: impl Into<String>) {
        if self.swarm.close_connection(connection_id) {
            self.closing
                .entry(connection_id)
                .or_insert_with(|| why.into());
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
                gossip.unsubscribe(&gossip::topic(&room));
                let _ = reply.send(self.rooms.leave(&room));
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
            Command::Shutdown { reply } => {
                let _ = reply.send(());
            }
        }
    }

    fn on_connect(
        &mut self,
        address: &Address,
        reply: oneshot::Sender<Result<LinkInfo, ConnectError>>,
    ) {
        let linked = address
            .peer_id()
            .and_then(|peer_id| self.links.of(&peer_id));
        if let Some(link) = linked {
            let _ = reply.send(Ok(LinkInfo::of(link, self.clock.now())));
            return;
        }
        let multiaddr = address.multiaddr().clone();
        let opts = match address.peer_id() {
            Some(peer_id) => DialOpts::peer_id(peer_id)
                .condition(PeerCondition::Always)
                .addresses(vec![multiaddr])
                .build(),
            None => DialOpts::unknown_peer_id().address(multiaddr).build(),
        };
        let connection_id = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => self.waiters.entry(connection_id).or_default().push(reply),
            Err(error) => {
                let _ = reply.send(Err(ConnectError::Stage(failure::of_dial(&error))));
            }
        }
    }

    fn on_join(&mut self, room: RoomName) -> Result<(), JoinError> {
        self.rooms.join(room.clone())?;
        let gossip = &mut self.swarm.behaviour_mut().gate.inner_mut().gossip;
        if let Err(error) = gossip.subscribe(&gossip::topic(&room)) {
            // Every well-formed room may be subscribed to, and `room` is one.
            tracing::error!(%room, %error, "gossipsub refused a subscription");
        }
        Ok(())
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(address),
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
                    self.refused(peer_id, send_back_addr, error);
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
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener had an error and goes on");
            }
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
            BehaviourEvent::Ping(event) => self.on_ping(event),
            BehaviourEvent::Identify(event) => self.on_identify(&event),
            _ => {}
        }
    }

    fn on_listening(&mut self, address: Multiaddr) {
        let own = *self.swarm.local_peer_id();
        let address = address.with_p2p(own).unwrap_or_else(|address| address);
        self.bus.emit(Event::Listening { address });
    }

    fn on_established(
        &mut self,
        peer_id: PeerId,
        connection_id: ConnectionId,
        at: &ConnectedPoint,
    ) {
        // A second dial to a peer that is linked: the link that stands serves.
        if at.is_dialer()
            && let Some(link) = self.links.of(&peer_id)
        {
            let link = LinkInfo::of(link, self.clock.now());
            self.answer(connection_id, || Ok(link.clone()));
            self.dialing.linked(connection_id, peer_id);
            self.close(connection_id, "the peer is linked already");
        }
    }

    fn on_dial_failed(
        &mut self,
        connection_id: ConnectionId,
        peer_id: Option<PeerId>,
        address: Option<Multiaddr>,
        error: StageError,
    ) {
        let awaited = self.answer(connection_id, || Err(ConnectError::Stage(error.clone())));
        let now = self.clock.now();
        let address = address.or_else(|| self.dialing.address_of(connection_id));
        match self.dialing.failed(now, connection_id, &mut self.rng) {
            Some(first) if first => {
                self.refused(peer_id, address.unwrap_or_else(Multiaddr::empty), error);
            }
            Some(_) => tracing::info!(%error, "a dial failed again"),
            None if awaited => {}
            None => self.refused(peer_id, address.unwrap_or_else(Multiaddr::empty), error),
        }
    }

    /// Answers whoever waits for a dial; whether anybody did.
    fn answer(
        &mut self,
        connection_id: ConnectionId,
        answer: impl Fn() -> Result<LinkInfo, ConnectError>,
    ) -> bool {
        let waiters = self.waiters.remove(&connection_id).unwrap_or_default();
        let awaited = !waiters.is_empty();
        for waiter in waiters {
            let _ = waiter.send(answer());
        }
        awaited
    }

    fn refused(&mut self, peer_id: Option<PeerId>, address: Multiaddr, error: StageError) {
        if self.refusals.may_tell(self.clock.now()) {
            self.bus.emit(Event::Refused {
                peer_id,
                address,
                error,
            });
        }
    }

    fn on_handshake(&mut self, event: handshake::Event) {
        match event {
            handshake::Event::Judge {
                connection_id,
                peer_id,
                instance_id,
                ..
            } => {
                let ruling = self.judge(connection_id, &peer_id, &instance_id);
                self.swarm
                    .behaviour_mut()
                    .handshake
                    .rule(connection_id, ruling);
            }
            handshake::Event::Verified(proof) => {
                let gate = &mut self.swarm.behaviour_mut().gate;
                gate.open_inbound(&proof);
                if proof.is_dialer() {
                    gate.open_outbound(&proof);
                }
            }
            handshake::Event::Passed {
                proof,
                endpoint,
                took,
            } => {
                self.on_passed(&proof, &endpoint, took);
            }
            handshake::Event::Failed {
                connection_id,
                peer_id,
                endpoint,
                failure,
            } => {
                // Our own closing is no failure of the handshake.
                if !self.closing.contains_key(&connection_id) {
                    let address = endpoint.get_remote_address().clone();
                    let error = failure::of_handshake(&failure);
                    self.closing.insert(connection_id, error.to_string());
                    self.on_handshake_failed(connection_id, peer_id, address, &endpoint, error);
                }
            }
        }
    }

    fn on_handshake_failed(
        &mut self,
        connection_id: ConnectionId,
        peer_id: PeerId,
        address: Multiaddr,
        endpoint: &ConnectedPoint,
        error: StageError,
    ) {
        if endpoint.is_dialer() {
            self.on_dial_failed(connection_id, Some(peer_id), Some(address), error);
        } else {
            self.refused(Some(peer_id), address, error);
        }
    }

    fn judge(
        &mut self,
        connection_id: ConnectionId,
        peer_id: &PeerId,
        instance_id: &[u8; 16],
    ) -> Result<(), RejectCode> {
        let now = self.clock.now();
        self.admission.rule(now, peer_id)?;
        match self.links.duplicate(peer_id, instance_id, now) {
            Duplicate::None => Ok(()),
            Duplicate::Alive => Err(RejectCode::DuplicateIdentity),
            Duplicate::Dead(old) if old != connection_id => {
                self.close(old, "the peer runs anew and its old link was dead");
                Ok(())
            }
            Duplicate::Dead(_) => Ok(()),
        }
    }

    fn on_passed(&mut self, proof: &Proof, endpoint: &ConnectedPoint, took: std::time::Duration) {
        let now = self.clock.now();
        let behaviour = self.swarm.behaviour_mut();
        behaviour.limits.verified(proof.connection_id());
        if !proof.is_dialer() {
            behaviour.gate.open_outbound(proof);
        }
        let peer_id = proof.verified().peer_id();
        let link = Link {
            connection_id: proof.connection_id(),
            peer_id,
            instance_id: proof.verified().instance_id(),
            address: endpoint.get_remote_address().clone(),
            direction: if endpoint.is_dialer() {
                Direction::Dialer
            } else {
                Direction::Listener
            },
            since: now,
            heard: now,
            rtt: None,
        };
        tracing::debug!(%peer_id, ?took, "the handshake passed");
        let info = LinkInfo::of(&link, now);
        match self.links.enter(self.swarm.local_peer_id(), link) {
            Entered::New => {
                let until = self.rooms.settling(now, peer_id);
                self.rising.push((until, info, proof.connection_id()));
            }
            Entered::Close(loser) => {
                self.retiring.push((now + RETIRE_AFTER, loser));
                self.answer(proof.connection_id(), || Ok(info.clone()));
            }
        }
        self.dialing.linked(proof.connection_id(), peer_id);
    }

    /// Tells of the links that are ready.
    fn rise(&mut self, ready: impl Fn(&(Time, LinkInfo, ConnectionId)) -> bool) {
        let risen: Vec<_> = self.rising.extract_if(.., |r| ready(r)).collect();
        for (_, info, connection_id) in risen {
            self.bus.emit(Event::LinkUp {
                peer_id: info.peer_id,
                address: info.address.clone(),
                direction: info.direction,
                links: self.links.count(),
            });
            self.answer(connection_id, || Ok(info.clone()));
        }
    }

    fn on_closed(&mut self, connection_id: ConnectionId, cause: Option<&ConnectionError>) {
        let ours = self.closing.remove(&connection_id);
        self.retiring.retain(|(_, id)| *id != connection_id);
        let now = self.clock.now();
        let Some((link, last)) = self.links.leave(connection_id) else {
            self.on_closed_before_link(connection_id);
            return;
        };
        if last {
            self.rise(|(_, info, _)| info.peer_id == link.peer_id);
            let reason = ours.unwrap_or_else(|| failure::of_close(cause));
            self.rooms.gone(&link.peer_id);
            let links = self.links.count();
            self.bus.emit(Event::LinkDown {
                peer_id: link.peer_id,
                reason,
                links,
            });
            self.dialing.unlinked(now, link.peer_id, &mut self.rng);
            self.retry_deferred(now);
        }
    }

    /// The handshake has told already why, unless it never got to say a word.
    fn on_closed_before_link(&mut self, connection_id: ConnectionId) {
        let error = StageError::new(Stage::Handshake1, "the connection was closed");
        self.answer(connection_id, || Err(ConnectError::Stage(error.clone())));
        self.dialing
            .failed(self.clock.now(), connection_id, &mut self.rng);
    }

    fn on_ping(&mut self, event: ping::Event) {
        match event.result {
            Ok(rtt) => self
                .links
                .heard(event.connection, self.clock.now(), Some(rtt)),
            Err(ping::Failure::Unsupported) => {}
            Err(error) => {
                if self.links.get(event.connection).is_some() {
                    self.close(
                        event.connection,
                        format!("the peer gives no sign of life: {error}"),
                    );
                }
            }
        }
    }

    fn on_identify(&mut self, event: &identify::Event) {
        if let identify::Event::Received {
            connection_id,
            peer_id,
            info,
        } = event
        {
            tracing::debug!(%peer_id, agent = %info.agent_version, "identified");
            self.links.heard(*connection_id, self.clock.now(), None);
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            } => {
                self.on_message(propagation_source, message_id, message);
            }
            gossipsub::Event::Subscribed { peer_id, .. } => {
                self.rooms.settled(&peer_id);
                self.rise(|(_, info, _)| info.peer_id == peer_id);
                self.rooms.announce();
                self.retry_deferred(self.clock.now());
            }
            gossipsub::Event::SlowPeer {
                peer_id,
                failed_messages,
            } => {
                tracing::warn!(%peer_id, ?failed_messages, "a link is too slow: messages for it were dropped");
            }
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                tracing::debug!(%peer_id, "the peer does not speak gossipsub");
                self.rooms.settled(&peer_id);
                self.rise(|(_, info, _)| info.peer_id == peer_id);
            }
            _ => {}
        }
    }

    fn on_message(
        &mut self,
        from: PeerId,
        message_id: gossipsub::MessageId,
        message: gossipsub::Message,
    ) {
        let Some(room) = RoomName::from_topic(message.topic.as_str()) else {
            self.report(&message_id, &from, MessageAcceptance::Reject);
            return;
        };
        let incoming = Incoming {
            from,
            message_id,
            room,
            data: message.data.into(),
        };
        match self.channels.incoming.try_send(incoming) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(incoming)) => self.held.push_back(incoming),
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    fn on_verdict(&mut self, verdict: Verdict) {
        let Verdict {
            from,
            message_id,
            result,
        } = verdict;
        let acceptance = match &result {
            Ok(()) => MessageAcceptance::Accept,
            Err(error) if error.is_offence() => MessageAcceptance::Reject,
            Err(_) => MessageAcceptance::Ignore,
        };
        self.report(&message_id, &from, acceptance);
        let Err(error) = result else { return };
        tracing::warn!(peer_id = %from, %error, "a message was refused");
        if !error.is_offence() {
            return;
        }
        // Nodes check before they forward: whoever handed it on is who broke the rule.
        self.admission.banish(self.clock.now(), from);
        let Some(link) = self.links.of(&from).cloned() else {
            return;
        };
        let error = StageError::new(
            Stage::Link,
            format!("the peer sent what is no batch: {error}"),
        )
        .with_code("INVALID_BATCH");
        self.close(link.connection_id, error.reason.clone());
        self.refused(Some(from), link.address, error);
    }

    fn report(&mut self, id: &gossipsub::MessageId, from: &PeerId, acceptance: MessageAcceptance) {
        let gossip = &mut self.swarm.behaviour_mut().gate.inner_mut().gossip;
        gossip.report_message_validation_result(id, from, acceptance);
    }

    fn on_publish(&mut self, publish: Publish) {
        let now = self.clock.now();
        // A link that has just come up has not told its rooms yet: wait for it, shortly.
        match self.rooms.unsettled_until(now) {
            Some(until) => self.deferred = Some((until, publish)),
            None => self.publish(now, publish),
        }
    }

    fn retry_deferred(&mut self, now: Time) {
        if self.rooms.unsettled_until(now).is_none()
            && let Some((_, publish)) = self.deferred.take()
        {
            self.publish(now, publish);
        }
    }

    fn publish(&mut self, now: Time, publish: Publish) {
        let room = publish.batch.room().clone();
        if !self.rooms.is_in(&room) {
            let _ = publish.reply.send(Err(BroadcastError::NotInRoom(room)));
            return;
        }
        let gossip = &mut self.swarm.behaviour_mut().gate.inner_mut().gossip;
        let topic = gossip::topic(&room);
        let result = gossip.publish(topic.clone(), publish.batch.bytes().to_vec());
        let answer = match result {
            Ok(_) => {
                let hash = topic.hash();
                Ok(gossip
                    .all_peers()
                    .filter(|(_, topics)| topics.contains(&&hash))
                    .count())
            }
            Err(PublishError::NoPeersSubscribedToTopic) => Err(BroadcastError::NoLinks(room)),
            Err(PublishError::AllQueuesFull(_)) => {
                self.deferred = Some((now + RETRY_FULL, publish));
                return;
            }
            Err(error) => Err(BroadcastError::Unsendable(error.to_string())),
        };
        let _ = publish.reply.send(answer);
    }

    /// Closes every connection, which tells the peers, and waits shortly for it.
    async fn farewell(&mut self) {
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
        self.bus.close();
    }
}

async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
