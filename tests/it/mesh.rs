//! The overlay on real sockets: everyone ends with two to five links in one mesh, nobody ever has
//! more than six, and the mesh closes again when nodes die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use diatribe::{Address, Event, Identity, Message, Node};
use libp2p::PeerId;
use tokio::sync::mpsc;

use crate::cluster::builder;

/// How long a mesh may take to settle before a test says that it did not.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes with their overlay, watched through their events alone.
struct Mesh {
    nodes: BTreeMap<PeerId, Node>,
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
        let node = builder()
            .identity(Identity::generate())
            .fixed_links(false)
            .dial(entry)
            .start()
            .await
            .expect("the node starts");
        let (id, mut events, teller) = (node.peer_id(), node.events(), self.teller.clone());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if teller.send((id, event)).is_err() {
                    return;
                }
            }
        });
        self.nodes.insert(id, node.clone());
        self.links.insert(id, BTreeSet::new());
        node
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
            Event::Missed { events } => panic!("the test missed {events} events"),
            _ => {}
        }
    }

    /// Reads events until `done`; how long that took.
    async fn until(&mut self, what: &str, done: impl Fn(&Mesh) -> bool) -> Duration {
        let begun = Instant::now();
        while !done(self) {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            match tokio::time::timeout(left, self.events.recv()).await {
                Ok(Some((id, event))) => self.take(id, event),
                _ => panic!("not {what} in {PATIENCE:?}: {:?}", self.degrees()),
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

    /// Stops a node without a word of leave.
    async fn kill(&mut self, id: PeerId) {
        self.links.remove(&id);
        if let Some(node) = self.nodes.remove(&id) {
            node.shutdown().await;
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

    mesh.kill(entry).await;
    let victims: Vec<PeerId> = mesh.nodes.keys().take(9).copied().collect();
    for id in victims {
        mesh.kill(id).await;
    }
    let took = mesh.until("closed again", Mesh::is_settled).await;
    println!(
        "20 of 30 closed their mesh again in {took:?}: {:?}",
        mesh.degrees()
    );
    let speaker = *mesh.nodes.keys().next().expect("nodes are left");
    mesh.say(speaker, "still here").await;
    mesh.until("heard by all", |mesh| mesh.all_heard("still here", speaker))
        .await;
    assert!(mesh.most <= 6, "{} links", mesh.most);
}
