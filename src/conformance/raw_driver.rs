//! The task that drives a raw peer's swarm: commands in, connections and their streams out.
//!
//! Entry type: [`Driver`].

use std::collections::HashMap;
use std::time::Instant;

use futures::StreamExt;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, Swarm, SwarmEvent};
use tokio::sync::{mpsc, oneshot, watch};

use super::conn::{Command, Conn};
use super::stream_handler::InboundStream;
use super::streams::Behaviour;

struct Entry {
    inbound: mpsc::UnboundedSender<InboundStream>,
    ended: watch::Sender<Option<Instant>>,
}

pub(super) struct Driver {
    swarm: Swarm<Behaviour>,
    inbound: mpsc::UnboundedReceiver<InboundStream>,
    conns: HashMap<ConnectionId, Entry>,
    dials: HashMap<ConnectionId, oneshot::Sender<String>>,
    arrivals: mpsc::UnboundedSender<Conn>,
    commands: mpsc::UnboundedSender<Command>,
}

impl Driver {
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        inbound: mpsc::UnboundedReceiver<InboundStream>,
        arrivals: mpsc::UnboundedSender<Conn>,
        commands: mpsc::UnboundedSender<Command>,
    ) -> Driver {
        Driver {
            swarm,
            inbound,
            conns: HashMap::new(),
            dials: HashMap::new(),
            arrivals,
            commands,
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            // A connection is reported before its streams.
            tokio::select! {
                biased;
                Some(command) = commands.recv() => self.on_command(command),
                event = self.swarm.select_next_some() => self.on_event(event),
                Some(inbound) = self.inbound.recv() => {
                    if let Some(entry) = self.conns.get(&inbound.id) {
                        // With no receiver the stream is dropped, which resets it.
                        let _ = entry.inbound.send(inbound);
                    }
                }
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial(address, failed) => {
                let multiaddr = address.multiaddr().clone();
                let dial = match address.peer_id() {
                    Some(peer_id) => DialOpts::peer_id(peer_id)
                        .addresses(vec![multiaddr])
                        .condition(libp2p::swarm::dial_opts::PeerCondition::Always)
                        .build(),
                    None => DialOpts::unknown_peer_id().address(multiaddr).build(),
                };
                let id = dial.connection_id();
                match self.swarm.dial(dial) {
                    Ok(()) => drop(self.dials.insert(id, failed)),
                    Err(error) => drop(failed.send(error.to_string())),
                }
            }
            Command::Open(id, protocol, reply) => {
                self.swarm.behaviour_mut().streams.open(id, protocol, reply);
            }
            Command::Close(id) => {
                self.conns.remove(&id);
                self.swarm.close_connection(id);
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<super::streams::BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.dials.remove(&connection_id);
                let (inbound_out, inbound) = mpsc::unbounded_channel();
                let (ended_out, ended) = watch::channel(None);
                let entry = Entry {
                    inbound: inbound_out,
                    ended: ended_out,
                };
                self.conns.insert(connection_id, entry);
                let _ = self.arrivals.send(Conn::new(
                    connection_id,
                    peer_id,
                    endpoint.get_remote_address().clone(),
                    inbound,
                    ended,
                    self.commands.clone(),
                ));
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                if let Some(entry) = self.conns.remove(&connection_id) {
                    entry.ended.send_replace(Some(Instant::now()));
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                if let Some(failed) = self.dials.remove(&connection_id) {
                    let _ = failed.send(error.to_string());
                }
            }
            _ => {}
        }
    }
}
