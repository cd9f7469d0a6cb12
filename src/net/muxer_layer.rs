//! A muxer around another, with hooks for its streams and its polls.
//!
//! Entry types: [`MuxerLayer`], the hooks, and [`LayeredMuxer`], which applies them. The rule it keeps: a call without a
//! hook reaches the inner muxer unchanged.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

/// The hooks of a layer around the muxer `M`.
pub(crate) trait MuxerLayer<M: StreamMuxer>: Unpin {
    /// A stream of the layered muxer.
    type Substream: AsyncRead + AsyncWrite;

    /// Wraps a stream that the peer has opened.
    fn wrap_inbound(&self, stream: M::Substream) -> Self::Substream;

    /// Wraps a stream that this node has opened.
    fn wrap_outbound(&self, stream: M::Substream) -> Self::Substream;

    /// Polls the inner muxer.
    fn poll(
        &mut self,
        muxer: Pin<&mut M>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        muxer.poll(cx)
    }
}

/// The muxer `M` inside the layer `L`.
#[derive(Debug)]
pub(crate) struct LayeredMuxer<M, L> {
    pub(super) muxer: M,
    pub(super) layer: L,
}

impl<M, L> StreamMuxer for LayeredMuxer<M, L>
where
    M: StreamMuxer + Unpin,
    L: MuxerLayer<M>,
{
    type Substream = L::Substream;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = Pin::new(&mut self.muxer).poll_inbound(cx);
        stream.map_ok(|stream| self.layer.wrap_inbound(stream))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = Pin::new(&mut self.muxer).poll_outbound(cx);
        stream.map_ok(|stream| self.layer.wrap_outbound(stream))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.muxer).poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        let this = &mut *self;
        this.layer.poll(Pin::new(&mut this.muxer), cx)
    }
}
