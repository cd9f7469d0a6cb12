//! Staggers the addresses of one peer within one swarm dial, as [`super::happy_eyeballs`] does for the addresses of a
//! name. The swarm alone would try eight at once.
//!
//! Entry functions: [`stagger_dials`] around the start of the dial, and [`take_slot`] in the transport, which the swarm
//! calls for each address separately. The rules they keep: a slot opens when the one before it has failed or has had
//! its head start, and a slot that is never taken delays no other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::happy_eyeballs::{ATTEMPT_DELAY, interleave_families};
use crate::wire::ip_of;

tokio::task_local! {
    /// The slots of the dial that is being started.
    static SLOTS: RefCell<HashMap<Multiaddr, DialSlot>>;
}

/// The start signal for one address of a dial.
#[derive(Debug)]
pub(super) struct DialSlot {
    /// Resolves when this slot opens. None for the first slot.
    go: Option<oneshot::Receiver<()>>,
    /// Dropped to open the next slot.
    next: oneshot::Sender<()>,
}

/// Starts a dial of these addresses of one peer, alternating between IPv6 and IPv4. `start` receives them in the order
/// of their slots, and must make the transport dial each.
pub(crate) fn stagger_dials<T>(
    addresses: Vec<Multiaddr>,
    start: impl FnOnce(Vec<Multiaddr>) -> T,
) -> T {
    let addresses = interleave_families(addresses, |address| {
        ip_of(address).is_some_and(|ip| ip.to_canonical().is_ipv6())
    });
    let mut slots = HashMap::new();
    let mut go = None;
    for address in &addresses {
        let (next, gone) = oneshot::channel();
        let slot = DialSlot { go, next };
        slots.insert(bare(address.clone()), slot);
        go = Some(gone);
    }
    SLOTS.sync_scope(RefCell::new(slots), || start(addresses))
}

/// Returns the slot of this address in the dial that is being started; none when the dial is not staggered.
pub(super) fn take_slot(address: &Multiaddr) -> Option<DialSlot> {
    let address = bare(address.clone());
    let taken = SLOTS.try_with(|slots| slots.borrow_mut().remove(&address));
    taken.ok().flatten()
}

impl DialSlot {
    /// Runs `attempt` when the slot has opened.
    pub(super) async fn run<T>(self, attempt: impl Future<Output = T>) -> T {
        if let Some(go) = self.go {
            // The result is always an error: the sender is dropped, never used.
            let _ = go.await;
        }
        let mut attempt = pin!(attempt);
        let next = self.next;
        match timeout(ATTEMPT_DELAY, attempt.as_mut()).await {
            Ok(done) => done,
            Err(_) => {
                drop(next);
                attempt.await
            }
        }
    }
}

/// Returns the address without the peer id, which the swarm appends.
fn bare(mut address: Multiaddr) -> Multiaddr {
    if let Some(Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    address
}

#[cfg(test)]
mod tests;
