//! Two swarms with a gate each, connected over memory.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::transport::MemoryTransport;
use libp2p::core::upgrade::Version;
use libp2p::swarm::{ConnectionId, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Transport, identity, noise, yamux};

use super::is_open;
use crate::gate::sealed::Sealed;
use crate::gate::{Event, Gate, Permit};

/// Maximum wait for an event that must happen.
const EVENT_TIMEOUT: Duration = Duration::from_secs(20);
/// Wait that shows that nothing happens: several round trips in memory.
const SETTLE_TIME: Duration = Duration::from_millis(300);

pub(super) struct Proof(pub(super) PeerId, pub(super) ConnectionId);

impl Sealed for Proof {}

impl Permit for Proof {
    fn peer_id(&self) -> PeerId {
        self.0
    }

    fn connection_id(&self) -> ConnectionId {
        self.1
    }
}

/// One side, and the events that it has reported.
pub(super) struct Side<B: NetworkBehaviour> {
    pub(super) swarm: Swarm<Gate<B>>,
    pub(super) observed: VecDeque<Observed<B::ToSwarm>>,
}

#[derive(Debug)]
pub(super) enum Observed<E> {
    Up(ConnectionId),
    Down,
    Open,
    GaveUp(ConnectionId),
    Inner(E),
}

impl<B> Side<B>
where
    B: NetworkBehaviour<ToSwarm: std::fmt::Debug>,
{
    pub(super) fn new(inner: B) -> Side<B> {
        let key = identity::Keypair::generate_ed25519();
        let transport = MemoryTransport::default()
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(&key).expect("an Ed25519 key"))
            .multiplex(yamux::Config::default())
            .boxed();
        let config = libp2p::swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(Duration::from_secs(60))
            .with_substream_upgrade_protocol_override(Version::V1Lazy);
        let own = key.public().to_peer_id();
        Side {
            swarm: Swarm::new(transport, Gate::new(inner), own, config),
            observed: VecDeque::new(),
        }
    }

    pub(super) fn id(&self) -> PeerId {
        *self.swarm.local_peer_id()
    }

    pub(super) fn gate(&mut self) -> &mut Gate<B> {
        self.swarm.behaviour_mut()
    }

    fn hear(&mut self, event: SwarmEvent<Event<B::ToSwarm>>) {
        let observed = match event {
            SwarmEvent::ConnectionEstablished { connection_id, .. } => Observed::Up(connection_id),
            SwarmEvent::ConnectionClosed { .. } => Observed::Down,
            SwarmEvent::Behaviour(Event::Open { .. }) => Observed::Open,
            SwarmEvent::Behaviour(Event::GaveUp { connection_id, .. }) => {
                Observed::GaveUp(connection_id)
            }
            SwarmEvent::Behaviour(Event::Inner(event)) => Observed::Inner(event),
            _ => return,
        };
        self.observed.push_back(observed);
    }
}

/// Two sides, run together.
pub(super) struct Pair<B: NetworkBehaviour> {
    pub(super) dialer: Side<B>,
    pub(super) listener: Side<B>,
    pub(super) address: Multiaddr,
}

/// A connection as each side numbers it.
#[derive(Clone, Copy)]
pub(super) struct Both {
    pub(super) dialers: ConnectionId,
    pub(super) listeners: ConnectionId,
}

impl<B> Pair<B>
where
    B: NetworkBehaviour<ToSwarm: std::fmt::Debug>,
{
    pub(super) async fn new(inner: impl Fn() -> B) -> Pair<B> {
        let (dialer, mut listener) = (Side::new(inner()), Side::new(inner()));
        let any = "/memory/0".parse().expect("a multiaddr");
        listener
            .swarm
            .listen_on(any)
            .expect("memory can be listened on");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } =
                listener.swarm.select_next_some().await
            {
                break address;
            }
        };
        Pair {
            dialer,
            listener,
            address,
        }
    }

    pub(super) async fn connect(&mut self) -> Both {
        self.dialer
            .swarm
            .dial(self.address.clone())
            .expect("it can be dialled");
        let dialers = self.dialers(|observed| match observed {
            Observed::Up(id) => Some(*id),
            _ => None,
        });
        let dialers = dialers.await;
        let listeners = self.listeners(|observed| match observed {
            Observed::Up(id) => Some(*id),
            _ => None,
        });
        Both {
            dialers,
            listeners: listeners.await,
        }
    }

    /// Runs both until `wanted` picks an event of the dialer; drops the events before it.
    pub(super) async fn dialers<T>(
        &mut self,
        wanted: impl Fn(&Observed<B::ToSwarm>) -> Option<T>,
    ) -> T {
        let found = async {
            loop {
                while let Some(observed) = self.dialer.observed.pop_front() {
                    if let Some(found) = wanted(&observed) {
                        return found;
                    }
                }
                self.step().await;
            }
        };
        tokio::time::timeout(EVENT_TIMEOUT, found)
            .await
            .expect("the event happens")
    }

    pub(super) async fn listeners<T>(
        &mut self,
        wanted: impl Fn(&Observed<B::ToSwarm>) -> Option<T>,
    ) -> T {
        let found = async {
            loop {
                while let Some(observed) = self.listener.observed.pop_front() {
                    if let Some(found) = wanted(&observed) {
                        return found;
                    }
                }
                self.step().await;
            }
        };
        tokio::time::timeout(EVENT_TIMEOUT, found)
            .await
            .expect("the event happens")
    }

    async fn step(&mut self) {
        tokio::select! {
            event = self.dialer.swarm.select_next_some() => self.dialer.hear(event),
            event = self.listener.swarm.select_next_some() => self.listener.hear(event),
        }
    }

    pub(super) async fn settle(&mut self) {
        let run = async {
            loop {
                self.step().await;
            }
        };
        let _: Result<(), _> = tokio::time::timeout(SETTLE_TIME, run).await;
    }

    pub(super) fn permits(&self, both: Both) -> (Proof, Proof) {
        let of_listener = Proof(self.listener.id(), both.dialers);
        let of_dialer = Proof(self.dialer.id(), both.listeners);
        (of_listener, of_dialer)
    }

    /// Opens both gates wholly.
    pub(super) async fn open(&mut self, both: Both) {
        let (of_listener, of_dialer) = self.permits(both);
        self.listener.gate().open_inbound(&of_dialer);
        self.listeners(is_open).await;
        self.dialer.gate().open_inbound(&of_listener);
        self.dialers(is_open).await;
        self.dialer.gate().open_outbound(&of_listener);
        self.listener.gate().open_outbound(&of_dialer);
    }
}
