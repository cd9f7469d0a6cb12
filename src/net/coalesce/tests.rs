//! Tests of coalesced flushes.

use std::task::Waker;

use super::*;

/// Counts written and flushed bytes.
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

/// Flushes after each waiting frame, and once more, as yamux does.
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

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        for _ in 0..std::mem::take(&mut self.waiting) {
            let _ = Pin::new(&mut self.socket).poll_write(cx, &[0; 10]);
            let _ = Pin::new(&mut self.socket).poll_flush(cx);
        }
        let _ = Pin::new(&mut self.socket).poll_flush(cx);
        Poll::Pending
    }
}

fn turns(waiting: usize) -> LayeredMuxer<Frames, FlushOncePerPoll> {
    let (socket, gate) = BufferedFlush::new(Counting::default());
    let muxer = Frames { waiting, socket };
    layered(muxer, gate)
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
