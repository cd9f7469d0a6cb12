//! Tests of the send windows: which traffic fills them, and which empties them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

use super::window::{MAX_ANNOUNCED_BYTES, MAX_QUEUED};
use super::*;

/// Accepts this many bytes, then blocks.
struct Narrow(usize);

impl AsyncRead for Narrow {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match buf.len().min(self.0) {
            0 => Poll::Pending,
            read => Poll::Ready(Ok(read)),
        }
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

/// A muxer whose streams accept this many bytes.
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

const MORE: usize = 2 * MAX_QUEUED as usize;

fn link(
    room: usize,
) -> (
    SendWindows,
    PeerId,
    LayeredMuxer<Muxer, Metered>,
    Context<'static>,
) {
    let (send_windows, peer_id) = (SendWindows::default(), PeerId::random());
    let muxer = send_windows.meter(peer_id, Muxer(room));
    (
        send_windows,
        peer_id,
        muxer,
        Context::from_waker(std::task::Waker::noop()),
    )
}

#[test]
fn a_link_has_enough_to_do_until_what_was_handed_to_it_is_written() {
    let (send_windows, peer_id, mut muxer, mut cx) = link(MORE);
    let Poll::Ready(Ok(mut stream)) = Pin::new(&mut muxer).poll_outbound(&mut cx) else {
        panic!("there is a stream");
    };
    assert!(!send_windows.is_full([peer_id].iter()));
    send_windows.add([peer_id].iter(), MORE);
    assert!(send_windows.is_full([peer_id].iter()));
    assert!(!send_windows.is_full([PeerId::random()].iter()));
    let half = vec![0; MORE / 2];
    assert!(futures::FutureExt::now_or_never(stream.write_all(&half)).is_some());
    assert!(!send_windows.is_full([peer_id].iter()));
    assert!(futures::FutureExt::now_or_never(send_windows.writable()).is_some());
}

#[test]
fn backpressure_holds_until_announced_batches_are_fetched() {
    let (send_windows, peer_id, ..) = link(0);
    // The connection is gone and has no window any more.
    send_windows.set_announced(peer_id, 100 << 20, OwnPending::Announced);
    assert!(!send_windows.is_full([peer_id].iter()));

    let (send_windows, peer_id, mut muxer, mut cx) = link(MORE);
    send_windows.set_announced(peer_id, MAX_ANNOUNCED_BYTES as usize, OwnPending::Nothing);
    assert!(!send_windows.is_full([peer_id].iter()));
    send_windows.set_announced(
        peer_id,
        MAX_ANNOUNCED_BYTES as usize + 1,
        OwnPending::Nothing,
    );
    assert!(send_windows.is_full([peer_id].iter()));
    // Writing all queued data does not count as fetching the announced batches.
    assert!(Pin::new(&mut muxer).poll(&mut cx).is_pending());
    assert!(send_windows.is_full([peer_id].iter()));
    send_windows.set_announced(peer_id, 0, OwnPending::Nothing);
    assert!(!send_windows.is_full([peer_id].iter()));
    assert!(futures::FutureExt::now_or_never(send_windows.writable()).is_some());
}

#[test]
fn gossip_does_not_overtake_announced_batches_of_our_own() {
    let (send_windows, peer_id, _muxer, _) = link(MORE);
    let would = |send_windows: &SendWindows| send_windows.would_reorder([peer_id].iter());
    let handed = send_windows.begin_announcement();
    assert!(would(&send_windows), "it is being stored");
    send_windows.set_announced(peer_id, 1, OwnPending::Announced);
    drop(handed);
    assert!(would(&send_windows), "it is announced");
    send_windows.set_announced(
        peer_id,
        1,
        OwnPending::WaitAtMost(Duration::from_secs(3600)),
    );
    assert!(would(&send_windows), "it is on its way");
    send_windows.set_announced(peer_id, 1, OwnPending::WaitAtMost(Duration::ZERO));
    assert!(!would(&send_windows), "it should be there");
    send_windows.set_announced(peer_id, 1, OwnPending::Nothing);
    assert!(
        !would(&send_windows),
        "it is fetched; others' is not waited for"
    );
    assert!(futures::FutureExt::now_or_never(send_windows.writable()).is_some());
}

#[test]
fn what_is_written_at_once_is_no_sign_of_life_and_what_had_to_wait_is() {
    let (send_windows, peer_id, mut muxer, mut cx) = link(1000);
    let is_in_use = || send_windows.is_in_use(&peer_id, Duration::from_secs(3600));
    let Poll::Ready(Ok(mut stream)) = Pin::new(&mut muxer).poll_outbound(&mut cx) else {
        panic!("there is a stream");
    };
    assert!(futures::FutureExt::now_or_never(stream.write_all(&[0; 1000])).is_some());
    assert!(
        !is_in_use(),
        "a peer that is gone would be written to as well"
    );
    assert!(futures::FutureExt::now_or_never(stream.write_all(&[0; 10])).is_none());
    assert!(!is_in_use());
    stream.inner.0 += 10;
    assert!(futures::FutureExt::now_or_never(stream.write_all(&[0; 10])).is_some());
    assert!(is_in_use(), "it has taken something");
    assert!(!send_windows.is_in_use(&peer_id, Duration::ZERO));
}

#[test]
fn nothing_waits_on_a_link_whose_streams_have_nothing_to_write() {
    let (send_windows, peer_id, mut muxer, mut cx) = link(MORE);
    // The bytes count as queued, but are never sent: the peer did not want the message.
    send_windows.add([peer_id].iter(), MORE);
    assert!(Pin::new(&mut muxer).poll(&mut cx).is_pending());
    assert!(!send_windows.is_full([peer_id].iter()));
}

#[test]
fn what_a_blocked_stream_could_not_write_still_waits() {
    let (send_windows, peer_id, mut muxer, mut cx) = link(1000);
    let Poll::Ready(Ok(mut stream)) = Pin::new(&mut muxer).poll_outbound(&mut cx) else {
        panic!("there is a stream");
    };
    send_windows.add([peer_id].iter(), MORE);
    let all = vec![0; MORE];
    assert!(futures::FutureExt::now_or_never(stream.write_all(&all)).is_none());
    assert!(Pin::new(&mut muxer).poll(&mut cx).is_pending());
    assert!(send_windows.is_full([peer_id].iter()));
    // The abandoned stream no longer counts as blocked.
    drop(stream);
    assert!(Pin::new(&mut muxer).poll(&mut cx).is_pending());
    assert!(!send_windows.is_full([peer_id].iter()));
}

#[test]
fn a_peer_brings_something_when_something_large_is_read_of_it() {
    let (send_windows, peer_id, mut muxer, mut cx) = link(MORE);
    let hour = Duration::from_secs(3600);
    let Poll::Ready(Ok(mut stream)) = Pin::new(&mut muxer).poll_outbound(&mut cx) else {
        panic!("there is a stream");
    };
    let mut read = |bytes: usize| {
        let read = Pin::new(&mut stream).poll_read(&mut cx, &mut vec![0; bytes]);
        assert!(read.is_ready());
    };
    read(32);
    assert!(send_windows.is_in_use(&peer_id, hour) && !send_windows.is_receiving(&peer_id, hour));
    read(16 << 10);
    assert!(send_windows.is_receiving(&peer_id, hour));
    assert!(!send_windows.is_receiving(&peer_id, Duration::ZERO));
}
