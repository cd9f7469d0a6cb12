//! Tests of the order and timing of connection attempts.

use std::cell::RefCell;
use std::future::pending;

use super::*;

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("a socket's address")
}

#[test]
fn families_take_turns_and_ipv6_is_first() {
    let given = ["1.0.0.1:1", "1.0.0.2:1", "[::1]:1", "1.0.0.3:1", "[::2]:1"];
    let ordered = interleave_families(given.map(socket).to_vec(), SocketAddr::is_ipv6);
    let expected = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "1.0.0.3:1"];
    assert_eq!(ordered, expected.map(socket));
    let many = vec![socket("[::1]:1"); 100];
    assert_eq!(
        interleave_families(many, SocketAddr::is_ipv6).len(),
        MAX_ADDRESSES
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_address_holds_up_the_next_for_its_head_start_alone() {
    let begun = Instant::now();
    let begun_at = RefCell::new(Vec::new());
    let addresses = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1"].map(socket);
    let won = race(addresses.to_vec(), |address| {
        begun_at.borrow_mut().push(begun.elapsed().as_millis());
        async move {
            match address {
                a if a == addresses[0] => pending().await,
                a if a == addresses[1] => Err("refused"),
                a if a == addresses[2] => pending().await,
                a => Ok(a),
            }
        }
    });
    assert_eq!(won.await, Ok(addresses[3]));
    // The second attempt failed at once, so the third did not wait.
    assert_eq!(*begun_at.borrow(), [0, 250, 250, 500]);
}

#[tokio::test(start_paused = true)]
async fn when_none_succeeds_each_says_why() {
    let addresses = ["[::1]:1", "1.0.0.1:1"].map(socket);
    let lost: Result<(), _> = race(
        addresses.to_vec(),
        |address| async move { Err(address.port()) },
    )
    .await;
    assert_eq!(lost, Err(vec![(addresses[0], 1), (addresses[1], 1)]));
    let none: Result<(), Vec<(SocketAddr, u16)>> = race(Vec::new(), |_| async { Err(0) }).await;
    assert_eq!(none, Err(vec![]));
}
