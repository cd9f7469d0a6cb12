//! `diatribe demo`: several nodes in one process find their links and exchange a message.
//!
//! Entry function: [`run`]. The rules it keeps: the nodes are real and use real websockets; every wait is for an event
//! of a node; the exit code is 0 only if all promises held.
//!
//! `state` is the state of the mesh, `ascii` its picture, `narration` the output.

mod ascii;
mod narration;
mod state;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::config::DemoConfig;
use super::failure::Failure;
use super::output::CHAT;
use crate::identity::Identity;
use crate::net::Address;
use crate::node::{DEFAULT_ROOM, Event, Events, Node};
use narration::Narration;
use state::{Delivery, MeshState};

/// Timeout for the whole demonstration: some ten times the time that fifty nodes need on a slow machine.
const DEMO_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of unread events of the nodes; beyond it they wait in the nodes' own queues.
const MAX_WAITING: usize = 1024;

/// Runs the demonstration to its end.
pub(crate) fn run(config: DemoConfig) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("the program cannot start: {e}")))?;
    let result = runtime.block_on(show(&config));
    runtime.shutdown_background();
    result
}

/// Starts two nodes, then the others, which know only the first.
async fn show(config: &DemoConfig) -> Result<ExitCode, Failure> {
    let mut fleet = Fleet::new(config);
    let first = fleet.start(None).await?;
    fleet.start(Some(first.clone())).await?;
    let mut in_time = fleet.until(|view| view.links() == [(1, 2)]).await;
    while in_time && fleet.nodes.len() < config.nodes {
        fleet.start(Some(first.clone())).await?;
        fleet.catch_up();
    }
    in_time = in_time && fleet.until(MeshState::is_settled).await;
    if in_time {
        fleet.telling.settled(&fleet.view);
        in_time = fleet.say().await? && fleet.until(MeshState::is_done).await;
    }
    fleet.telling.end(&fleet.view, &fleet.ids());
    Ok(match in_time {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The nodes and the state that they have reported.
struct Fleet {
    /// The nodes; the first is number 1.
    nodes: Vec<Node>,
    numbers: HashMap<PeerId, usize>,
    teller: mpsc::Sender<NodeEvent>,
    told: mpsc::Receiver<NodeEvent>,
    view: MeshState,
    telling: Narration,
    deadline: Instant,
    said_at: Option<Instant>,
}

/// An event with the number of its node.
struct NodeEvent {
    node: usize,
    at: Instant,
    event: Event,
}

impl Fleet {
    fn new(config: &DemoConfig) -> Fleet {
        let (teller, told) = mpsc::channel(MAX_WAITING);
        let begun = Instant::now();
        Fleet {
            nodes: Vec::new(),
            numbers: HashMap::new(),
            teller,
            told,
            view: MeshState::of(config.nodes),
            telling: Narration::begin(begun, config.nodes, config.json),
            deadline: begun + DEMO_TIMEOUT,
            said_at: None,
        }
    }

    /// Starts one more node, which enters through `entry`; where it can be dialled.
    async fn start(&mut self, entry: Option<Address>) -> Result<Address, Failure> {
        let number = self.nodes.len() + 1;
        let failed = |e: &dyn std::fmt::Display| Failure::new(format!("node {number}: {e}"));
        let listen: Multiaddr = "/ip4/127.0.0.1/tcp/0/ws".parse().map_err(|e| failed(&e))?;
        let (node, events) = Node::builder()
            .identity(Identity::generate())
            .listen([listen])
            .exempt_loopback(true)
            .dial(entry)
            .start_with_events()
            .await
            .map_err(|e| failed(&e))?;
        let address = node.addresses().first().cloned();
        let address = address.ok_or_else(|| failed(&"it listens nowhere"))?;
        self.telling.online(number, &node);
        self.numbers.insert(node.peer_id(), number);
        self.nodes.push(node);
        tokio::spawn(hand_on(number, events, self.teller.clone()));
        Address::try_from(address).map_err(|e| failed(&e))
    }

    /// Sends a message from the last node to all.
    async fn say(&mut self) -> Result<bool, Failure> {
        let number = self.nodes.len();
        let Some(node) = self.nodes.last().cloned() else {
            return Ok(false);
        };
        let text = format!("hello from {number}");
        self.said_at = Some(Instant::now());
        let saying = node.broadcast_when_linked(DEFAULT_ROOM, CHAT, text.clone());
        let Ok(sent) = timeout_at(self.deadline.into(), saying).await else {
            return Ok(false);
        };
        let sent = sent.map_err(|e| Failure::new(format!("node {number}: {e}")))?;
        self.telling.sent(number, &text, sent);
        let (after, backfill) = (Duration::ZERO, false);
        self.view.heard(number, Delivery { after, backfill });
        Ok(true)
    }

    /// Reads the nodes' events until `done` holds. Returns whether that was in time.
    async fn until(&mut self, done: impl Fn(&MeshState) -> bool) -> bool {
        while !done(&self.view) {
            match timeout_at(self.deadline.into(), self.told.recv()).await {
                Ok(Some(told)) => self.take(told),
                _ => return false,
            }
        }
        true
    }

    /// Reads the events that are waiting.
    fn catch_up(&mut self) {
        while let Ok(told) = self.told.try_recv() {
            self.take(told);
        }
    }

    fn take(&mut self, told: NodeEvent) {
        let NodeEvent { node, at, event } = told;
        let number = |peer: &PeerId| self.numbers.get(peer).copied();
        let changed = match &event {
            Event::LinkUp { peer_id, links, .. } => {
                number(peer_id).is_some_and(|peer| self.view.up(node, peer, *links))
            }
            Event::LinkDown { peer_id, .. } => {
                number(peer_id).is_some_and(|peer| self.view.down(node, peer))
            }
            Event::Message(message) => {
                let said_at = self.said_at.unwrap_or(at);
                let after = at.saturating_duration_since(said_at);
                let backfill = message.backfill;
                self.view.heard(node, Delivery { after, backfill });
                true
            }
            _ => true,
        };
        self.telling.event(node, at, &event, changed, number);
    }

    fn ids(&self) -> Vec<PeerId> {
        self.nodes.iter().map(Node::peer_id).collect()
    }
}

/// Forwards a node's events to the shared queue, each with its time of arrival.
async fn hand_on(node: usize, mut events: Events, to: mpsc::Sender<NodeEvent>) {
    while let Some(event) = events.next().await {
        let at = Instant::now();
        if to.send(NodeEvent { node, at, event }).await.is_err() {
            return;
        }
    }
}
