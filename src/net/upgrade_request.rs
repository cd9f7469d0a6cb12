//! The first request of an inbound connection: a WebSocket upgrade passes, and any other client learns what the port is
//! for.
//!
//! Entry function: [`read_upgrade_request`]. The rules it keeps: a request for WebSocket reaches the WebSocket library
//! unchanged; any other HTTP request is answered with 426 and one sentence (RFC 9110, 15.5.22); errors describe the
//! client from this node's side; and no client makes the node hold more than [`MAX_HEAD`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::diagnosis::hung_up;
use super::stage::{self, Stage, StageError};

/// Maximum length of a request's head, in bytes: a browser with cookies sends a few KiB.
const MAX_HEAD: usize = 16 * 1024;
/// Maximum number of header lines: a browser behind several proxies sends some thirty.
const MAX_HEADERS: usize = 64;
/// Number of bytes read at a time: a usual request fits.
const PIECE: usize = 1024;

const ANSWER: &str =
    "This port speaks WebSocket for a peer-to-peer program: it has no pages for a browser.\n";

/// Reads a client's request. If it requests WebSocket, returns the stream with the read bytes put back.
///
/// # Errors
///
/// A description of the other request; an HTTP request has been answered by then.
pub(super) async fn read_upgrade_request<S>(mut stream: S) -> Result<ReplayedStream<S>, StageError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut read = Vec::new();
    loop {
        let known = read.len();
        read.resize(known + PIECE, 0);
        let n = stream.read(&mut read[known..]).await;
        let n = n.map_err(|error| of_read(&error, known > 0))?;
        read.truncate(known + n);
        if n == 0 {
            return Err(hang_up(known > 0));
        }
        match classify(&read) {
            FirstRequest::Upgrade => {
                return Ok(ReplayedStream {
                    read,
                    at: 0,
                    stream,
                });
            }
            FirstRequest::Unfinished if read.len() < MAX_HEAD => {}
            FirstRequest::Unfinished => {
                return Err(websocket("a visitor sends a request that does not end"));
            }
            FirstRequest::Page { is_head } => {
                // A client that has left needs no answer.
                let _ = answer(&mut stream, is_head).await;
                return Err(websocket(
                    "a visitor asked for a web page (a browser, a health check or a crawler) and was told that this port \
                     speaks WebSocket (HTTP 426)",
                ));
            }
            FirstRequest::Tls => {
                return Err(websocket(
                    "a visitor speaks TLS, and this port does not: it must dial it as /ws, or this node needs a certificate \
                     (--tls-cert, --tls-key) and an address to listen on that ends with /tls/ws",
                ));
            }
            FirstRequest::NotHttp => {
                return Err(websocket(
                    "a visitor speaks something else than HTTP: it takes this port for another one, or scans it",
                ));
            }
        }
    }
}

/// The kind of a client's first bytes.
#[derive(Debug, PartialEq, Eq)]
enum FirstRequest {
    /// It requests WebSocket; the WebSocket library checks the details.
    Upgrade,
    Unfinished,
    /// It is another HTTP request; `is_head` for HEAD, whose answer has no body.
    Page {
        is_head: bool,
    },
    Tls,
    NotHttp,
}

fn classify(read: &[u8]) -> FirstRequest {
    // The record header of a TLS ClientHello: handshake, version 3.x.
    if let [0x16, 0x03, ..] = read {
        return FirstRequest::Tls;
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(read) {
        Ok(httparse::Status::Partial) => FirstRequest::Unfinished,
        Ok(httparse::Status::Complete(_)) => {
            let is_websocket = request.headers.iter().any(|header| {
                header.name.eq_ignore_ascii_case("upgrade")
                    && header.value.eq_ignore_ascii_case(b"websocket")
            });
            match is_websocket {
                true => FirstRequest::Upgrade,
                false => FirstRequest::Page {
                    is_head: request.method == Some("HEAD"),
                },
            }
        }
        // It is HTTP nevertheless.
        Err(httparse::Error::TooManyHeaders) => FirstRequest::Page { is_head: false },
        Err(_) => FirstRequest::NotHttp,
    }
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), is_head: bool) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
        ANSWER.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if !is_head {
        stream.write_all(ANSWER.as_bytes()).await?;
    }
    stream.close().await
}

fn websocket(reason: &str) -> StageError {
    StageError::new(Stage::Websocket, reason).with_code(stage::NOT_WEBSOCKET)
}

fn of_read(error: &io::Error, has_spoken: bool) -> StageError {
    match hung_up(&error.to_string()) || error.kind() == io::ErrorKind::ConnectionReset {
        true => hang_up(has_spoken),
        false => websocket(&format!("a visitor's request could not be read: {error}")),
    }
}

fn hang_up(has_spoken: bool) -> StageError {
    let reason = match has_spoken {
        false => {
            "a visitor connected and hung up without a word: a health check, a port scan, or a peer that has found another way"
        }
        true => "a visitor hung up in the middle of its request",
    };
    StageError::new(Stage::Websocket, reason).with_code(stage::HUNG_UP)
}

/// A stream whose first bytes were read and are replayed.
pub(super) struct ReplayedStream<S> {
    read: Vec<u8>,
    at: usize,
    stream: S,
}

impl<S> ReplayedStream<S> {
    /// Wraps a stream from which nothing was read.
    pub(super) fn fresh(stream: S) -> ReplayedStream<S> {
        ReplayedStream {
            read: Vec::new(),
            at: 0,
            stream,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReplayedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let left = &self.read[self.at..];
        if left.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let n = left.len().min(buffer.len());
        buffer[..n].copy_from_slice(&left[..n]);
        self.at += n;
        if self.at == self.read.len() {
            (self.read, self.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(n))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReplayedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
