//! How much of what was published still waits for this node's own links.
//!
//! Entry types: [`Pressure`], which the loop asks, and [`Metered`], the muxer of a connection that
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
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::sync::Notify;

/// What may wait on a link before the publisher does: a full batch, so that the link does not run dry
/// while the next one is signed. With more the links of a publisher get further apart, and
/// neighbours pass on to each other what is under way to them already.
const HIGH: u64 = 256 * 1024;
/// What a peer may be offered and not have fetched before the publisher waits: while it fetches two of the
/// largest batches, there are as many for the others to begin with.
const HIGH_OFFERED: u64 = 4 << 20;
/// What a message counts for at least, so that no more than half of gossipsub's queue for a link is
/// filled, which is bounded by their number.
const LEAST: u64 = HIGH / 512;
/// A link on which nothing has moved for this long is not waited for.
const STALLED: Duration = Duration::from_secs(1);

/// What waits on the links of a node. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pressure(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    pipes: Mutex<HashMap<PeerId, Vec<Weak<Pipe>>>>,
    /// Batches of our own that are to be offered, once they are stored.
    handed: AtomicUsize,
    eased: Notify,
}

/// One connection.
#[derive(Debug)]
struct Pipe {
    /// Bytes.
    waiting: AtomicU64,
    /// Bytes that the peer was offered and has not fetched.
    offered: AtomicU64,
    /// Whether some of them are of our own batches.
    owes_own: AtomicBool,
    /// Streams that could not write all they wanted to.
    blocked: AtomicUsize,
    /// When something moved last, in milliseconds after `epoch`.
    moved_ms: AtomicU64,
    epoch: Instant,
    shared: Arc<Shared>,
}

impl Pressure {
    /// Begins to watch a connection with `peer_id`.
    pub(crate) fn watch<M>(&self, peer_id: PeerId, muxer: M) -> Metered<M> {
        let pipe = Arc::new(Pipe {
            waiting: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            owes_own: AtomicBool::new(false),
            blocked: AtomicUsize::new(0),
            moved_ms: AtomicU64::new(0),
            epoch: Instant::now(),
            shared: self.0.clone(),
        });
        let mut pipes = self.pipes();
        pipes.retain(|_, of_peer| {
            of_peer.retain(|pipe| pipe.strong_count() > 0);
            !of_peer.is_empty()
        });
        pipes
            .entry(peer_id)
            .or_default()
            .push(Arc::downgrade(&pipe));
        Metered { muxer, pipe }
    }

    /// So many bytes were handed to gossipsub for each of `peers`.
    pub(crate) fn add<'a>(&self, peers: impl Iterator<Item = &'a PeerId>, bytes: usize) {
        let pipes = self.pipes();
        for pipe in peers.filter_map(|peer_id| pipes.get(peer_id)).flatten() {
            if let Some(pipe) = pipe.upgrade() {
                pipe.add((bytes as u64).max(LEAST));
            }
        }
    }

    /// `peer_id` was offered so many bytes that it has not fetched, of our own batches among others.
    pub(crate) fn set_offered(&self, peer_id: PeerId, bytes: usize, of_own: bool) {
        let pipes = self.pipes();
        for pipe in pipes.get(&peer_id).into_iter().flatten() {
            if let Some(pipe) = pipe.upgrade() {
                pipe.set_offered(bytes as u64, of_own);
            }
        }
    }

    /// Whether a link to one of `peers` has enough to do.
    pub(crate) fn is_high<'a>(&self, mut peers: impl Iterator<Item = &'a PeerId>) -> bool {
        let pipes = self.pipes();
        peers.any(|peer_id| {
            let mut of_peer = pipes.get(peer_id).into_iter().flatten();
            of_peer.any(|pipe| pipe.upgrade().is_some_and(|pipe| pipe.is_high()))
        })
    }

    /// A batch of our own is on its way to the log, and is to be offered when it is there.
    pub(crate) fn hand_over(&self) -> Handed {
        self.0.handed.fetch_add(1, Ordering::Relaxed);
        Handed(self.0.clone())
    }

    /// Whether one of `peers` has still to fetch a batch of our own: what is gossiped now would be there
    /// before it, at them and at all that are further on.
    pub(crate) fn would_overtake<'a>(&self, mut peers: impl Iterator<Item = &'a PeerId>) -> bool {
        if self.0.handed.load(Ordering::Relaxed) > 0 {
            return true;
        }
        let pipes = self.pipes();
        peers.any(|peer_id| {
            let mut of_peer = pipes.get(peer_id).into_iter().flatten();
            of_peer.any(|pipe| pipe.upgrade().is_some_and(|pipe| pipe.owes_own()))
        })
    }

    /// Resolves when a link that had enough to do has room again.
    pub(crate) async fn eased(&self) {
        self.0.eased.notified().await;
    }

    fn pipes(&self) -> MutexGuard<'_, HashMap<PeerId, Vec<Weak<Pipe>>>> {
        self.0.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipe {
    fn add(&self, bytes: u64) {
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) == 0 {
            self.moved();
        }
    }

    /// Bytes have left; `u64::MAX` for all.
    fn left(&self, bytes: u64) {
        let less = |waiting: u64| Some(waiting.saturating_sub(bytes));
        let before = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .unwrap_or(0);
        // A ping that is answered brings no batch any further.
        let is_batch =
            (LEAST..u64::MAX).contains(&bytes) && self.offered.load(Ordering::Relaxed) > 0;
        if before > 0 || is_batch {
            self.moved();
        }
        if before > HIGH && before.saturating_sub(bytes) <= HIGH {
            self.shared.eased.notify_one();
        }
    }

    fn set_offered(&self, bytes: u64, of_own: bool) {
        let owed_own = self.owes_own.swap(of_own, Ordering::Relaxed);
        let before = self.offered.swap(bytes, Ordering::Relaxed);
        if bytes < before || before == 0 {
            self.moved();
        }
        if before > HIGH_OFFERED && bytes <= HIGH_OFFERED || owed_own && !of_own {
            self.shared.eased.notify_one();
        }
    }

    fn owes_own(&self) -> bool {
        self.owes_own.load(Ordering::Relaxed) && !self.is_stalled()
    }

    fn moved(&self) {
        self.moved_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn is_high(&self) -> bool {
        let has_enough = self.waiting.load(Ordering::Relaxed) > HIGH
            || self.offered.load(Ordering::Relaxed) > HIGH_OFFERED;
        has_enough && !self.is_stalled()
    }

    fn is_stalled(&self) -> bool {
        let moved_ms = self.moved_ms.load(Ordering::Relaxed);
        u128::from(self.now_ms().saturating_sub(moved_ms)) >= STALLED.as_millis()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A batch of our own that is to be offered: until this is dropped, its neighbours wait to hear of it.
#[derive(Debug)]
pub(crate) struct Handed(Arc<Shared>);

impl Drop for Handed {
    fn drop(&mut self) {
        self.0.handed.fetch_sub(1, Ordering::Relaxed);
        self.0.eased.notify_one();
    }
}

/// A muxer whose streams tell what they write.
pub(crate) struct Metered<M> {
    muxer: M,
    pipe: Arc<Pipe>,
}

impl<M: StreamMuxer + Unpin> Metered<M> {
    fn stream(&self, inner: M::Substream) -> MeteredStream<M::Substream> {
        MeteredStream {
            inner,
            pipe: self.pipe.clone(),
            blocked: false,
        }
    }
}

impl<M> StreamMuxer for Metered<M>
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
        if self.pipe.blocked.load(Ordering::Relaxed) == 0 {
            self.pipe.left(u64::MAX);
        }
        Pin::new(&mut self.muxer).poll(cx)
    }
}

/// A stream that tells what it writes.
pub(crate) struct MeteredStream<S> {
    inner: S,
    pipe: Arc<Pipe>,
    blocked: bool,
}

impl<S> MeteredStream<S> {
    fn see<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.set_blocked(result.is_pending());
        result
    }

    fn set_blocked(&mut self, blocked: bool) {
        match (self.blocked, blocked) {
            (false, true) => self.pipe.blocked.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.pipe.blocked.fetch_sub(1, Ordering::Relaxed),
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
        Pin::new(&mut self.inner).poll_read(cx, buf)
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
            self.pipe.left(*bytes as u64);
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
mod tests {
    use futures::AsyncWriteExt;

    use super::*;

    /// Takes so many bytes, then no more.
    struct Narrow(usize);

    impl AsyncRead for Narrow {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = buf.len().min(self.0);
            self.0 -= taken;
            if taken == 0 {
                Poll::Pending
            } else {
                Poll::Ready(Ok(taken))
            }
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A muxer whose streams take so many bytes.
    struct Muxer(usize);

    impl StreamMuxer for Muxer {
        type Substream = Narrow;
        type Error = io::Error;

        fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Narrow>> {
            Poll::Pending
        }

        fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Narrow>> {
            Poll::Ready(Ok(Narrow(self.0)))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }
    }

    const MORE: usize = 2 * HIGH as usize;

    fn link(room: usize) -> (Pressure, PeerId, Metered<Muxer>, Context<'static>) {
        let (pressure, peer_id) = (Pressure::default(), PeerId::random());
        let muxer = pressure.watch(peer_id, Muxer(room));
        (
            pressure,
            peer_id,
            muxer,
            Context::from_waker(std::task::Waker::noop()),
        )
    }

    #[test]
    fn a_link_has_enough_to_do_until_what_was_handed_to_it_is_written() {
        let (pressure, peer_id, mut muxer, mut cx) = link(MORE);
        let Poll::Ready(Ok(mut stream)) = Pin::new(&mut muxer).poll_outbound(&mut cx) else {
            panic!("there is a stream");
        };
        assert!(!pressure.is_high([peer_id].iter()));
        pressure.add([peer_id].iter(), MORE);
        assert!(pressure.is_high([peer_id].iter()));
        assert!(!pressure.is_high([PeerId::random()].iter()));
        let half = vec![0; MORE / 2];
        assert!(futures::FutureExt::now_or_never(stream.write_all(&half)).is_some());
        assert!(!pressure.is_high([peer_id].iter()));
        assert!(futures::FutureExt::now_or_never(pressure.eased()).is_some());
    }

    #[test]
    fn a_peer_that_has_not_fetched_what_it_was_offered_is_waited_for() {
        let (pressure, peer_id, ..) = link(0);
        // The connection is gone: it is forgotten.
        pressure.set_offered(peer_id, 100 << 20, true);
        assert!(!pressure.is_high([peer_id].iter()));

        let (pressure, peer_id, mut muxer, mut cx) = link(MORE);
        pressure.set_offered(peer_id, HIGH_OFFERED as usize, false);
        assert!(!pressure.is_high([peer_id].iter()));
        pressure.set_offered(peer_id, HIGH_OFFERED as usize + 1, false);
        assert!(pressure.is_high([peer_id].iter()));
        // Not for what is written meanwhile, be it all that there is to write.
        assert!(Pin::new(&mut muxer).poll(&mut cx).is_pending());
        assert!(pressure.is_high([peer_id].iter()));
        pressure.set_offered(peer_id, 0, false);
        assert!(!pressure.is_high([peer_id].iter()));
        assert!(futures::FutureExt::now_or_never(pressure.eased()).is_some());
    }

    #[test]
    fn gossip_does_not_overtake_what_is_offered_of_our_own() {
        let (pressure, peer_id, _muxer, _) = link(MORE);
        let would = |pressure: &Pressure| pressure.would_overtake([peer_id].iter());
        let handed = pressure.hand_over();
        assert!(would(&pressure), "it is being stored");
        pressure.set_offered(peer_id, 1, true);
        drop(handed);
        assert!(would(&pressure), "it is offered");
        pressure.set_offered(peer_id, 1, false);
        assert!(
            !would(&pressure),
            "it is fetched; others' is not waited for"
        );
        assert!(futures::FutureExt::now_or_never(pressure.eased()).is_some());
    }

    #[test]
    fn nothing_waits_on_a_link_whose_streams_have_nothing_to_write() {
        let (pressure, peer_id, mut muxer, mut cx) = link(MORE);
        // Counted for the link, but not sent on it: the peer did not want it.
        pressure.add([peer_id].iter(), MORE);
        assert!(Pin::new(&mut muxer).poll(&mut cx).is_pending());
        assert!(!pressure.is_high([peer_id].iter()));
    }

    #[test]
    fn what_a_blocked_stream_could_not_write_still_waits() {
        let (pressure, peer_id, mut muxer, mut cx) = link(1000);
        let Poll::Ready(Ok(mut stream)) = Pin::new(&mut muxer).poll_outbound(&mut cx) else {
            panic!("there is a stream");
        };
        pressure.add([peer_id].iter(), MORE);
        let all = vec![0; MORE];
        assert!(futures::FutureExt::now_or_never(stream.write_all(&all)).is_none());
        assert!(Pin::new(&mut muxer).poll(&mut cx).is_pending());
        assert!(pressure.is_high([peer_id].iter()));
        // The stream is given up, and nothing of it waits any more.
        drop(stream);
        assert!(Pin::new(&mut muxer).poll(&mut cx).is_pending());
        assert!(!pressure.is_high([peer_id].iter()));
    }
}
