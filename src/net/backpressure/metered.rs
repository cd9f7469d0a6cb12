//! The muxer layer that counts the traffic of a connection in its send window.
//!
//! Entry type: [`Metered`]. The rule it keeps: reads, writes and flushes pass unchanged.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

use super::window::SendWindow;
use crate::net::muxer_layer::MuxerLayer;

/// Minimum number of bytes of a large read: pings and most of gossip are smaller.
const LARGE_READ: usize = 4096;

/// A muxer layer that meters its streams.
#[derive(Debug)]
pub(crate) struct Metered(Arc<SendWindow>);

impl Metered {
    pub(super) fn new(window: Arc<SendWindow>) -> Metered {
        Metered(window)
    }

    fn stream<S>(&self, inner: S) -> MeteredStream<S> {
        MeteredStream {
            inner,
            window: self.0.clone(),
            blocked: false,
        }
    }
}

impl<M> MuxerLayer<M> for Metered
where
    M: StreamMuxer,
    M::Substream: Unpin,
{
    type Substream = MeteredStream<M::Substream>;

    fn wrap_inbound(&self, stream: M::Substream) -> Self::Substream {
        self.stream(stream)
    }

    fn wrap_outbound(&self, stream: M::Substream) -> Self::Substream {
        self.stream(stream)
    }

    fn poll(
        &mut self,
        muxer: Pin<&mut M>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        // The swarm polls the muxer after the handlers have written all they could.
        self.0.on_muxer_poll();
        muxer.poll(cx)
    }
}

/// A stream that reports its reads and writes.
pub(crate) struct MeteredStream<S> {
    pub(super) inner: S,
    window: Arc<SendWindow>,
    blocked: bool,
}

impl<S> MeteredStream<S> {
    fn see<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.set_blocked(result.is_pending());
        result
    }

    fn set_blocked(&mut self, blocked: bool) {
        if self.blocked != blocked {
            self.window.set_blocked(blocked);
            self.blocked = blocked;
        }
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
            self.window.note_activity();
            if *bytes >= LARGE_READ {
                self.window.note_large_read();
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
            self.window.subtract(*bytes as u64);
            // A write without waiting says nothing about the peer: it succeeds even if the peer is gone.
            if self.blocked {
                self.window.note_activity();
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
