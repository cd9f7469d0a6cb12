//! tcp → websocket (→ TLS) → noise → yamux, built by hand so that frames are bounded and every
//! failure knows its stage.
//!
//! Entry type: [`build`]. The rule it keeps: nothing that a stranger sends before noise makes
//! the node hold more than [`MAX_WEBSOCKET_FRAME`], nor longer than [`INBOUND_TIMEOUT`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use either::Either;
use futures::future::{BoxFuture, FutureExt};
use futures::io::BufWriter;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::{TransportTimeout, TransportTimeoutError};
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::core::upgrade::{
    InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo, Version,
};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, Transport, dns, noise, tcp, yamux};
use libp2p_websocket as websocket;

use super::pressure::Pressure;
use super::stage::{Stage, StageError};

/// The largest websocket frame taken, in bytes. Noise frames have at most 64 KiB; the library's
/// default of 256 MiB lets one stranger take as much before noise.
pub(crate) const MAX_WEBSOCKET_FRAME: usize = 1024 * 1024;
/// How long a stranger may take from TCP to yamux.
pub(crate) const INBOUND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a TCP connection that we dial may take, name resolution included.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);
/// From the dial to the end of the websocket (and TLS) upgrade.
const WEBSOCKET_TIMEOUT: Duration = Duration::from_secs(15);
/// From the dial to the end of noise and yamux.
const OUTBOUND_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams that one connection may have open at once.
const MAX_STREAMS: usize = 64;
/// What is written to a socket at once: a whole batch under load.
const SOCKET_BUFFER: usize = 64 * 1024;
/// Listen backlog: a storm of newcomers waits in the kernel instead of being refused.
const BACKLOG: u32 = 1024;

/// Told each stage as a dial passes it.
pub(crate) type Observer = Arc<dyn Fn(Stage) + Send + Sync>;

/// The transport of a node, or of a probe that wants to know of each stage.
pub(crate) fn build(
    keypair: &Keypair,
    tls: Option<websocket::tls::Config>,
    observer: Option<Observer>,
    pressure: Pressure,
) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let observer = observer.unwrap_or_else(|| Arc::new(|_| {}));
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true).listen_backlog(BACKLOG));
    // A websocket frame is written in two pieces: without a buffer each is a system call, and a
    // packet of its own.
    let tcp = tcp.map(|stream, _| BufWriter::with_capacity(SOCKET_BUFFER, stream));
    let tcp = Observed {
        inner: tcp.map_err(|e| of_tcp(&e)),
        observer: observer.clone(),
    };
    let dns = dns::tokio::Transport::system(tcp)?.map_err(of_dns);
    let tcp = TransportTimeout::with_outgoing_timeout(dns, TCP_TIMEOUT)
        .map_err(|e| of_timeout(Stage::Tcp, e));
    let mut ws = websocket::Config::new(tcp);
    ws.set_max_data_size(MAX_WEBSOCKET_FRAME);
    ws.set_tls_config(tls.unwrap_or_else(websocket::tls::Config::client));
    let ws = TransportTimeout::with_outgoing_timeout(ws.map_err(of_websocket), WEBSOCKET_TIMEOUT)
        .map_err(|e| of_timeout(Stage::Websocket, e));
    let seen = observer.clone();
    let ws = ws.map(move |connection, _| {
        seen(Stage::Websocket);
        connection
    });
    let noise = noise::Config::new(keypair).map_err(io::Error::other)?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(MAX_STREAMS);
    let upgraded = ws
        .upgrade(Version::V1Lazy)
        .authenticate(Timed {
            upgrade: noise,
            stage: Stage::Noise,
            observer: observer.clone(),
        })
        .multiplex(Timed {
            upgrade: yamux,
            stage: Stage::Yamux,
            observer,
        })
        .map(move |(peer, muxer), _| (peer, StreamMuxerBox::new(pressure.watch(peer, muxer))))
        .map_err(of_upgrades);
    let upgraded = TransportTimeout::with_ingoing_timeout(upgraded, INBOUND_TIMEOUT)
        .map_err(|e| of_timeout(Stage::Websocket, e));
    Ok(
        TransportTimeout::with_outgoing_timeout(upgraded, OUTBOUND_TIMEOUT)
            .map_err(|e| of_timeout(Stage::Noise, e))
            .boxed(),
    )
}

/// The stage and the reason behind an error of the boxed transport.
pub(crate) fn stage_of(error: &TransportError<io::Error>) -> StageError {
    match error {
        TransportError::MultiaddrNotSupported(address) => StageError::new(
            Stage::Address,
            format!(
                "{address} is not a WebSocket address; it must look like /ip4/192.0.2.1/tcp/9000/ws"
            ),
        ),
        TransportError::Other(error) => {
            let mut source: Option<&(dyn std::error::Error + 'static)> =
                error.get_ref().map(|e| e as _);
            while let Some(error) = source {
                if let Some(staged) = error.downcast_ref::<StageError>() {
                    return staged.clone();
                }
                source = error.source();
            }
            StageError::new(Stage::Tcp, error.to_string())
        }
    }
}

fn staged(stage: Stage, error: &dyn std::error::Error) -> StageError {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !reason.contains(&more) {
            reason = format!("{reason}: {more}");
        }
        source = error.source();
    }
    StageError::new(stage, reason)
}

fn of_tcp(error: &io::Error) -> StageError {
    let mut staged = staged(Stage::Tcp, error);
    if error.kind() == io::ErrorKind::ConnectionRefused {
        staged.reason += ": nothing listens there; is the node running, and is the port right?";
    }
    staged
}

fn of_timeout(stage: Stage, error: TransportTimeoutError<StageError>) -> StageError {
    match error {
        TransportTimeoutError::Timeout => {
            StageError::new(stage, "no answer in time").with_code("TIMEOUT")
        }
        TransportTimeoutError::TimerError(error) => staged(stage, &error),
        TransportTimeoutError::Other(error) => error,
    }
}

fn of_dns(error: dns::Error<StageError>) -> StageError {
    match error {
        dns::Error::Transport(error) => error,
        // A name has several addresses: the one that got furthest says most.
        dns::Error::Dial(errors) => errors
            .into_iter()
            .map(of_dns)
            .max_by_key(|error| error.stage)
            .unwrap_or_else(|| StageError::new(Stage::Resolve, "the name has no addresses")),
        error => staged(Stage::Resolve, &error),
    }
}

fn of_websocket(error: websocket::error::Error<StageError>) -> StageError {
    use websocket::error::Error;
    match error {
        Error::Transport(error) => error,
        Error::Tls(error) => {
            let mut error = staged(Stage::Tls, &error);
            if error.reason.contains("UnknownIssuer") {
                error.reason += "; if the certificate is self-signed, name it with --tls-ca";
            } else if error.reason.contains("InvalidContentType") {
                error.reason += "; the port does not speak TLS: dial it as /ws, not /tls/ws";
            }
            error
        }
        Error::InvalidMultiaddr(address) => StageError::new(
            Stage::Address,
            format!("{address} is not a WebSocket address; it must end with /ws or /tls/ws"),
        ),
        error => {
            let error = staged(Stage::Websocket, &error);
            StageError::new(
                Stage::Websocket,
                format!(
                    "not a WebSocket peer, or not a plain one ({})",
                    error.reason
                ),
            )
        }
    }
}

fn of_upgrades<N, Y>(error: Either<Either<StageError, N>, Y>) -> StageError
where
    N: std::error::Error + 'static,
    Y: std::error::Error + 'static,
{
    let (stage, error) = match error {
        Either::Left(Either::Left(error)) => return error,
        Either::Left(Either::Right(error)) => (Stage::Noise, staged(Stage::Noise, &error)),
        Either::Right(error) => (Stage::Yamux, staged(Stage::Yamux, &error)),
    };
    if hung_up(&error.reason) {
        return StageError::new(stage, HUNG_UP).with_code("HUNG_UP");
    }
    StageError::new(
        stage,
        format!(
            "the peer does not speak libp2p's {stage} as it must ({})",
            error.reason
        ),
    )
}

/// What is said of a peer that went away during noise or yamux.
const HUNG_UP: &str = "the peer closed the connection";

/// libp2p and the websocket library say it in many words.
fn hung_up(reason: &str) -> bool {
    [
        "connection closed",
        "unexpected end of file",
        "Connection reset",
        "early eof",
    ]
    .iter()
    .any(|text| reason.contains(text))
}

/// A TCP transport that tells when it is asked to dial, which is when a name is resolved, and
/// when it is connected.
struct Observed<T> {
    inner: T,
    observer: Observer,
}

impl<T> Transport for Observed<T>
where
    T: Transport + Unpin,
    T::Dial: Send + 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let dial = self.inner.dial(address, opts)?;
        let observer = self.observer.clone();
        observer(Stage::Resolve);
        Ok(dial
            .map(move |result| {
                if result.is_ok() {
                    observer(Stage::Tcp);
                }
                result
            })
            .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// A connection upgrade that tells when it is done.
#[derive(Clone)]
struct Timed<U> {
    upgrade: U,
    stage: Stage,
    observer: Observer,
}

impl<U: UpgradeInfo> UpgradeInfo for Timed<U> {
    type Info = U::Info;
    type InfoIter = U::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.upgrade.protocol_info()
    }
}

impl<C, U> InboundConnectionUpgrade<C> for Timed<U>
where
    U: InboundConnectionUpgrade<C>,
{
    type Output = U::Output;
    type Error = U::Error;
    type Future = U::Future;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        self.upgrade.upgrade_inbound(socket, info)
    }
}

impl<C, U> OutboundConnectionUpgrade<C> for Timed<U>
where
    U: OutboundConnectionUpgrade<C>,
    U::Future: Send + 'static,
    U::Output: 'static,
    U::Error: 'static,
{
    type Output = U::Output;
    type Error = U::Error;
    type Future = BoxFuture<'static, Result<U::Output, U::Error>>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        let (stage, observer) = (self.stage, self.observer);
        let upgrade = self.upgrade.upgrade_outbound(socket, info);
        async move {
            let output = upgrade.await?;
            observer(stage);
            Ok(output)
        }
        .boxed()
    }
}
