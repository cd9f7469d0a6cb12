//! Tests of deferred half-closes.

use std::collections::VecDeque;
use std::task::Waker;

use super::*;

/// A stream with a scripted peer.
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
