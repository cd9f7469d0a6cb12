//! Backpressure: the bytes that are queued or announced on this node's links, so that a fast publisher waits for slow
//! links.
//!
//! Entry types: [`SendWindows`], which the event loop queries, and [`Metered`], the muxer layer of a connection
//! that reports to it. The rule it keeps: a publisher that is faster than its links waits for them, because gossipsub drops
//! messages that exceed its queues, whose length it does not reveal. A link without progress delays nobody:
//! anti-entropy (data checking) delivers the missed batches to it later.
//!
//! The queued bytes of a link are an estimate: the bytes handed to gossipsub for it, minus the bytes written to it
//! since. The estimate is exact whenever the connection's task polls the muxer with no stream waiting to write: then
//! gossipsub's queue is empty. Announced batches that a peer has not fetched are added; their size is exact.

mod metered;
mod window;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::Notify;

use self::metered::Metered;
use self::window::SendWindow;
use super::muxer_layer::LayeredMuxer;
use crate::sync::OwnPending;

/// The send windows of all links of a node. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct SendWindows(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    windows: Mutex<HashMap<PeerId, Vec<Weak<SendWindow>>>>,
    /// Number of own batches that are announced as soon as they are stored.
    pending_announcements: AtomicUsize,
    /// Notified when a window that was full has room again.
    writable: Arc<Notify>,
}

impl SendWindows {
    /// Wraps the muxer of a connection with `peer_id`, so that its traffic is counted.
    pub(crate) fn meter<M>(&self, peer_id: PeerId, muxer: M) -> LayeredMuxer<M, Metered> {
        let window = Arc::new(SendWindow::new(self.0.writable.clone()));
        let mut windows = self.windows();
        windows.retain(|_, of_peer| {
            of_peer.retain(|window| window.strong_count() > 0);
            !of_peer.is_empty()
        });
        windows
            .entry(peer_id)
            .or_default()
            .push(Arc::downgrade(&window));
        let layer = Metered::new(window);
        LayeredMuxer { muxer, layer }
    }

    /// Counts `bytes` as queued for each of `peers`: they were handed to gossipsub.
    pub(crate) fn add<'a>(&self, peers: impl Iterator<Item = &'a PeerId>, bytes: usize) {
        let windows = self.windows();
        for window in peers.filter_map(|peer_id| windows.get(peer_id)).flatten() {
            if let Some(window) = window.upgrade() {
                window.add(bytes as u64);
            }
        }
    }

    /// Sets the number of announced bytes that `peer_id` has not fetched. `own` concerns our own batches among
    /// them.
    pub(crate) fn set_announced(&self, peer_id: PeerId, bytes: usize, own: OwnPending) {
        let windows = self.windows();
        for window in windows.get(&peer_id).into_iter().flatten() {
            if let Some(window) = window.upgrade() {
                window.set_announced(bytes as u64, own);
            }
        }
    }

    /// Returns whether the window of a link to one of `peers` is full.
    pub(crate) fn is_full<'a>(&self, mut peers: impl Iterator<Item = &'a PeerId>) -> bool {
        let windows = self.windows();
        peers.any(|peer_id| {
            let mut of_peer = windows.get(peer_id).into_iter().flatten();
            of_peer.any(|window| window.upgrade().is_some_and(|window| window.is_full()))
        })
    }

    /// Announces that a batch of our own is on its way to the log and will be announced. It counts until the guard is
    /// dropped.
    pub(crate) fn begin_announcement(&self) -> AnnouncementGuard {
        self.0.pending_announcements.fetch_add(1, Ordering::Relaxed);
        AnnouncementGuard(self.0.clone())
    }

    /// Returns whether one of `peers` still has to fetch a batch of our own: a gossiped batch would overtake it, there
    /// and at every node behind.
    pub(crate) fn would_reorder<'a>(&self, mut peers: impl Iterator<Item = &'a PeerId>) -> bool {
        if self.0.pending_announcements.load(Ordering::Relaxed) > 0 {
            return true;
        }
        let windows = self.windows();
        peers.any(|peer_id| {
            let mut of_peer = windows.get(peer_id).into_iter().flatten();
            of_peer.any(|window| window.upgrade().is_some_and(|window| window.owes_own()))
        })
    }

    /// Returns whether `peer_id` has sent or accepted data within this time.
    pub(crate) fn is_in_use(&self, peer_id: &PeerId, within: Duration) -> bool {
        let windows = self.windows();
        let mut of_peer = windows.get(peer_id).into_iter().flatten();
        of_peer.any(|window| {
            window
                .upgrade()
                .is_some_and(|window| window.is_in_use(within))
        })
    }

    /// Returns whether a large read from `peer_id` succeeded within this time.
    pub(crate) fn is_receiving(&self, peer_id: &PeerId, within: Duration) -> bool {
        let windows = self.windows();
        let mut of_peer = windows.get(peer_id).into_iter().flatten();
        of_peer.any(|window| {
            window
                .upgrade()
                .is_some_and(|window| window.is_receiving(within))
        })
    }

    /// Resolves when a window that was full has room again.
    pub(crate) async fn writable(&self) {
        self.0.writable.notified().await;
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<PeerId, Vec<Weak<SendWindow>>>> {
        self.0
            .windows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch of our own that will be announced: while this guard lives, [`SendWindows::would_reorder`] is true.
#[derive(Debug)]
pub(crate) struct AnnouncementGuard(Arc<Shared>);

impl Drop for AnnouncementGuard {
    fn drop(&mut self) {
        self.0.pending_announcements.fetch_sub(1, Ordering::Relaxed);
        self.0.writable.notify_one();
    }
}

#[cfg(test)]
mod tests;
