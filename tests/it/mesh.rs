//! The overlay on real sockets: everyone ends with two to five links in one mesh, nobody ever has
//! more than six, and the mesh closes again when nodes die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use diatribe::{Address, Event, Events, Identity, Message, Node, NodeBuilder};
use futures::future::join_all;
use libp2p::PeerId;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::cluster::builder;

/// How long a mesh may take to settle before a test says that it did not. Generous, because the
/// machine may be busy: a test that passes never waits for it.
const EVENT_TIMEOUT: Duration = Duration::from_secs(120);
/// Number of messages sent while a third of the nodes dies.
const SAID_MEANWHILE: usize = 40;

/// Nodes with their overlay, watched through their events alone.
struct Mesh {
    nodes: BTreeMap<PeerId, Node>,
    /// The runtimes of nodes that can be killed without a word.
    mortal: BTreeMap<PeerId, Runtime>,
    events: mpsc::UnboundedReceiver<(PeerId, Event)>,
    teller: mpsc::UnboundedSender<(PeerId, Event)>,
    links: BTreeMap<PeerId, BTreeSet<PeerId>>,
    most: usize,
    heard: BTreeMap<PeerId, Vec<Message>>,
    /// Nodes that had a link once and then none.
    cut_off: BTreeSet<PeerId>,
}

impl Mesh {
    fn new() -> Mesh {
        let (teller, events) = mpsc::unbounded_channel();
        Mesh {
            nodes: BTreeMap::new(),
            mortal: BTreeMap::new(),
            events,
            teller,
            links: BTreeMap::new(),
            most: 0,
            heard: BTreeMap::new(),
            cut_off: BTreeSet::new(),
        }
    }

    /// Starts a node that enters through `entry`.
    async fn start(&mut self, entry: Option<Address>) -> Node {
        let started = build(entry).start_with_events().await;
        let (node, events) = started.expect("the node starts");
        self.watch(&node, events);
        node
    }

    /// Starts a node in a runtime of its own, so that it can be killed.
    async fn start_mortal(&mut self, entry: Option<Address>) -> Node {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let starting = runtime.spawn(build(entry).start_with_events());
        let (node, events) = starting.await.expect("no panic").expect("the node starts");
        self.watch(&node, events);
        self.mortal.insert(node.peer_id(), runtime);
        node
    }

    fn watch(&mut self, node: &Node, mut events: Events) {
        let (id, teller) = (node.peer_id(), self.teller.clone());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if teller.send((id, event)).is_err() {
                    return;
                }
            }
        });
        self.nodes.insert(id, node.clone());
        self.links.insert(id, BTreeSet::new());
    }

    fn take(&mut self, id: PeerId, event: Event) {
        let Some(links) = self.links.get_mut(&id) else {
            return;
        };
        match event {
            Event::LinkUp {
                peer_id,
                links: count,
                ..
            } => {
                links.insert(peer_id);
                self.most = self.most.max(count);
            }
            Event::LinkDown { peer_id, .. } => {
                links.remove(&peer_id);
                if links.is_empty() {
                    self.cut_off.insert(id);
                }
            }
            Event::Message(message) => self.heard.entry(id).or_default().push(message),
            Event::Missed { events, .. } => panic!("the test missed {events} events"),
            _ => {}
        }
    }

    /// Reads events until `done`; how long that took.
    async fn until(&mut self, what: &str, done: impl Fn(&Mesh) -> bool) -> Duration {
        let begun = Instant::now();
        while !done(self) {
            let left = EVENT_TIMEOUT.saturating_sub(begun.elapsed());
            match tokio::time::timeout(left, self.events.recv()).await {
                Ok(Some((id, event))) => self.take(id, event),
                _ => panic!("not {what} in {EVENT_TIMEOUT:?}: {:?}", self.degrees()),
            }
        }
        begun.elapsed()
    }

    fn degrees(&self) -> Vec<usize> {
        self.links.values().map(BTreeSet::len).collect()
    }

    fn has_degrees(&self, least: usize, most: usize) -> bool {
        self.links
            .values()
            .all(|l| (least..=most).contains(&l.len()))
    }

    fn is_one_component(&self) -> bool {
        let mut found = BTreeSet::new();
        let mut next: Vec<PeerId> = self.links.keys().take(1).copied().collect();
        while let Some(id) = next.pop() {
            if found.insert(id) {
                next.extend(self.links.get(&id).into_iter().flatten());
            }
        }
        self.links.keys().all(|id| found.contains(id))
    }

    fn is_settled(&self) -> bool {
        self.has_degrees(2, 5) && self.is_one_component()
    }

    /// Stops nodes in good order, all at once.
    async fn stop(&mut self, ids: &[PeerId]) {
        let mut stopping = Vec::new();
        for id in ids {
            self.links.remove(id);
            let node = self.nodes.remove(id).expect("a node that runs");
            stopping.push(async move { node.shutdown().await });
        }
        join_all(stopping).await;
    }

    /// Ends a node as the end of its process would, without any shutdown.
    fn kill(&mut self, id: PeerId) {
        let runtime = self.mortal.remove(&id).expect("a node that can be killed");
        runtime.shutdown_background();
        self.links.remove(&id);
        self.nodes.remove(&id);
    }

    /// Reads the events that the nodes have already reported.
    fn catch_up(&mut self) {
        while let Ok((id, event)) = self.events.try_recv() {
            self.take(id, event);
        }
    }

    async fn say(&self, id: PeerId, text: &str) {
        self.nodes[&id]
            .broadcast_when_linked("lobby", "chat", text.to_owned())
            .await
            .expect("the event is sent");
    }

    fn all_heard(&self, text: &str, but: PeerId) -> bool {
        let heard = |id: &PeerId| {
            let of = self.heard.get(id).into_iter().flatten();
            of.filter(|m| m.data == text.as_bytes()).count()
        };
        self.links
            .keys()
            .filter(|id| **id != but)
            .all(|id| heard(id) == 1)
    }
}

/// Deliveries of the texts that were sent while nodes died.
#[derive(Debug, Default)]
struct Delivered {
    live: usize,
    /// By data checking.
    later: usize,
    lost: usize,
}

impl Mesh {
    /// Counts the deliveries of each of `texts` to every node but `speaker`.
    fn delivered(&self, texts: &[String], speaker: PeerId) -> Delivered {
        let mut delivered = Delivered::default();
        for id in self.links.keys().filter(|id| **id != speaker) {
            let heard = self.heard.get(id).map(Vec::as_slice).unwrap_or_default();
            for text in texts {
                match heard.iter().find(|m| m.data == text.as_bytes()) {
                    Some(message) if message.backfill => delivered.later += 1,
                    Some(_) => delivered.live += 1,
                    None => delivered.lost += 1,
                }
            }
        }
        delivered
    }
}

fn build(entry: Option<Address>) -> NodeBuilder {
    let identity = Identity::generate();
    builder().identity(identity).fixed_links(false).dial(entry)
}

fn address_of(node: &Node) -> Address {
    node.addresses()[0]
        .clone()
        .try_into()
        .expect("a node's own address can be dialled")
}

/// `n` nodes that all enter at once through one.
async fn mesh_of(n: usize) -> (Mesh, PeerId) {
    let mut mesh = Mesh::new();
    let entry = mesh.start(None).await;
    for _ in 1..n {
        mesh.start(Some(address_of(&entry))).await;
    }
    let took = mesh
        .until("one mesh of 2 to 5 links", Mesh::is_settled)
        .await;
    println!(
        "{n} nodes settled in {took:?}: degrees {:?}, most links {}",
        mesh.degrees(),
        mesh.most
    );
    (mesh, entry.peer_id())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_nodes_through_one_entry_make_one_mesh_and_hear_each_other() {
    let (mut mesh, entry) = mesh_of(8).await;
    mesh.say(entry, "to all").await;
    mesh.until("heard by all", |mesh| mesh.all_heard("to all", entry))
        .await;
    assert!(mesh.most <= 6, "{} links", mesh.most);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_nodes_survive_the_death_of_a_third_and_of_their_entry() {
    let (mut mesh, entry) = mesh_of(30).await;
    assert!(mesh.most <= 6, "{} links", mesh.most);

    let others = mesh.nodes.keys().filter(|id| **id != entry).take(9);
    let victims: Vec<PeerId> = others.copied().chain([entry]).collect();
    let begun = Instant::now();
    mesh.stop(&victims).await;
    mesh.until("closed again", Mesh::is_settled).await;
    println!(
        "20 of 30 closed their mesh again in {:?}: {:?}",
        begun.elapsed(),
        mesh.degrees()
    );
    let speaker = *mesh.nodes.keys().next().expect("nodes are left");
    mesh.say(speaker, "still here").await;
    mesh.until("heard by all", |mesh| mesh.all_heard("still here", speaker))
        .await;
    assert!(mesh.most <= 6, "{} links", mesh.most);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_while_a_third_is_killed_without_a_word_comes_to_the_rest() {
    let mut mesh = Mesh::new();
    let entry = mesh.start_mortal(None).await;
    let mut victims = vec![entry.peer_id()];
    for n in 1..30 {
        let entry = Some(address_of(&entry));
        match n {
            1..10 => victims.push(mesh.start_mortal(entry).await.peer_id()),
            _ => drop(mesh.start(entry).await),
        }
    }
    mesh.until("one mesh of 2 to 5 links", Mesh::is_settled)
        .await;

    let alive = |mesh: &Mesh| mesh.links.keys().find(|id| !victims.contains(id)).copied();
    let speaker = alive(&mesh).expect("most of them live on");
    let begun = Instant::now();
    let mut sent = Vec::new();
    for n in 0..SAID_MEANWHILE {
        if let Some(victim) = victims.get(n) {
            mesh.kill(*victim);
        }
        let text = format!("meanwhile {n}");
        let said = mesh.nodes[&speaker]
            .broadcast("lobby", "chat", text.clone())
            .await;
        if said.is_ok() {
            sent.push(text);
        }
        mesh.catch_up();
    }
    mesh.until("closed again", Mesh::is_settled).await;
    let closed = begun.elapsed();
    let at_once = mesh.delivered(&sent, speaker);
    println!(
        "a third killed: {} of {SAID_MEANWHILE} were sent; the mesh closed in {closed:?}, by then {at_once:?}",
        sent.len()
    );
    mesh.until("all of it heard", |mesh| {
        mesh.delivered(&sent, speaker).lost == 0
    })
    .await;
    let took = begun.elapsed();
    println!("after {took:?}: {:?}", mesh.delivered(&sent, speaker));
    assert!(mesh.most <= 6, "{} links", mesh.most);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_fifty_nodes_at_once_is_linked() {
    let (mesh, _) = mesh_of(50).await;
    assert!(mesh.most <= 6, "{} links", mesh.most);
}
