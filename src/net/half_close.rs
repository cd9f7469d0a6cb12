//! Streams that we opened are not half-closed before the peer has said something on them.
//!
//! Entry type: [`DeferredHalfClose`], a muxer around another. The rule it keeps: nothing else waits, and nothing that came
//! meanwhile is lost.
//!
//! A request goes out with the name of its protocol, and its sender half-closes after it. js-libp2p (`@libp2p/utils` 7)
//! loses what came early when the half-close came early, too: it hands on to a protocol what was read beyond its name,
//! and may have shut the stream for that by then. The first that a peer says is that it negotiates, and what comes
//! afterwards is kept. It says so before its response: who waits for a response loses no time.
//!
//! A stream is half-closed once, however often that is asked for: yamux would say so each time, and some of its kind end
//! the connection at the second.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

/// A muxer whose outbound streams half-close late.
#[derive(Debug)]
pub(crate) struct DeferredHalfClose<M>(pub(crate) M);

impl<M> StreamMuxer for DeferredHalfClose<M>
where
    M: StreamMuxer + Unpin,
    M::Substream: Unpin,
{
    type Substream = DeferredCloseStream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = Pin::new(&mut self.0).poll_inbound(cx);
        stream.map_ok(|stream| DeferredCloseStream::new(stream, true))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = Pin::new(&mut self.0).poll_outbound(cx);
        stream.map_ok(|stream| DeferredCloseStream::new(stream, false))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// A stream that may wait for the peer before it is half-closed.
#[derive(Debug)]
pub(crate) struct DeferredCloseStream<S> {
    stream: S,
    /// Whether the peer has said something, or can no more; or need not, having opened the stream.
    is_heard: bool,
    /// What came while we waited.
    came: Option<u8>,
    is_closed: bool,
}

impl<S> DeferredCloseStream<S> {
    fn new(stream: S, is_heard: bool) -> DeferredCloseStream<S> {
        DeferredCloseStream {
            stream,
            is_heard,
            came: None,
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
            && let Some(byte) = self.came.take()
        {
            *first = byte;
            return Poll::Ready(Ok(1));
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.is_heard |= read.is_ready();
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
        if !self.is_heard {
            // What it is to answer must have left.
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            let mut byte = [0];
            // An end or an error will be there again for whoever reads next.
            if let Ok(1..) = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut byte)) {
                self.came = Some(byte[0]);
            }
            self.is_heard = true;
        }
        ready!(Pin::new(&mut self.stream).poll_close(cx))?;
        self.is_closed = true;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// A stream whose peer says what the test lets it.
    #[derive(Default)]
    struct Scripted {
        said: VecDeque<u8>,
        is_over: bool,
        written: Vec<u8>,
        flushed: usize,
        half_closed: usize,
    }

    impl AsyncRead for Scripted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            if self.said.is_empty() && !self.is_over {
                return Poll::Pending;
            }
            let len = buf.len().min(self.said.len());
            for (place, byte) in buf.iter_mut().zip(self.said.drain(..len)) {
                *place = byte;
            }
            Poll::Ready(Ok(len))
        }
    }

    impl AsyncWrite for Scripted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.written.extend_from_slice(buf);
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushed = self.written.len();
            Poll::Ready(Ok(()))
        }

        fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.half_closed += 1;
            Poll::Ready(Ok(()))
        }
    }

    fn opened(by_the_peer: bool) -> DeferredCloseStream<Scripted> {
        DeferredCloseStream::new(Scripted::default(), by_the_peer)
    }

    fn close(stream: &mut DeferredCloseStream<Scripted>) -> Poll<io::Result<()>> {
        Pin::new(stream).poll_close(&mut Context::from_waker(Waker::noop()))
    }

    fn read(stream: &mut DeferredCloseStream<Scripted>) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buf = [0; 4];
        while let Poll::Ready(Ok(len @ 1..)) =
            Pin::new(&mut *stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf)
        {
            all.extend_from_slice(&buf[..len]);
        }
        all
    }

    #[test]
    fn a_stream_of_ours_is_half_closed_when_the_peer_has_spoken_and_nothing_of_that_is_lost() {
        let mut stream = opened(false);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut stream).poll_write(cx, b"request").is_ready());
        assert!(close(&mut stream).is_pending());
        assert_eq!((stream.stream.flushed, stream.stream.half_closed), (7, 0));
        stream.stream.said.extend(b"agreed");
        assert!(close(&mut stream).is_ready());
        assert_eq!(stream.stream.half_closed, 1);
        assert_eq!(read(&mut stream), b"agreed");
    }

    #[test]
    fn a_stream_is_half_closed_once_however_often_that_is_asked_for() {
        for by_the_peer in [true, false] {
            let mut stream = opened(by_the_peer);
            stream.stream.said.extend(b"agreed");
            for _ in 0..3 {
                assert!(close(&mut stream).is_ready());
            }
            assert_eq!(stream.stream.half_closed, 1);
        }
    }

    #[test]
    fn who_has_heard_the_peer_already_waits_for_nothing() {
        let mut stream = opened(false);
        stream.stream.said.extend(b"agreed");
        assert_eq!(read(&mut stream), b"agreed");
        assert!(close(&mut stream).is_ready());
        assert_eq!(stream.stream.half_closed, 1);
    }

    #[test]
    fn a_stream_of_the_peers_is_half_closed_at_once() {
        let mut stream = opened(true);
        assert!(close(&mut stream).is_ready());
        assert_eq!(stream.stream.half_closed, 1);
    }

    #[test]
    fn a_peer_that_ends_the_stream_instead_is_not_waited_for() {
        let mut stream = opened(false);
        stream.stream.is_over = true;
        assert!(close(&mut stream).is_ready());
        assert_eq!(stream.stream.half_closed, 1);
        assert_eq!(read(&mut stream), b"");
    }
}
