//! Tests of staggered dials.

use std::future::pending;
use std::sync::{Arc, Mutex};

use futures::future::join_all;
use libp2p::PeerId;
use tokio::time::Instant;

use super::*;

fn address(text: &str) -> Multiaddr {
    text.parse().expect("a multiaddr")
}

#[tokio::test(start_paused = true)]
async fn the_addresses_of_a_peer_are_tried_in_turn_and_not_at_once() {
    let given = [
        "/ip4/1.0.0.1/tcp/1/ws",
        "/ip4/1.0.0.2/tcp/1/ws",
        "/ip6/2001:db8::1/tcp/1/ws",
    ]
    .map(address);
    let begun = Instant::now();
    let tried = Arc::new(Mutex::new(Vec::new()));
    let id = PeerId::random();
    let attempts = stagger_dials(given.to_vec(), |addresses| {
        let attempt = |address: Multiaddr| {
            let slot = take_slot(&address.clone().with(Protocol::P2p(id))).expect("a slot");
            let tried = tried.clone();
            slot.run(async move {
                let at = begun.elapsed().as_millis();
                tried.lock().expect("no panic").push((address.clone(), at));
                match address.to_string().contains("1.0.0.1") {
                    true => {}
                    false => pending().await,
                }
            })
        };
        addresses.into_iter().map(attempt).collect::<Vec<_>>()
    });
    assert!(
        timeout(ATTEMPT_DELAY * 10, join_all(attempts))
            .await
            .is_err()
    );
    let [first, second, third] = [&given[2], &given[0], &given[1]].map(Multiaddr::clone);
    // The second attempt failed at once, so the third did not wait.
    let expected = [(first, 0), (second, 250), (third, 250)];
    assert_eq!(*tried.lock().expect("no panic"), expected);
    assert!(
        take_slot(&given[0]).is_none(),
        "only while a dial is started"
    );
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_nobody_takes_holds_up_nobody() {
    let given = ["/ip4/1.0.0.1/tcp/1/ws", "/ip4/1.0.0.2/tcp/1/ws"].map(address);
    let begun = Instant::now();
    // The swarm skips the first address, because this node listens there.
    let second = stagger_dials(given.to_vec(), |addresses| take_slot(&addresses[1]));
    let tried = second.expect("a slot").run(async { begun.elapsed() });
    assert_eq!(tried.await.as_millis(), 0);
}
