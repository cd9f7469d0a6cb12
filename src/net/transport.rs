//! tcp → TLS where it is wanted → websocket → noise → yamux, built by hand so that frames are bounded and every
//! failure knows its stage.
//!
//! Entry function: [`build`]. The rules it keeps: an address with a path is not dialled, a redirect is not followed, and nothing that a stranger sends before noise makes
//! the node hold more than [`MAX_WEBSOCKET_FRAME`], nor longer than [`INBOUND_TIMEOUT`].

use std::io;
use std::net::IpAddr;
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
use super::half_close::DeferredHalfClose;
use super::observed_upgrade::{MUXERS, ObservedUpgrade, SECURITY};
use super::stage::Stage;
use super::tcp::Tcp;
use super::tls::TlsContext;
use super::tls::layer::{PublicAddresses, TlsLayer};

/// The largest websocket frame taken, in bytes. Noise frames have at most 64 KiB; the library's
/// default of 256 MiB lets one stranger take as much before noise.
pub(crate) const MAX_WEBSOCKET_FRAME: usize = 1024 * 1024;
/// How long a stranger may take from TCP to yamux.
pub(crate) const INBOUND_TIMEOUT: Duration = Duration::from_secs(5);
/// From the dial to the end of the websocket (and TLS) upgrade.
const WEBSOCKET_TIMEOUT: Duration = Duration::from_secs(10);
/// From the dial to the end of noise and yamux.
const OUTBOUND_TIMEOUT: Duration = Duration::from_secs(15);
/// Streams that one connection may have open at once.
const MAX_STREAMS: usize = 64;
/// What is written to a socket at once: a whole batch under load.
const SOCKET_BUFFER: usize = 64 * 1024;
/// What is read from a socket at once, when less is asked for: some ten small messages.
const READ_BUFFER: usize = 16 * 1024;

/// What the transport tells of a dial.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DialProgress {
    /// A stage is passed.
    Passed(Stage),
    /// TCP is connected, between these addresses.
    Connected { local: IpAddr, remote: IpAddr },
}

/// Told of each dial as it goes on.
pub(crate) type DialObserver = Arc<dyn Fn(DialProgress) + Send + Sync>;

/// The transport of a node, or of a probe that wants to know of each stage.
pub(crate) fn build(
    keypair: &Keypair,
    tls: TlsContext,
    observer: Option<DialObserver>,
    send_windows: SendWindows,
) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    // A node negotiates in one go; only a probe asks what a peer speaks instead.
    // It waits for each answer, or it would believe the last thing it asks for to be there.
    let (version, security, muxers): (_, &[_], &[_]) = match observer {
        Some(_) => (Version::V1, &SECURITY, &MUXERS),
        None => (Version::V1Lazy, &[], &[]),
    };
    let observer = observer.unwrap_or_else(|| Arc::new(|_| {}));
    // A websocket frame is written in two pieces: without a buffer each is a system call, and a
    // packet of its own.
    // One is read in pieces as small: its head, what of it has come, the rest.
    let tcp = Tcp::new(observer.clone()).map(|stream, _| {
        let stream = BufWriter::with_capacity(SOCKET_BUFFER, stream);
        BufReader::with_capacity(READ_BUFFER, stream)
    });
    let mut ws = websocket::Config::new(TlsLayer::new(tcp, tls));
    ws.set_max_data_size(MAX_WEBSOCKET_FRAME);
    // Wherever a web server sends us is a stranger's word.
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
            let muxer = DeferredHalfClose(send_windows.meter(peer, muxer));
            (peer, StreamMuxerBox::new(muxer))
        })
        .map_err(of_upgrades);
    let upgraded =
        TransportTimeout::with_ingoing_timeout(upgraded, INBOUND_TIMEOUT).map_err(of_late_visitor);
    let upgraded = TransportTimeout::with_outgoing_timeout(upgraded, OUTBOUND_TIMEOUT)
        .map_err(|e| of_timeout(Stage::Noise, e));
    Ok(DialGuard(upgraded).boxed())
}
