//! Defers the half-close of an outbound stream until the peer has sent something on it.
//!
//! Entry type: [`DeferredHalfClose`], a layer around a muxer. The rule it keeps: nothing else is delayed, and bytes
//! that arrive meanwhile are kept.
//!
//! A request is sent together with the name of its protocol, and its sender half-closes the stream after it. js-libp2p
//! (`@libp2p/utils` 7) loses early data after an early half-close: it passes the bytes after the name on to a protocol,
//! and may have shut the stream by then. The first bytes of a peer are its part of the negotiation, and everything
//! after them is kept. They arrive before the response, so waiting for them costs no time.
//!
//! A stream is half-closed once, even if that is requested several times: yamux would send each, and some
//! implementations close the connection at the second.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::StreamMuxer;

use super::muxer_layer::{LayeredMuxer, MuxerLayer};

/// A muxer layer that defers the half-close of outbound streams.
#[derive(Debug)]
pub(crate) struct DeferredHalfClose;

impl DeferredHalfClose {
    /// Puts the layer around `muxer`.
    pub(crate) fn around<M>(muxer: M) -> LayeredMuxer<M, DeferredHalfClose> {
        let layer = DeferredHalfClose;
        LayeredMuxer { muxer, layer }
    }
}

impl<M> MuxerLayer<M> for DeferredHalfClose
where
    M: StreamMuxer,
    M::Substream: Unpin,
{
    type Substream = DeferredCloseStream<M::Substream>;

    fn wrap_inbound(&self, stream: M::Substream) -> Self::Substream {
        DeferredCloseStream::new(stream, true)
    }

    fn wrap_outbound(&self, stream: M::Substream) -> Self::Substream {
        DeferredCloseStream::new(stream, false)
    }
}

/// A stream whose half-close may wait for the peer.
#[derive(Debug)]
pub(crate) struct DeferredCloseStream<S> {
    stream: S,
    /// Whether the half-close need not wait: the peer has sent something or ended the stream, or has opened it.
    may_close: bool,
    /// The byte that arrived while the half-close waited.
    early_byte: Option<u8>,
    is_closed: bool,
}

impl<S> DeferredCloseStream<S> {
    fn new(stream: S, may_close: bool) -> DeferredCloseStream<S> {
        DeferredCloseStream {
            stream,
            may_close,
            early_byte: None,
            is_closed: false,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for DeferredCloseStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = buf.first_mut()
            && let Some(byte) = self.early_byte.take()
        {
            *first = byte;
            return Poll::Ready(Ok(1));
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.may_close |= read.is_ready();
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for DeferredCloseStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_closed {
            return Poll::Ready(Ok(()));
        }
        if !self.may_close {
            // The peer can only answer bytes that have left.
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            let mut byte = [0];
            // The next read meets an end or an error again.
            if let Ok(1..) = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut byte)) {
                self.early_byte = Some(byte[0]);
            }
            self.may_close = true;
        }
        ready!(Pin::new(&mut self.stream).poll_close(cx))?;
        self.is_closed = true;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
