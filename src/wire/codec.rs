//! Codec of frames. A frame is a minimal unsigned varint n, 1 ≤ n ≤ limit, and then n bytes; a stream carries one frame in
//! each direction.
//!
//! Entry type: [`FrameCodec`], one for each protocol. The rule it keeps: it never reserves more memory than the limit, never
//! reads past the frame, and names each violation ([`FrameError`]).

use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response;
use unsigned_varint::{decode, encode};

/// Maximum size of a body, in bytes, that is copied to be written in one piece with its length. Larger ones are written
/// without a copy.
const MAX_COPIED_BODY: usize = 16 << 10;

/// Maximum size of a frame's length in bytes: they hold any `u32`, and every protocol's limit is far below that.
const MAX_LENGTH_BYTES: usize = 5;

/// Maximum sizes of a protocol's frames, in bytes of their bodies.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum size of a request.
    pub request: usize,
    /// Maximum size of a response.
    pub response: usize,
}

/// A violation of the framing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is zero.
    #[error("the frame is empty")]
    Empty,
    /// The length is over the protocol's limit.
    #[error("the frame's length of {len} bytes is over the limit of {limit}")]
    TooLong {
        /// The length that the frame claims, or the least that its length can be.
        len: u64,
        /// The protocol's limit.
        limit: usize,
    },
    /// The length is not a minimal unsigned varint.
    #[error("the frame's length is not a minimal varint")]
    BadLength,
    /// The stream ended inside the frame.
    #[error("the stream ended before the frame did")]
    Truncated,
    /// More bytes follow the frame.
    #[error("bytes follow the frame")]
    Trailing,
}

impl FrameError {
    /// Returns the violation inside an I/O error of a stream, if there is one.
    pub fn of(error: &io::Error) -> Option<&FrameError> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// An inbound request: the frame's body, or the violation. A violation is passed on as a request, because libp2p's
/// request-response does not report requests that cannot be read.
pub type Request = Result<Vec<u8>, FrameError>;

/// Codec of one request-response protocol. Requests and responses are the bodies of frames.
///
/// # Examples
///
/// ```
/// use diatribe::wire::{FrameCodec, Limits};
///
/// let codec = FrameCodec::new(Limits { request: 1024, response: 64 << 10 });
/// # let _ = codec;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FrameCodec {
    limits: Limits,
    idle: Option<Duration>,
}

impl FrameCodec {
    /// Returns a codec with these limits and no idle timeout.
    pub const fn new(limits: Limits) -> FrameCodec {
        FrameCodec { limits, idle: None }
    }

    /// Sets the time without progress after which a frame fails. It needs tokio's timers.
    pub const fn idle(self, idle: Duration) -> FrameCodec {
        FrameCodec {
            idle: Some(idle),
            ..self
        }
    }
}

impl request_response::Codec for FrameCodec {
    type Protocol = StreamProtocol;
    type Request = Request;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        match read_frame(io, self.limits.request, self.idle).await {
            Ok(body) => Ok(Ok(body)),
            Err(error) => FrameError::of(&error).cloned().map(Err).ok_or(error),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_frame(io, self.limits.response, self.idle).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Request,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &request?, self.limits.request, self.idle).await?;
        // request-response half-closes next, and applies no timeout while that waits for the peer.
        within(self.idle, io.close()).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        body: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &body, self.limits.response, self.idle).await
    }
}

async fn read_frame<T: AsyncRead + Unpin>(
    io: &mut T,
    limit: usize,
    idle: Option<Duration>,
) -> io::Result<Vec<u8>> {
    let len = read_length(io, limit, idle).await?;
    let mut body = vec![0; len];
    let mut rest = &mut body[..];
    while !rest.is_empty() {
        match within(idle, io.read(rest)).await? {
            0 => return Err(FrameError::Truncated.into()),
            read => rest = &mut rest[read..],
        }
    }
    refuse_trailing(io).await?;
    Ok(body)
}

async fn read_length<T: AsyncRead + Unpin>(
    io: &mut T,
    limit: usize,
    idle: Option<Duration>,
) -> io::Result<usize> {
    let mut bytes = [0; MAX_LENGTH_BYTES];
    for at in 0..MAX_LENGTH_BYTES {
        if within(idle, io.read(&mut bytes[at..=at])).await? == 0 {
            return Err(FrameError::Truncated.into());
        }
        if decode::is_last(bytes[at]) {
            return Ok(parse_length(&bytes[..=at], limit)?);
        }
        // A length with more bytes than these is over the limit: it is refused before the rest arrives.
        let len = 1 << (7 * (at + 1));
        if len > limit as u64 {
            return Err(FrameError::TooLong { len, limit }.into());
        }
    }
    Err(FrameError::BadLength.into())
}

fn parse_length(bytes: &[u8], limit: usize) -> Result<usize, FrameError> {
    match decode::u64(bytes) {
        Ok((0, _)) => Err(FrameError::Empty),
        Ok((len, _)) if len > limit as u64 => Err(FrameError::TooLong { len, limit }),
        Ok((len, _)) => Ok(len as usize),
        Err(_) => Err(FrameError::BadLength),
    }
}

/// Checks, without waiting, that no bytes follow the frame. The sender half-closes after it, but the receiver need not
/// wait for that before it answers.
async fn refuse_trailing<T: AsyncRead + Unpin>(io: &mut T) -> io::Result<()> {
    let mut byte = [0];
    futures::future::poll_fn(|cx| match Pin::new(&mut *io).poll_read(cx, &mut byte) {
        Poll::Ready(Ok(0)) | Poll::Pending => Poll::Ready(Ok(())),
        Poll::Ready(Ok(_)) => Poll::Ready(Err(FrameError::Trailing.into())),
        // The frame is complete, so later errors of the stream do not matter.
        Poll::Ready(Err(_)) => Poll::Ready(Ok(())),
    })
    .await
}

async fn write_frame<T: AsyncWrite + Unpin>(
    io: &mut T,
    body: &[u8],
    limit: usize,
    idle: Option<Duration>,
) -> io::Result<()> {
    if body.is_empty() {
        return Err(FrameError::Empty.into());
    }
    if body.len() > limit {
        return Err(FrameError::TooLong {
            len: body.len() as u64,
            limit,
        }
        .into());
    }
    let is_large = body.len() > MAX_COPIED_BODY;
    let copied = if is_large { 0 } else { body.len() };
    let mut frame = Vec::with_capacity(MAX_LENGTH_BYTES + copied);
    frame.extend_from_slice(encode::usize(body.len(), &mut encode::usize_buffer()));
    if is_large {
        write_all(io, &frame, idle).await?;
        write_all(io, body, idle).await?;
    } else {
        frame.extend_from_slice(body);
        write_all(io, &frame, idle).await?;
    }
    within(idle, io.flush()).await
}

async fn write_all<T: AsyncWrite + Unpin>(
    io: &mut T,
    mut bytes: &[u8],
    idle: Option<Duration>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match within(idle, io.write(bytes)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}

/// Runs one step of a frame, with a timeout of `idle` if there is one.
async fn within<T>(
    idle: Option<Duration>,
    step: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let Some(idle) = idle else {
        return step.await;
    };
    let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "nothing has moved for too long");
    tokio::time::timeout(idle, step).await.map_err(timed_out)?
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use futures::executor::block_on;
    use futures::io::Cursor;
    use futures::{StreamExt, TryStreamExt};
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], limit: usize) -> Result<Vec<u8>, FrameError> {
        block_on(read_frame(&mut Cursor::new(bytes), limit, None)).map_err(|e| {
            FrameError::of(&e)
                .expect("an in-memory stream fails with nothing else")
                .clone()
        })
    }

    fn written(body: &[u8], limit: usize) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        block_on(write_frame(&mut out, body, limit, None)).expect("within the limit");
        out.into_inner()
    }

    #[test]
    fn each_violation_is_named() {
        assert_eq!(read(&[0], 1024), Err(FrameError::Empty));
        assert_eq!(read(&[0x80, 0x00], 1024), Err(FrameError::BadLength));
        assert_eq!(
            read(&[0x81, 0x08], 1024),
            Err(FrameError::TooLong {
                len: 1025,
                limit: 1024
            })
        );
        assert!(matches!(
            read(&[0x80, 0x80, 0x01], 1024),
            Err(FrameError::TooLong { .. })
        ));
        assert_eq!(read(&[3, 1, 2], 1024), Err(FrameError::Truncated));
        assert_eq!(read(&[], 1024), Err(FrameError::Truncated));
        assert_eq!(read(&[1, 7, 9], 1024), Err(FrameError::Trailing));
        assert_eq!(read(&[0xff; 10], usize::MAX), Err(FrameError::BadLength));
    }

    #[test]
    fn the_largest_frame_passes_and_one_byte_more_does_not_leave() {
        let body = vec![7; 1024];
        assert_eq!(read(&written(&body, 1024), 1024), Ok(body));
        let too_long = block_on(write_frame(
            &mut Cursor::new(Vec::new()),
            &[7; 1025],
            1024,
            None,
        ));
        assert!(matches!(
            FrameError::of(&too_long.unwrap_err()),
            Some(FrameError::TooLong { .. })
        ));
    }

    #[test]
    fn a_large_frame_has_the_same_bytes_as_if_it_were_written_at_once() {
        let body = vec![7; MAX_COPIED_BODY + 1];
        let mut frame = vec![0x81, 0x80, 0x01];
        frame.extend(&body);
        assert_eq!(written(&body, 1 << 20), frame);
        assert_eq!(read(&frame, 1 << 20), Ok(body));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_frame_is_read_and_one_without_progress_times_out() {
        let idle = Duration::from_secs(30);
        let bytes = futures::stream::unfold([3, 1, 2, 3].into_iter(), |mut rest| async {
            tokio::time::sleep(Duration::from_secs(29)).await;
            Some((Ok(vec![rest.next()?]), rest))
        });
        let mut receiver = Box::pin(bytes.chain(futures::stream::pending())).into_async_read();
        let frame = read_frame(&mut receiver, 1024, Some(idle)).await;
        assert_eq!(frame.expect("it has moved"), [1, 2, 3]);
        let stuck = read_frame(&mut receiver, 1024, Some(idle)).await;
        assert_eq!(stuck.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    /// Accepts all bytes, and never completes its half-close.
    struct NeverClosed;

    impl AsyncWrite for NeverClosed {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_to_a_silent_peer_times_out() {
        use request_response::Codec as _;
        let limits = Limits {
            request: 1024,
            response: 1024,
        };
        let mut codec = FrameCodec::new(limits).idle(Duration::from_secs(30));
        let protocol = StreamProtocol::new("/test/1.0.0");
        let mut stream = NeverClosed;
        let request = codec.write_request(&protocol, &mut stream, Ok(vec![1]));
        let given_up = tokio::time::timeout(Duration::from_secs(31), request).await;
        let error = given_up.expect("after 30 s").expect_err("it never left");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(body in proptest::collection::vec(any::<u8>(), 1..5000)) {
            prop_assert_eq!(read(&written(&body, 5000), 5000), Ok(body));
        }

        #[test]
        fn arbitrary_bytes_never_yield_a_frame_over_the_limit(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            if let Ok(body) = read(&bytes, 100) {
                prop_assert!((1..=100).contains(&body.len()));
            }
        }
    }
}
