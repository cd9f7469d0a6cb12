//! However two nodes get connected, once, twice, crossing, again, half-dead, or under one key, they end with one link
//! that works.

use std::sync::Arc;
use std::time::Duration;

use diatribe::handshake::Role;
use diatribe::{Address, ConnectError, Event, Identity, StageError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::cluster::{EVENT_TIMEOUT, Member, builder, member, start};
use crate::raw_peer::RawPeer;

/// Twenty messages each way, and one link at each end.
async fn works(a: &mut Member, b: &mut Member, round: &str) {
    let expected: Vec<String> = (0..20).map(|n| format!("{round} {n}")).collect();
    for text in &expected {
        tokio::join!(a.say(text), b.say(text));
    }
    assert_eq!(live(a, 20).await, expected);
    assert_eq!(live(b, 20).await, expected);
    assert_eq!(a.node.peers().await.len(), 1, "{round}");
    assert_eq!(b.node.peers().await.len(), 1, "{round}");
}

/// Returns the texts of the next `n` messages that were not fetched from a log.
async fn live(member: &mut Member, n: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < n {
        let message = member.message().await;
        if !message.backfill {
            texts.push(String::from_utf8_lossy(&message.data).into_owned());
        }
    }
    texts
}

/// Fails when either node loses the link within the next five seconds, in which connections that
/// are one too many are closed.
async fn stays(a: &mut Member, b: &mut Member, round: &str) {
    let lost = async {
        loop {
            let event = tokio::select! {
                event = a.events.next() => event,
                event = b.events.next() => event,
            };
            if let Some(Event::LinkDown { reason, .. }) = event {
                return reason;
            }
        }
    };
    if let Ok(reason) = tokio::time::timeout(Duration::from_secs(5), lost).await {
        panic!("{round}: the link was lost: {reason}");
    }
}

fn without_id(address: &Address) -> Address {
    address.multiaddr().clone().try_into().expect("an address")
}

#[tokio::test]
async fn dials_that_cross_end_with_one_link_that_stays() {
    for round in 0..3 {
        let (mut a, mut b) = (member().await, member().await);
        let (ours, theirs) = tokio::join!(a.node.connect(b.address()), b.node.connect(a.address()));
        ours.and(theirs).expect("the link comes up");
        works(&mut a, &mut b, &format!("at once {round}")).await;
        stays(&mut a, &mut b, "crossed").await;
        works(&mut a, &mut b, &format!("later {round}")).await;
    }
}

#[tokio::test]
async fn several_dials_from_one_side_end_with_one_link_that_stays() {
    for round in 0..3 {
        let (mut a, mut b) = (member().await, member().await);
        // One of them names the expected peer, the other does not.
        let (address, other) = (b.address(), without_id(&b.address()));
        let (first, second) = tokio::join!(a.node.connect(address), a.node.connect(other));
        first.and(second).expect("the link comes up");
        works(&mut a, &mut b, &format!("at once {round}")).await;
        stays(&mut a, &mut b, "twice").await;
        works(&mut a, &mut b, &format!("later {round}")).await;
    }
}

#[tokio::test]
async fn a_dial_to_a_linked_peer_is_answered_with_its_link_and_refuses_nobody() {
    let (mut a, mut b) = (member().await, member().await);
    a.link(&mut b).await;
    let again = a.node.connect(without_id(&b.address())).await;
    assert_eq!(again.expect("the link that stands").peer_id, b.id());
    stays(&mut a, &mut b, "again").await;
    let mut events = a.node.events();
    a.node
        .connect(without_id(&b.address()))
        .await
        .expect("the link that stands");
    let refused = async {
        while let Some(event) = events.next().await {
            if let Event::Refused { error, .. } = event {
                return error;
            }
        }
        unreachable!("the node runs")
    };
    let refused = tokio::time::timeout(Duration::from_secs(2), refused).await;
    assert!(refused.is_err(), "nothing was refused: {refused:?}");
}

#[tokio::test]
async fn ten_times_gone_and_back_the_link_works_each_time() {
    let mut a = member().await;
    let identity = Identity::generate();
    for round in 0..10 {
        let mut b = start(builder().identity(identity.clone())).await;
        if round % 2 == 0 {
            a.link(&mut b).await;
        } else {
            b.link(&mut a).await;
        }
        works(&mut a, &mut b, &format!("round {round}")).await;
        b.node.shutdown().await;
        a.link_down(b.id()).await;
        assert_eq!(a.node.peers().await, []);
    }
}

#[tokio::test]
async fn a_peer_that_hangs_up_during_the_handshake_is_named_to_whoever_dialled() {
    let a = member().await;
    let mut raw = RawPeer::new().await;
    let (_, dial) = raw.dialled_by(&a.node).await;
    raw.request().await.expect("the node begins");
    drop(raw);
    let error = stage(
        dial.await
            .expect("it answers")
            .expect_err("nobody is there"),
    );
    assert!(
        error.reason.contains("before the handshake was over"),
        "{error}"
    );
}

fn stage(error: ConnectError) -> StageError {
    match error {
        ConnectError::Stage(error) => error,
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn the_same_key_running_twice_is_named_at_both_ends_and_the_first_keeps_its_link() {
    let (mut a, identity) = (member().await, Identity::generate());
    let mut first = start(builder().identity(identity.clone())).await;
    first.link(&mut a).await;
    let second = start(builder().identity(identity)).await;
    let error = second
        .node
        .connect(a.address())
        .await
        .expect_err("the key runs twice");
    assert_eq!(stage(error).code, Some("DUPLICATE_IDENTITY"));
    assert_eq!(a.refused().await.code, Some("DUPLICATE_IDENTITY"));
    // The other way round: the second is dialled.
    let error = a.node.connect(without_id(&second.address())).await;
    if let Err(error) = error {
        assert_eq!(stage(error).code, Some("DUPLICATE_IDENTITY"));
    }
    works(&mut a, &mut first, "the first").await;
    assert_eq!(second.node.peers().await, []);
}

#[tokio::test]
async fn a_node_that_dials_itself_is_told_so() {
    let a = member().await;
    let error = a.node.connect(without_id(&a.address())).await;
    assert_eq!(stage(error.expect_err("it is itself")).code, Some("OWN_ID"));
}

#[tokio::test]
async fn a_peer_that_lost_its_power_is_replaced_when_it_comes_back() {
    let (mut a, identity) = (member().await, Identity::generate());
    let wire = Wire::to(&a.address()).await;
    let first = start(builder().identity(identity.clone())).await;
    first
        .node
        .connect(wire.address())
        .await
        .expect("the link comes up");
    a.link_up(first.id()).await;
    // Nothing arrives any more in either direction, and nothing is closed.
    wire.cut();
    let mut second = start(builder().identity(identity)).await;
    let came_back = async {
        loop {
            match second.node.connect(a.address()).await {
                Ok(link) => return link,
                Err(error) => assert_eq!(stage(error).code, Some("DUPLICATE_IDENTITY")),
            }
        }
    };
    let link = tokio::time::timeout(EVENT_TIMEOUT, came_back).await;
    assert_eq!(link.expect("it is let in").peer_id, a.id());
    works(&mut a, &mut second, "the second").await;
    drop(wire);
}

/// A TCP connection that can be cut without either end noticing.
struct Wire {
    address: Address,
    broken: Arc<Notify>,
    relay: tokio::task::JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

impl Wire {
    async fn to(target: &Address) -> Wire {
        let port = port_of(target);
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let own = listener.local_addr().expect("it is bound").port();
        let broken = Arc::new(Notify::new());
        let breaks = broken.clone();
        let relay = tokio::spawn(async move {
            let (mut near, _) = listener.accept().await.expect("somebody dials");
            let mut far = TcpStream::connect(("127.0.0.1", port))
                .await
                .expect("it listens");
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                () = breaks.notified() => {}
            }
            // Both sockets stay open.
            std::future::pending::<()>().await;
            drop((near, far));
        });
        let address = format!("127.0.0.1:{own}").parse().expect("an address");
        Wire {
            address,
            broken,
            relay,
        }
    }

    fn address(&self) -> Address {
        self.address.clone()
    }

    fn cut(&self) {
        self.broken.notify_one();
    }
}

/// The TCP port of an address.
pub(crate) fn port_of(address: &Address) -> u16 {
    let port = address.multiaddr().iter().find_map(|part| match part {
        libp2p::multiaddr::Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    port.expect("every address here has a port")
}

#[tokio::test]
async fn of_two_connections_that_the_peer_dialled_whichever_it_keeps_stays() {
    let mut a = member().await;
    let mut raw = RawPeer::new().await;
    let up = raw.dial(&a.address()).await;
    raw.pass(up, Role::Dialer).await;
    a.link_up(raw.id()).await;
    let mut twin = RawPeer::with(raw.identity.clone(), true).await;
    twin.instance_id = raw.instance_id;
    let second = twin.dial(&a.address()).await;
    twin.pass(second, Role::Dialer).await;
    // It keeps the older one; by itself, the node would have kept the newer.
    drop(twin);
    let closed = tokio::time::timeout(Duration::from_secs(6), raw.gone(up)).await;
    assert!(closed.is_err(), "the link was closed after {closed:?}");
    assert_eq!(a.node.peers().await.len(), 1);
}
