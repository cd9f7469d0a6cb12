//! Backpressure: the bytes that are queued or announced on this node's links, so that a fast publisher waits for slow
//! links.
//!
//! Entry types: [`SendWindows`], which the event loop queries, and [`MeteredMuxer`], the muxer of a connection that
//! reports to it. The rule it keeps: a publisher that is faster than its links waits for them, because gossipsub drops
//! messages that exceed its queues, whose length it does not reveal. A link without progress delays nobody:
//! anti-entropy (data checking) delivers the missed batches to it later.
//!
//! The queued bytes of a link are an estimate: the bytes handed to gossipsub for it, minus the bytes written to it
//! since. The estimate is exact whenever the connection's task polls the muxer with no stream waiting to write: then
//! gossipsub's queue is empty. Batches that a peer was offered and has not fetched are added; their size is exact.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::sync::Notify;

use crate::sync::Owed;

/// Maximum number of bytes queued on a link before the publisher waits: a full batch, so that the link does not run dry
/// while the next one is signed. A larger window lets the links of a publisher drift apart, and neighbours then forward
/// batches to each other that are in flight already.
const MAX_QUEUED: u64 = 256 * 1024;
/// Maximum number of bytes that a peer was offered and has not fetched before the publisher waits: while it fetches two
/// of the largest batches, others can fetch as many.
const MAX_OFFERED: u64 = 6 << 20;
/// Minimum number of bytes that a message counts for, so that at most half of gossipsub's queue for a link is used:
/// that queue is bounded by the number of messages.
const MIN_COUNTED: u64 = MAX_QUEUED / 512;
/// Minimum number of bytes of a large read: pings and most of gossip are smaller.
const LARGE_READ: usize = 4096;
/// A link without progress for this long is not waited for.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// The send windows of all links of a node. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct SendWindows(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    windows: Mutex<HashMap<PeerId, Vec<Weak<SendWindow>>>>,
    /// Number of own batches that are announced as soon as they are stored.
    pending_offers: AtomicUsize,
    writable: Notify,
}

/// The send window of one connection. Times are in milliseconds after `epoch`.
#[derive(Debug)]
struct SendWindow {
    /// Bytes queued and not written yet; an estimate.
    queued: AtomicU64,
    /// Bytes that the peer was offered and has not fetched.
    offered: AtomicU64,
    /// Whether the peer still has to fetch a batch of our own, and the time until which that counts for [`Owed::For`].
    owed: Mutex<(Owed, u64)>,
    /// Number of streams with a blocked write.
    blocked: AtomicUsize,
    /// Time of the last progress on queued or offered data.
    progress_ms: AtomicU64,
    /// Time of the last read of a stream, or of the last write to one that had to wait; 0 before the first.
    activity_ms: AtomicU64,
    /// Time of the last large read of a stream; 0 before the first.
    large_read_ms: AtomicU64,
    epoch: Instant,
    shared: Arc<Shared>,
}

impl SendWindows {
    /// Wraps the muxer of a connection with `peer_id`, so that its traffic is counted.
    pub(crate) fn meter<M>(&self, peer_id: PeerId, muxer: M) -> MeteredMuxer<M> {
        let window = Arc::new(SendWindow {
            queued: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            owed: Mutex::new((Owed::Nothing, 0)),
            blocked: AtomicUsize::new(0),
            progress_ms: AtomicU64::new(0),
            activity_ms: AtomicU64::new(0),
            large_read_ms: AtomicU64::new(0),
            epoch: Instant::now(),
            shared: self.0.clone(),
        });
        let mut windows = self.windows();
        windows.retain(|_, of_peer| {
            of_peer.retain(|window| window.strong_count() > 0);
            !of_peer.is_empty()
        });
        windows
            .entry(peer_id)
            .or_default()
            .push(Arc::downgrade(&window));
        MeteredMuxer { muxer, window }
    }

    /// Counts `bytes` as queued for each of `peers`: they were handed to gossipsub.
    pub(crate) fn add<'a>(&self, peers: impl Iterator<Item = &'a PeerId>, bytes: usize) {
        let windows = self.windows();
        for window in peers.filter_map(|peer_id| windows.get(peer_id)).flatten() {
            if let Some(window) = window.upgrade() {
                window.add((bytes as u64).max(MIN_COUNTED));
            }
        }
    }

    /// Sets the number of bytes that `peer_id` was offered and has not fetched. `own` concerns our own batches among
    /// them.
    pub(crate) fn set_offered(&self, peer_id: PeerId, bytes: usize, own: Owed) {
        let windows = self.windows();
        for window in windows.get(&peer_id).into_iter().flatten() {
            if let Some(window) = window.upgrade() {
                window.set_offered(bytes as u64, own);
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

    /// Announces that a batch of our own is on its way to the log and will be offered. It counts until the guard is
    /// dropped.
    pub(crate) fn begin_offer(&self) -> OfferGuard {
        self.0.pending_offers.fetch_add(1, Ordering::Relaxed);
        OfferGuard(self.0.clone())
    }

    /// Returns whether one of `peers` still has to fetch a batch of our own: a gossiped batch would overtake it, there
    /// and at every node behind.
    pub(crate) fn would_reorder<'a>(&self, mut peers: impl Iterator<Item = &'a PeerId>) -> bool {
        if self.0.pending_offers.load(Ordering::Relaxed) > 0 {
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

impl SendWindow {
    fn add(&self, bytes: u64) {
        if self.queued.fetch_add(bytes, Ordering::Relaxed) == 0 {
            self.moved();
        }
    }

    /// Subtracts bytes that were written; `u64::MAX` for all.
    fn left(&self, bytes: u64) {
        let less = |queued: u64| Some(queued.saturating_sub(bytes));
        let before = self
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .unwrap_or(0);
        // The answer to a ping is no progress of a batch.
        let is_batch =
            (MIN_COUNTED..u64::MAX).contains(&bytes) && self.offered.load(Ordering::Relaxed) > 0;
        if before > 0 || is_batch {
            self.moved();
        }
        if before > MAX_QUEUED && before.saturating_sub(bytes) <= MAX_QUEUED {
            self.shared.writable.notify_one();
        }
    }

    fn set_offered(&self, bytes: u64, own: Owed) {
        let until_ms = match own {
            Owed::For(time) => millis(self.epoch.elapsed() + time),
            Owed::Offered | Owed::Nothing => 0,
        };
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let (owed_before, _) = std::mem::replace(&mut *owed, (own, until_ms));
        drop(owed);
        let before = self.offered.swap(bytes, Ordering::Relaxed);
        if bytes < before || before == 0 {
            self.moved();
        }
        let has_own = owed_before != Owed::Nothing && own == Owed::Nothing;
        if before > MAX_OFFERED && bytes <= MAX_OFFERED || has_own {
            self.shared.writable.notify_one();
        }
    }

    fn owes_own(&self) -> bool {
        let (owed, until_ms) = *self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        match owed {
            Owed::Nothing => false,
            Owed::Offered => !self.is_stalled(),
            Owed::For(_) => self.now_ms() < until_ms,
        }
    }

    fn moved(&self) {
        self.progress_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn has_brought(&self) {
        self.large_read_ms
            .store(self.now_ms().max(1), Ordering::Relaxed);
    }

    fn is_used(&self) {
        self.activity_ms
            .store(self.now_ms().max(1), Ordering::Relaxed);
    }

    fn is_in_use(&self, within: Duration) -> bool {
        self.is_since(&self.activity_ms, within)
    }

    fn is_receiving(&self, within: Duration) -> bool {
        self.is_since(&self.large_read_ms, within)
    }

    fn is_since(&self, at_ms: &AtomicU64, within: Duration) -> bool {
        let at_ms = at_ms.load(Ordering::Relaxed);
        at_ms > 0 && self.now_ms().saturating_sub(at_ms) < millis(within)
    }

    fn is_full(&self) -> bool {
        let has_enough = self.queued.load(Ordering::Relaxed) > MAX_QUEUED
            || self.offered.load(Ordering::Relaxed) > MAX_OFFERED;
        has_enough && !self.is_stalled()
    }

    fn is_stalled(&self) -> bool {
        let progress_ms = self.progress_ms.load(Ordering::Relaxed);
        u128::from(self.now_ms().saturating_sub(progress_ms)) >= STALL_TIMEOUT.as_millis()
    }

    fn now_ms(&self) -> u64 {
        millis(self.epoch.elapsed())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A batch of our own that will be offered: while this guard lives, [`SendWindows::would_reorder`] is true.
#[derive(Debug)]
pub(crate) struct OfferGuard(Arc<Shared>);

impl Drop for OfferGuard {
    fn drop(&mut self) {
        self.0.pending_offers.fetch_sub(1, Ordering::Relaxed);
        self.0.writable.notify_one();
    }
}

/// A muxer whose streams report their reads and writes.
pub(crate) struct MeteredMuxer<M> {
    muxer: M,
    window: Arc<SendWindow>,
}

impl<M: StreamMuxer + Unpin> MeteredMuxer<M> {
    fn stream(&self, inner: M::Substream) -> MeteredStream<M::Substream> {
        MeteredStream {
            inner,
            window: self.window.clone(),
            blocked: false,
        }
    }
}

impl<M> StreamMuxer for MeteredMuxer<M>
where
    M: StreamMuxer + Unpin,
    M::Substream: Unpin,
{
    type Substream = MeteredStream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = Pin::new(&mut self.muxer).poll_inbound(cx);
        stream.map_ok(|stream| self.stream(stream))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = Pin::new(&mut self.muxer).poll_outbound(cx);
        stream.map_ok(|stream| self.stream(stream))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.muxer).poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        // The swarm polls the muxer after the handlers have written all they could.
        if self.window.blocked.load(Ordering::Relaxed) == 0 {
            self.window.left(u64::MAX);
        }
        Pin::new(&mut self.muxer).poll(cx)
    }
}

/// A stream that reports its reads and writes.
pub(crate) struct MeteredStream<S> {
    inner: S,
    window: Arc<SendWindow>,
    blocked: bool,
}

impl<S> MeteredStream<S> {
    fn see<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.set_blocked(result.is_pending());
        result
    }

    fn set_blocked(&mut self, blocked: bool) {
        match (self.blocked, blocked) {
            (false, true) => self.window.blocked.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.window.blocked.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
        self.blocked = blocked;
    }
}

impl<S> Drop for MeteredStream<S> {
    fn drop(&mut self) {
        self.set_blocked(false);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MeteredStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(bytes @ 1..)) = &read {
            self.window.is_used();
            if *bytes >= LARGE_READ {
                self.window.has_brought();
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MeteredStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.window.left(*bytes as u64);
            // A write without waiting says nothing about the peer: it succeeds even if the peer is gone.
            if self.blocked {
                self.window.is_used();
            }
        }
        self.see(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.see(flushed)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.inner).poll_close(cx);
        self.see(closed)
    }
}

#[cfg(test)]
mod tests;
