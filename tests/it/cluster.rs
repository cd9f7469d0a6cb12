//! Helpers of the tests: nodes on loopback, their events, and waiting for expected ones.

use std::time::Duration;

use diatribe::{Address, Event, Events, Identity, Message, Node, NodeBuilder};
use libp2p::PeerId;

/// The time after which a test reports that an expected event has not happened. It is generous, because the machine may
/// be busy: a test that passes never waits for it.
pub(crate) const EVENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A node under test and its events.
pub(crate) struct Member {
    pub(crate) node: Node,
    pub(crate) events: Events,
}

/// How test nodes are built: on loopback, many behind one address, linked only as the test says.
pub(crate) fn builder() -> NodeBuilder {
    Node::builder()
        .identity(Identity::generate())
        .listen(["/ip4/127.0.0.1/tcp/0/ws".parse().expect("a multiaddr")])
        .exempt_loopback(true)
        .fixed_links(true)
}

/// Starts a node and begins to read its events.
pub(crate) async fn start(builder: NodeBuilder) -> Member {
    let node = builder.start().await.expect("the node starts");
    Member {
        events: node.events(),
        node,
    }
}

/// A node with nothing special.
pub(crate) async fn member() -> Member {
    start(builder()).await
}

impl Member {
    /// Where it can be dialled.
    pub(crate) fn address(&self) -> Address {
        self.node.addresses()[0]
            .clone()
            .try_into()
            .expect("a node's own address can be dialled")
    }

    pub(crate) fn id(&self) -> PeerId {
        self.node.peer_id()
    }

    /// Dials `other` and waits until both have the link.
    pub(crate) async fn link(&mut self, other: &mut Member) {
        self.node
            .connect(other.address())
            .await
            .expect("the link comes up");
        other.link_up(self.id()).await;
    }

    /// The next event that `wanted` picks; others are passed over.
    pub(crate) async fn next<T>(&mut self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let find = async {
            loop {
                let event = self.events.next().await.expect("the node runs");
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        };
        match tokio::time::timeout(EVENT_TIMEOUT, find).await {
            Ok(found) => found,
            Err(_) => panic!("no {what} came in {EVENT_TIMEOUT:?}"),
        }
    }

    pub(crate) async fn link_up(&mut self, peer: PeerId) {
        self.next("link_up", |event| match event {
            Event::LinkUp { peer_id, .. } if *peer_id == peer => Some(()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn link_down(&mut self, peer: PeerId) -> String {
        self.next("link_down", |event| match event {
            Event::LinkDown {
                peer_id, reason, ..
            } if *peer_id == peer => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn message(&mut self) -> Message {
        self.next("message", |event| match event {
            Event::Message(message) => Some(message.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn refused(&mut self) -> diatribe::StageError {
        self.next("refused", |event| match event {
            Event::Refused { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await
    }

    /// The texts of the next `n` messages.
    pub(crate) async fn texts(&mut self, n: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..n {
            let message = self.message().await;
            texts.push(String::from_utf8_lossy(&message.data).into_owned());
        }
        texts
    }

    pub(crate) async fn say(&self, text: &str) -> diatribe::BroadcastReceipt {
        self.node
            .broadcast_when_linked("lobby", "chat", text.to_owned())
            .await
            .expect("the event is sent")
    }
}
