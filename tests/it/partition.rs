//! A network cut in two: both halves go on, and end equal when the cut is healed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use diatribe::{Address, HistoryQuery};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::cluster::{EVENT_TIMEOUT, Member, member};

/// How long the halves are apart: CUT_SECONDS says otherwise.
const APART: u64 = 5;

/// All connections between the halves go through this.
struct Bridge {
    address: SocketAddr,
    whole: watch::Sender<bool>,
}

impl Bridge {
    async fn to(port: u16) -> Bridge {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (whole, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut state = state.clone();
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Bridge { address, whole }
    }
}

/// Where `member` can be dialled through a bridge.
async fn bridge_to(member: &Member) -> (Bridge, Address) {
    let socket = member.address().to_string();
    let parts: Vec<&str> = socket.split('/').collect();
    let bridge = Bridge::to(parts[4].parse().expect("a port")).await;
    let text = format!(
        "/ip4/127.0.0.1/tcp/{}/ws/p2p/{}",
        bridge.address.port(),
        member.id()
    );
    (bridge, text.parse().expect("an address"))
}

/// Five nodes in a ring.
async fn half() -> Vec<Member> {
    let mut members = Vec::new();
    for _ in 0..5 {
        members.push(member().await);
    }
    for n in 0..5 {
        let address = members[(n + 1) % 5].address();
        members[n].node.connect(address).await.expect("a link");
    }
    members
}

async fn kept(member: &Member) -> BTreeSet<String> {
    let mut history = member.node.history(HistoryQuery::default());
    let mut texts = BTreeSet::new();
    while let Some(message) = history.next().await {
        let message = message.expect("the log can be read");
        let text = String::from_utf8_lossy(&message.data).into_owned();
        assert!(texts.insert(text), "kept twice");
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_halves_that_were_cut_apart_end_equal_soon_after_they_are_linked_again() {
    let seconds = std::env::var("CUT_SECONDS").ok();
    let seconds = seconds.map_or(APART, |text| text.parse().expect("seconds"));
    let (mut left, mut right) = (half().await, half().await);
    let (bridge, address) = bridge_to(&right[0]).await;
    left[0]
        .node
        .connect(address.clone())
        .await
        .expect("a link through the bridge");
    left[1].say("before").await;
    assert_eq!(right[3].texts(1).await, ["before"]);

    bridge.whole.send_replace(false);
    left[0].link_down(right[0].id()).await;
    let mut all = BTreeSet::from(["before".to_owned()]);
    let cut = Instant::now();
    while cut.elapsed() < Duration::from_secs(seconds) {
        for member in left.iter().chain(&right) {
            let text = format!("event {}", all.len());
            member.say(&text).await;
            all.insert(text);
        }
        // The pace at which all speak.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(kept(&left[0]).await.len() < all.len(), "they were apart");

    bridge.whole.send_replace(true);
    let healed = Instant::now();
    left[0].node.connect(address).await.expect("a link again");
    for member in left.iter_mut().chain(&mut right) {
        // Each batch that anti-entropy brings is an event.
        while kept(member).await != all {
            assert!(
                healed.elapsed() < EVENT_TIMEOUT,
                "not equal after {EVENT_TIMEOUT:?}"
            );
            let missing = all.len() - kept(member).await.len();
            member.texts(missing).await;
        }
    }
    println!(
        "{} events, equal {:?} after healing",
        all.len(),
        healed.elapsed()
    );
}
