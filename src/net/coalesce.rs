//! What a connection's streams have to write at one time leaves together.
//!
//! Entry type: [`CoalescedFlushes`], the upgrade of a connection to yamux. The rule it keeps: nothing waits for
//! what may come later; only what is there at the same time is written as one.
//!
//! yamux flushes after each of its frames, and a stream of a mebibyte is 64 of them. Each flush ends a
//! noise message, a websocket frame and a system call, and wakes the other side: on small exchanges that is
//! most of their cost. Here the flushes of one turn of the connection's task are done once, at its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};

/// An upgrade to a muxer, over a connection whose flushes it puts together.
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
    type Output = FlushOncePerPoll<U::Output>;
    type Error = U::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        let (socket, hold) = BufferedFlush::new(socket);
        let upgrade = self.0.upgrade_inbound(socket, info);
        upgrade
            .map(|muxer| {
                Ok(FlushOncePerPoll {
                    muxer: muxer?,
                    hold,
                })
            })
            .boxed()
    }
}

impl<C, U> OutboundConnectionUpgrade<C> for CoalescedFlushes<U>
where
    U: OutboundConnectionUpgrade<BufferedFlush<C>>,
    U::Future: Send + 'static,
{
    type Output = FlushOncePerPoll<U::Output>;
    type Error = U::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        let (socket, hold) = BufferedFlush::new(socket);
        let upgrade = self.0.upgrade_outbound(socket, info);
        upgrade
            .map(|muxer| {
                Ok(FlushOncePerPoll {
                    muxer: muxer?,
                    hold,
                })
            })
            .boxed()
    }
}

/// What a muxer and the connection below it share.
#[derive(Debug, Default)]
struct FlushGate {
    /// Whether flushes are put off.
    is_on: AtomicBool,
    /// Whether one was.
    has_held: AtomicBool,
}

/// A connection whose flushes can be put off.
#[derive(Debug)]
pub(super) struct BufferedFlush<C> {
    socket: C,
    hold: Arc<FlushGate>,
}

impl<C> BufferedFlush<C> {
    fn new(socket: C) -> (BufferedFlush<C>, Arc<FlushGate>) {
        let hold = Arc::new(FlushGate::default());
        let held = BufferedFlush {
            socket,
            hold: hold.clone(),
        };
        (held, hold)
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
        if self.hold.is_on.load(Ordering::Relaxed) {
            self.hold.has_held.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

/// A muxer that lets its connection flush at the end of each turn.
#[derive(Debug)]
pub(super) struct FlushOncePerPoll<M> {
    muxer: M,
    hold: Arc<FlushGate>,
}

impl<M: StreamMuxer + Unpin> StreamMuxer for FlushOncePerPoll<M> {
    type Substream = M::Substream;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.muxer).poll_inbound(cx)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.muxer).poll_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.muxer).poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        self.hold.is_on.store(true, Ordering::Relaxed);
        let polled = Pin::new(&mut self.muxer).poll(cx);
        self.hold.is_on.store(false, Ordering::Relaxed);
        if polled.is_ready() || !self.hold.has_held.swap(false, Ordering::Relaxed) {
            return polled;
        }
        // It has written all that there was, and flushes when there is nothing to write.
        Pin::new(&mut self.muxer).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Counts what is written and flushed.
    #[derive(Default)]
    struct Counting {
        written: usize,
        flushed: usize,
        flushes: usize,
    }

    impl AsyncRead for Counting {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.written += buf.len();
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushed = self.written;
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Flushes after each of so many frames that wait, and once more, as yamux does.
    struct Frames {
        waiting: usize,
        socket: BufferedFlush<Counting>,
    }

    impl StreamMuxer for Frames {
        type Substream = Counting;
        type Error = io::Error;

        fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Counting>> {
            Poll::Pending
        }

        fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Counting>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<io::Result<StreamMuxerEvent>> {
            for _ in 0..std::mem::take(&mut self.waiting) {
                let _ = Pin::new(&mut self.socket).poll_write(cx, &[0; 10]);
                let _ = Pin::new(&mut self.socket).poll_flush(cx);
            }
            let _ = Pin::new(&mut self.socket).poll_flush(cx);
            Poll::Pending
        }
    }

    fn turns(waiting: usize) -> FlushOncePerPoll<Frames> {
        let (socket, hold) = BufferedFlush::new(Counting::default());
        let muxer = Frames { waiting, socket };
        FlushOncePerPoll { muxer, hold }
    }

    #[test]
    fn frames_of_one_turn_are_flushed_once_and_all_of_them() {
        let mut turns = turns(64);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut turns).poll(&mut cx).is_pending());
        let socket = &turns.muxer.socket.socket;
        assert_eq!((socket.flushed, socket.flushes), (640, 1));
    }

    #[test]
    fn outside_of_a_turn_a_flush_is_not_put_off() {
        let mut turns = turns(0);
        let mut cx = Context::from_waker(Waker::noop());
        let socket = &mut turns.muxer.socket;
        let _ = Pin::new(&mut *socket).poll_write(&mut cx, &[0; 10]);
        assert!(Pin::new(&mut *socket).poll_flush(&mut cx).is_ready());
        assert_eq!(socket.socket.flushed, 10);
    }
}
