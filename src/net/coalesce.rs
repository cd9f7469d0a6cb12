//! Coalesces yamux flushes: one flush per poll of the connection instead of one per frame.
//!
//! Entry type: [`CoalescedFlushes`], the upgrade of a connection to yamux. The rule it keeps: no data waits for later
//! data; only frames that are ready in the same poll share a flush.
//!
//! yamux flushes after each of its frames, and a mebibyte on a stream is 64 frames. Each flush ends a noise message, a
//! websocket frame and a system call, and wakes the other side: on small exchanges that is most of their cost.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};

use super::muxer_layer::{LayeredMuxer, MuxerLayer};

/// An upgrade to a muxer over a connection whose flushes are coalesced.
#[derive(Clone, Debug)]
pub(super) struct CoalescedFlushes<U>(pub(super) U);

impl<U: UpgradeInfo> UpgradeInfo for CoalescedFlushes<U> {
    type Info = U::Info;
    type InfoIter = U::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C, U> InboundConnectionUpgrade<C> for CoalescedFlushes<U>
where
    U: InboundConnectionUpgrade<BufferedFlush<C>>,
    U::Future: Send + 'static,
{
    type Output = LayeredMuxer<U::Output, FlushOncePerPoll>;
    type Error = U::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        let (socket, gate) = BufferedFlush::new(socket);
        let upgrade = self.0.upgrade_inbound(socket, info);
        upgrade.map(|muxer| Ok(layered(muxer?, gate))).boxed()
    }
}

impl<C, U> OutboundConnectionUpgrade<C> for CoalescedFlushes<U>
where
    U: OutboundConnectionUpgrade<BufferedFlush<C>>,
    U::Future: Send + 'static,
{
    type Output = LayeredMuxer<U::Output, FlushOncePerPoll>;
    type Error = U::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        let (socket, gate) = BufferedFlush::new(socket);
        let upgrade = self.0.upgrade_outbound(socket, info);
        upgrade.map(|muxer| Ok(layered(muxer?, gate))).boxed()
    }
}

fn layered<M>(muxer: M, gate: Arc<FlushGate>) -> LayeredMuxer<M, FlushOncePerPoll> {
    let layer = FlushOncePerPoll(gate);
    LayeredMuxer { muxer, layer }
}

/// The state shared by a muxer and the connection below it.
#[derive(Debug, Default)]
struct FlushGate {
    /// Whether flushes are deferred now.
    is_deferring: AtomicBool,
    /// Whether a flush was deferred.
    has_deferred: AtomicBool,
}

/// A connection whose flushes can be deferred.
#[derive(Debug)]
pub(super) struct BufferedFlush<C> {
    socket: C,
    gate: Arc<FlushGate>,
}

impl<C> BufferedFlush<C> {
    fn new(socket: C) -> (BufferedFlush<C>, Arc<FlushGate>) {
        let gate = Arc::new(FlushGate::default());
        let buffered = BufferedFlush {
            socket,
            gate: gate.clone(),
        };
        (buffered, gate)
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for BufferedFlush<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for BufferedFlush<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gate.is_deferring.load(Ordering::Relaxed) {
            self.gate.has_deferred.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

/// A muxer layer that lets its connection flush at the end of each poll.
#[derive(Debug)]
pub(super) struct FlushOncePerPoll(Arc<FlushGate>);

impl<M: StreamMuxer> MuxerLayer<M> for FlushOncePerPoll {
    type Substream = M::Substream;

    fn wrap_inbound(&self, stream: M::Substream) -> M::Substream {
        stream
    }

    fn wrap_outbound(&self, stream: M::Substream) -> M::Substream {
        stream
    }

    fn poll(
        &mut self,
        mut muxer: Pin<&mut M>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        self.0.is_deferring.store(true, Ordering::Relaxed);
        let polled = muxer.as_mut().poll(cx);
        self.0.is_deferring.store(false, Ordering::Relaxed);
        if polled.is_ready() || !self.0.has_deferred.swap(false, Ordering::Relaxed) {
            return polled;
        }
        // All frames are written; with nothing left to write, the muxer flushes.
        muxer.poll(cx)
    }
}

#[cfg(test)]
mod tests;
