//! The composed transport: TCP, TLS if requested, WebSocket, noise, yamux. It is built by hand so that frames are
//! bounded and every failure knows its stage.
//!
//! Entry function: [`build`]. The rules it keeps: an address with a path is not dialled, a redirect is not followed,
//! and before noise a client cannot make the node hold more than [`MAX_WEBSOCKET_FRAME`], nor longer than
//! [`INBOUND_TIMEOUT`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::io::{BufReader, BufWriter};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, Transport, noise, yamux};
use libp2p_websocket as websocket;

use super::backpressure::SendWindows;
use super::coalesce::CoalescedFlushes;
use super::diagnosis::{of_late_visitor, of_timeout, of_upgrades};
use super::dial_guard::DialGuard;
use super::dial_progress::{DialObserver, DialProgress};
use super::half_close::DeferredHalfClose;
use super::observed_upgrade::{MUXERS, ObservedUpgrade, SECURITY};
use super::stage::Stage;
use super::tcp::Tcp;
use super::tls::TlsContext;
use super::tls::layer::{PublicAddresses, TlsLayer};

/// Maximum size of an accepted websocket frame, in bytes. Noise frames have at most 64 KiB; with the library's default
/// of 256 MiB one unknown client could occupy as much memory before noise.
pub(crate) const MAX_WEBSOCKET_FRAME: usize = 1024 * 1024;
/// Timeout for an inbound connection from TCP to yamux.
pub(crate) const INBOUND_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout from the dial to the end of the websocket (and TLS) upgrade.
const WEBSOCKET_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout from the dial to the end of noise and yamux.
const OUTBOUND_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum number of concurrent streams of one connection.
const MAX_STREAMS: usize = 64;
/// Size of the write buffer of a socket, in bytes: holds a whole batch under load.
const SOCKET_BUFFER: usize = 64 * 1024;
/// Size of the read buffer of a socket, in bytes: holds some ten small messages.
const READ_BUFFER: usize = 16 * 1024;

/// Builds the transport of a node, or, with an observer, of a probe that reports each stage.
///
/// # Errors
///
/// The noise configuration cannot be made from the key.
pub(crate) fn build(
    keypair: &Keypair,
    tls: TlsContext,
    observer: Option<DialObserver>,
    send_windows: SendWindows,
) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    // A node negotiates without a round trip. A probe also proposes alternatives, and waits for each answer, since
    // otherwise it would take its last proposal for accepted.
    let (version, security, muxers): (_, &[_], &[_]) = match observer {
        Some(_) => (Version::V1, &SECURITY, &MUXERS),
        None => (Version::V1Lazy, &[], &[]),
    };
    let observer = observer.unwrap_or_else(|| Arc::new(|_| {}));
    // A websocket frame is written in two parts: without a buffer each would be a system call and a packet of its own.
    // Reads are as small: the head of a frame, the available part of its body, the rest.
    let tcp = Tcp::new(observer.clone()).map(|stream, _| {
        let stream = BufWriter::with_capacity(SOCKET_BUFFER, stream);
        BufReader::with_capacity(READ_BUFFER, stream)
    });
    let mut ws = websocket::Config::new(TlsLayer::new(tcp, tls));
    ws.set_max_data_size(MAX_WEBSOCKET_FRAME);
    // The target of a redirect is chosen by an unknown server.
    ws.set_max_redirects(0);
    let ws = TransportTimeout::with_outgoing_timeout(PublicAddresses(ws), WEBSOCKET_TIMEOUT)
        .map_err(|e| of_timeout(Stage::Websocket, e));
    let seen = observer.clone();
    let ws = ws.map(move |connection, _| {
        seen(DialProgress::Passed(Stage::Websocket));
        connection
    });
    let noise = noise::Config::new(keypair).map_err(io::Error::other)?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(MAX_STREAMS);
    let upgraded = ws
        .upgrade(version)
        .authenticate(ObservedUpgrade {
            upgrade: noise,
            stage: Stage::Noise,
            others: security,
            observer: observer.clone(),
        })
        .multiplex(ObservedUpgrade {
            upgrade: CoalescedFlushes(yamux),
            stage: Stage::Yamux,
            others: muxers,
            observer,
        })
        .map(move |(peer, muxer), _| {
            let muxer = DeferredHalfClose::around(send_windows.meter(peer, muxer));
            (peer, StreamMuxerBox::new(muxer))
        })
        .map_err(of_upgrades);
    let upgraded =
        TransportTimeout::with_ingoing_timeout(upgraded, INBOUND_TIMEOUT).map_err(of_late_visitor);
    let upgraded = TransportTimeout::with_outgoing_timeout(upgraded, OUTBOUND_TIMEOUT)
        .map_err(|e| of_timeout(Stage::Noise, e));
    Ok(DialGuard(upgraded).boxed())
}
