//! Diagnosis of a failed connection: converts the transport's errors to stages, with the cause and a remedy.
//!
//! Entry functions: [`stage_of`] for an error of the whole transport, and one for each of its layers. The rule they
//! keep: the reason needs no knowledge of libp2p.

#[cfg(feature = "tls")]
pub(super) mod tls;

use std::io;
use std::net::SocketAddr;

use either::Either;
use libp2p::core::transport::TransportError;
use libp2p::core::transport::timeout::TransportTimeoutError;
use libp2p_websocket::error::Error as WebsocketError;

use super::observed_upgrade::Alternative;
use super::stage::{self, Stage, StageError};

/// Returns the stage and the reason behind an error of the boxed transport.
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
                // Each boxed transport wraps errors once more, and the wrapped error is not the `source`.
                source = match error
                    .downcast_ref::<io::Error>()
                    .and_then(io::Error::get_ref)
                {
                    Some(wrapped) => Some(wrapped as _),
                    None => error.source(),
                };
            }
            StageError::new(Stage::Tcp, error.to_string())
        }
    }
}

/// Returns an error and its causes, each once.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !reason.contains(&more) {
            reason = format!("{reason}: {more}");
        }
        source = error.source();
    }
    reason
}

pub(super) fn of_tcp(error: &io::Error) -> StageError {
    let mut reason = in_full(error);
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            ": nothing listens there; is the node running, and is the port right?"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            ": there is no way to that address from here; is this machine online, and has it an \
             address of that kind (IPv4, IPv6) itself?"
        }
        io::ErrorKind::TimedOut => {
            ": the host is off, or a firewall drops what is sent to this port"
        }
        _ if is_out_of_files(error) => {
            ": this process has as many files and connections open as the system lets it; raise the limit (`ulimit -n`, or \
             LimitNOFILE= of a systemd service)"
        }
        io::ErrorKind::ConnectionReset => {
            ": it hung up at once; is it overloaded, or is there a firewall?"
        }
        _ => "",
    };
    reason += hint;
    StageError::new(Stage::Tcp, reason)
}

pub(super) fn of_timeout(stage: Stage, error: TransportTimeoutError<StageError>) -> StageError {
    match error {
        TransportTimeoutError::Timeout => {
            StageError::new(stage, "no answer in time").with_code("TIMEOUT")
        }
        TransportTimeoutError::TimerError(error) => StageError::new(stage, in_full(&error)),
        TransportTimeoutError::Other(error) => error,
    }
}

/// Returns why no address could be connected to, with the error of each. With `is_name` they are the addresses of a
/// name, which the reader does not know.
pub(super) fn of_addresses(mut failed: Vec<(SocketAddr, io::Error)>, is_name: bool) -> StageError {
    // On a machine without IPv6 its absence explains nothing when IPv4 fails as well, nor the other way round.
    let is_missing = |(_, error): &(SocketAddr, io::Error)| is_family_missing(error);
    match failed.iter().all(is_missing) {
        false => failed.retain(|attempt| !is_missing(attempt)),
        true if failed.iter().any(|(address, _)| address.is_ipv4()) => {
            failed.retain(|(address, _)| address.is_ipv4());
        }
        true => {}
    }
    let timed_out = |(_, error): &(SocketAddr, io::Error)| error.kind() == io::ErrorKind::TimedOut;
    let code = failed.iter().all(timed_out).then_some("TIMEOUT");
    let mut said: Vec<(Vec<String>, String)> = Vec::new();
    for (address, error) in failed {
        let reason = of_tcp(&error).reason;
        match said.iter_mut().find(|(_, known)| *known == reason) {
            Some((addresses, _)) => addresses.push(address.to_string()),
            None => said.push((vec![address.to_string()], reason)),
        }
    }
    let said: Vec<String> = said
        .into_iter()
        .map(|(addresses, reason)| match is_name {
            true => format!("{}: {reason}", addresses.join(" and ")),
            false => reason,
        })
        .collect();
    let error = StageError::new(Stage::Tcp, said.join("; "));
    StageError { code, ..error }
}

/// Returns whether the process, or the whole machine, has no file descriptor left.
fn is_out_of_files(error: &io::Error) -> bool {
    let text = error.to_string();
    text.contains("Too many open files")
}

/// Returns whether this machine has no address of the family, or no route with one.
fn is_family_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable
    ) || error.to_string().contains("Address family not supported")
}

pub(super) fn of_websocket(error: WebsocketError<StageError>) -> StageError {
    let reason = match error {
        WebsocketError::Transport(error) => return error,
        WebsocketError::InvalidMultiaddr(address) => {
            return StageError::new(
                Stage::Address,
                format!("{address} is not a WebSocket address; it must end with /ws or /tls/ws"),
            );
        }
        WebsocketError::TooManyRedirects | WebsocketError::InvalidRedirectLocation => {
            "a web server answers there and sends us elsewhere (an HTTP redirect), which is not \
             followed: dial the node itself"
                .to_owned()
        }
        error => of_upgrade_to_websocket(&in_full(&error)),
    };
    StageError::new(Stage::Websocket, reason)
}

/// Explains why a client's request for WebSocket failed, from the side of this node.
pub(super) fn of_visitor(error: WebsocketError<StageError>) -> StageError {
    let reason = match error {
        WebsocketError::Transport(error) => return error,
        error => in_full(&error),
    };
    match hung_up(&reason) {
        true => StageError::new(
            Stage::Websocket,
            "a visitor hung up before WebSocket was spoken",
        )
        .with_code(stage::HUNG_UP),
        false => StageError::new(
            Stage::Websocket,
            format!("a visitor's request for WebSocket is not as it must be ({reason})"),
        )
        .with_code(stage::NOT_WEBSOCKET),
    }
}

/// Explains that a client did not finish its connection in time.
pub(super) fn of_late_visitor(error: TransportTimeoutError<StageError>) -> StageError {
    match error {
        TransportTimeoutError::Timeout => StageError::new(
            Stage::Websocket,
            "a visitor has connected and not said in time what it wants",
        )
        .with_code(stage::SILENT),
        error => of_timeout(Stage::Websocket, error),
    }
}

/// Explains why an HTTP upgrade failed.
fn of_upgrade_to_websocket(reason: &str) -> String {
    if let Some((_, status)) = reason.split_once("status code = ") {
        return format!(
            "not a WebSocket peer: a web server answers there (HTTP {status}); is the port right? \
             A proxy in front of a node must pass WebSocket upgrades on"
        );
    }
    // HTTP/1.0 has no WebSocket.
    if reason.contains("http version was not 1.1") {
        return "not a WebSocket peer: a web server answers there, in HTTP/1.0, which has no WebSocket; is the port right? A \
                proxy in front of a node must speak HTTP/1.1"
            .to_owned();
    }
    if hung_up(reason) {
        return format!(
            "the connection was closed before WebSocket was spoken ({reason}): the node may have no \
             place for another connection, from here or at all, so try again in a moment; or what \
             listens there is no node, or speaks TLS (dial it as /tls/ws)"
        );
    }
    format!(
        "not a WebSocket peer: what answers there is not HTTP ({reason}). Another program has the \
         port, or it speaks TLS (dial it as /tls/ws)"
    )
}

/// Returns the protocol name of noise or yamux, and its purpose.
fn upgrade_of(stage: Stage) -> (&'static str, &'static str) {
    match stage {
        Stage::Noise => ("/noise", "encryption"),
        _ => ("/yamux/1.0.0", "multiplexing"),
    }
}

pub(super) fn of_upgrades<N, Y>(error: Either<Either<StageError, N>, Y>) -> StageError
where
    N: std::error::Error + 'static,
    Y: std::error::Error + 'static,
{
    match error {
        Either::Left(Either::Left(error)) => error,
        Either::Left(Either::Right(error)) => of_upgrade(Stage::Noise, &error),
        Either::Right(error) => of_upgrade(Stage::Yamux, &error),
    }
}

fn of_upgrade(stage: Stage, error: &(dyn std::error::Error + 'static)) -> StageError {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    if let Some(Alternative(name)) = causes.find_map(|error| error.downcast_ref()) {
        return not_offered(stage, Some(name));
    }
    let reason = in_full(error);
    // The negotiation reports this itself, or, with a single proposal, the first read after it.
    if reason.contains("negotiation failed") {
        return not_offered(stage, None);
    }
    if hung_up(&reason) {
        return StageError::new(stage, HUNG_UP).with_code(stage::HUNG_UP);
    }
    StageError::new(
        stage,
        format!("the peer does not speak libp2p's {stage} as it must ({reason})"),
    )
}

/// Explains that the peer speaks libp2p, but not the protocol that diatribe needs.
fn not_offered(stage: Stage, instead: Option<&str>) -> StageError {
    let (protocol, purpose) = upgrade_of(stage);
    let instead = instead.map_or(String::new(), |name| format!(", but {name}"));
    let reason = format!(
        "the peer speaks libp2p, but offers no {stage} ({protocol}){instead}: it is another libp2p \
         program, or one that is set up with another {purpose}. Dial a diatribe node, or give that \
         program {stage}"
    );
    StageError::new(stage, reason).with_code("NOT_SPOKEN")
}

/// The reason for a peer that closed the connection during noise or yamux.
const HUNG_UP: &str =
    "the peer closed the connection; it may have no place for another one at the moment";

/// Returns whether libp2p or the websocket library reports a closed connection, which they word in several ways.
pub(super) fn hung_up(reason: &str) -> bool {
    [
        "connection closed",
        "unexpected end of file",
        "Connection reset",
        "early eof",
        "Broken pipe",
    ]
    .iter()
    .any(|text| reason.contains(text))
}

#[cfg(test)]
mod tests;
