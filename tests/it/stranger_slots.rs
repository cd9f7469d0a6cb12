//! Strangers that take all slots before the gate and say nothing keep nobody out.

use diatribe::Identity;
use futures::future::join_all;
use tokio::io::AsyncReadExt;

use crate::cluster::{EVENT_TIMEOUT, builder, member, start};
use crate::raw_peer::RawPeer;
use crate::stranger_bytes::tcp_from;

/// Places for half-open connections, and how many of them one address has.
const HALF_OPEN: usize = 256;
const PER_ADDRESS: usize = 8;
/// Places for connections that wait for their handshake.
const UNVERIFIED: usize = 64;
/// Number of honest nodes that connect while the slots are taken: as many as may begin handshakes at once from one
/// address.
const HONEST: usize = 4;

#[tokio::test]
async fn silent_sockets_of_many_addresses_of_one_network_keep_nobody_out() {
    let victim = start(builder().exempt_loopback(false)).await;
    let address = victim.address();
    let from = |n: usize| [127, 1, 0, 1 + (n / PER_ADDRESS) as u8];
    let sockets = (0..HALF_OPEN + PER_ADDRESS).map(|n| tcp_from(from(n), &address));
    let mut silent = join_all(sockets).await;
    for _ in 0..HONEST {
        let honest = member().await;
        let link = honest.node.connect(victim.address()).await;
        link.expect("there is a place for whoever says something");
    }
    // The first of them were evicted; the rest of the crowd is closed by its timeout.
    let mut byte = [0];
    for socket in &mut silent {
        let end = tokio::time::timeout(EVENT_TIMEOUT, socket.read(&mut byte)).await;
        assert!(matches!(end.expect("it is closed"), Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn connections_that_shake_no_hand_keep_nobody_out() {
    let victim = start(builder().exempt_loopback(false).per_address_limit(1000)).await;
    let mut strangers = Vec::new();
    for _ in 0..UNVERIFIED {
        let mut raw = RawPeer::with(Identity::generate(), false).await;
        let up = raw.dial(&victim.address()).await;
        strangers.push((raw, up));
    }
    let honest = member().await;
    let link = honest.node.connect(victim.address()).await;
    link.expect("the oldest of the strangers gives way");
    // That is the first of them; on a machine that is not busy, long before its 3 s are over.
    let (first, up) = &mut strangers[0];
    first.gone(*up).await;
}
