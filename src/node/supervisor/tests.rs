//! Tests of failing tasks.

use crate::Node;
use crate::node::Event;

async fn node() -> Node {
    Node::builder()
        .listen(["/ip4/127.0.0.1/tcp/0/ws".parse().expect("an address")])
        .exempt_loopback(true)
        .start()
        .await
        .expect("a node that starts")
}

#[tokio::test]
async fn a_task_that_panics_ends_the_node_its_links_and_its_events() {
    let (failing, other) = (node().await, node().await);
    let (mut events, mut others) = (failing.events(), other.events());
    let address = failing.addresses()[0].to_string();
    other
        .connect(address.parse().expect("an address"))
        .await
        .expect("a link");

    let supervisor = failing.shared.supervisor.clone();
    supervisor.spawn("test", async { panic!("on purpose") });

    let mut reasons = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Error { reason } = event {
            reasons.push(reason);
        }
    }
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(
        reasons[0].contains("`test` failed: on purpose"),
        "{reasons:?}"
    );
    let failure = failing.failure().expect("a failure");
    assert_eq!((failure.task, &*failure.message), ("test", "on purpose"));
    loop {
        match others.next().await.expect("a node that goes on") {
            Event::LinkDown {
                peer_id, reason, ..
            } => {
                assert_eq!(peer_id, failing.peer_id());
                assert!(reason.starts_with("leaving"), "{reason}");
                break;
            }
            _ => continue,
        }
    }
    assert!(failing.broadcast("lobby", "chat", "x").await.is_err());
}

#[tokio::test]
async fn a_node_that_is_stopped_has_not_failed() {
    let node = node().await;
    node.shutdown().await;
    assert_eq!(node.failure(), None);
}
