//! How much of what was published still waits for this node's own links.
//!
//! Entry types: [`SendWindows`], which the loop asks, and [`MeteredMuxer`], the muxer of a connection that
//! tells it. The rule it keeps: a publisher that is quicker than its links waits for them, because
//! gossipsub, whose queues cannot be asked, drops what they do not hold. A link on which nothing
//! moves any more holds up nobody: data checking brings it what it missed.
//!
//! What waits on a link is an estimate: what was handed to gossipsub for it, less what was written
//! to it since. It is exact whenever the connection's task comes to the muxer with no stream
//! waiting to write: then gossipsub's queue is empty. What a peer was offered and has not fetched comes
//! to that; it is known exactly.

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

/// What may wait on a link before the publisher does: a full batch, so that the link does not run dry
/// while the next one is signed. With more the links of a publisher get further apart, and
/// neighbours pass on to each other what is under way to them already.
const MAX_QUEUED: u64 = 256 * 1024;
/// What a peer may be offered and not have fetched before the publisher waits: while it fetches two of the
/// largest batches, there are as many for the others to begin with.
const MAX_OFFERED: u64 = 6 << 20;
/// What a message counts for at least, so that no more than half of gossipsub's queue for a link is
/// filled, which is bounded by their number.
const MIN_COUNTED: u64 = MAX_QUEUED / 512;
/// A read of so many bytes is of something large; pings and most of gossip are smaller.
const LARGE_READ: usize = 4096;
/// A link on which nothing has moved for this long is not waited for.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// What waits on the links of a node. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SendWindows(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    windows: Mutex<HashMap<PeerId, Vec<Weak<SendWindow>>>>,
    /// Batches of our own that are to be offered, once they are stored.
    pending_offers: AtomicUsize,
    writable: Notify,
}

/// One connection.
#[derive(Debug)]
struct SendWindow {
    /// Bytes.
    queued: AtomicU64,
    /// Bytes that the peer was offered and has not fetched.
    offered: AtomicU64,
    /// Whether a batch of our own that is among them is waited for, and if that is so until a certain time,
    /// until when, in milliseconds after `epoch`.
    owed: Mutex<(Owed, u64)>,
    /// Streams that could not write all they wanted to.
    blocked: AtomicUsize,
    /// When something moved last that waits or was offered, in milliseconds after `epoch`.
    progress_ms: AtomicU64,
    /// When something was last read of a stream, or written to one that had to wait, in the same; 0
    /// before that.
    activity_ms: AtomicU64,
    /// When something large was last read of a stream, in the same.
    large_read_ms: AtomicU64,
    epoch: Instant,
    shared: Arc<Shared>,
}

impl SendWindows {
    /// Begins to watch a connection with `peer_id`.
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

    /// So many bytes were handed to gossipsub for each of `peers`.
    pub(crate) fn add<'a>(&self, peers: impl Iterator<Item = &'a PeerId>, bytes: usize) {
        let windows = self.windows();
        for window in peers.filter_map(|peer_id| windows.get(peer_id)).flatten() {
            if let Some(window) = window.upgrade() {
                window.add((bytes as u64).max(MIN_COUNTED));
            }
        }
    }

    /// `peer_id` was offered so many bytes that it does not have yet, of our own batches among others.
    pub(crate) fn set_offered(&self, peer_id: PeerId, bytes: usize, own: Owed) {
        let windows = self.windows();
        for window in windows.get(&peer_id).into_iter().flatten() {
            if let Some(window) = window.upgrade() {
                window.set_offered(bytes as u64, own);
            }
        }
    }

    /// Whether a link to one of `peers` has enough to do.
    pub(crate) fn is_full<'a>(&self, mut peers: impl Iterator<Item = &'a PeerId>) -> bool {
        let windows = self.windows();
        peers.any(|peer_id| {
            let mut of_peer = windows.get(peer_id).into_iter().flatten();
            of_peer.any(|window| window.upgrade().is_some_and(|window| window.is_full()))
        })
    }

    /// A batch of our own is on its way to the log, and is to be offered when it is there.
    pub(crate) fn begin_offer(&self) -> OfferGuard {
        self.0.pending_offers.fetch_add(1, Ordering::Relaxed);
        OfferGuard(self.0.clone())
    }

    /// Whether one of `peers` has still to fetch a batch of our own: what is gossiped now would be there
    /// before it, at them and at all that are further on.
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

    /// Whether `peer_id` has sent or taken something within this time.
    pub(crate) fn is_in_use(&self, peer_id: &PeerId, within: Duration) -> bool {
        let windows = self.windows();
        let mut of_peer = windows.get(peer_id).into_iter().flatten();
        of_peer.any(|window| {
            window
                .upgrade()
                .is_some_and(|window| window.is_in_use(within))
        })
    }

    /// Whether `peer_id` has sent something large within this time, or a piece of it.
    pub(crate) fn is_receiving(&self, peer_id: &PeerId, within: Duration) -> bool {
        let windows = self.windows();
        let mut of_peer = windows.get(peer_id).into_iter().flatten();
        of_peer.any(|window| {
            window
                .upgrade()
                .is_some_and(|window| window.is_receiving(within))
        })
    }

    /// Resolves when a link that had enough to do has room again.
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

    /// Bytes have left; `u64::MAX` for all.
    fn left(&self, bytes: u64) {
        let less = |queued: u64| Some(queued.saturating_sub(bytes));
        let before = self
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .unwrap_or(0);
        // A ping that is answered brings no batch any further.
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

/// A batch of our own that is to be offered: until this is dropped, its neighbours wait to hear of it.
#[derive(Debug)]
pub(crate) struct OfferGuard(Arc<Shared>);

impl Drop for OfferGuard {
    fn drop(&mut self) {
        self.0.pending_offers.fetch_sub(1, Ordering::Relaxed);
        self.0.writable.notify_one();
    }
}

/// A muxer whose streams tell what they write.
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
        // The swarm comes here when the handlers have written what they could.
        if self.window.blocked.load(Ordering::Relaxed) == 0 {
            self.window.left(u64::MAX);
        }
        Pin::new(&mut self.muxer).poll(cx)
    }
}

/// A stream that tells what it writes.
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
            // What is written at once is written to a peer that is gone, too.
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
