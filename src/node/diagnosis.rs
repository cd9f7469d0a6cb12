//! The transport's errors as stages, in words that say what was found and what to do.
//!
//! Entry functions: [`stage_of`] for an error of the whole transport, and one for each of its
//! layers. The rule they keep: whoever reads the reason need not know libp2p.

use std::io;

use either::Either;
use libp2p::core::transport::TransportError;
use libp2p::core::transport::timeout::TransportTimeoutError;
use libp2p::dns;
use libp2p_websocket::error::Error as WebsocketError;

use super::stage::{Stage, StageError};
use super::upgrade::Instead;

/// The stage and the reason behind an error of the boxed transport.
pub(super) fn stage_of(error: &TransportError<io::Error>) -> StageError {
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
                // Each boxed transport around another wraps its errors once more, and what is wrapped is not the source.
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

/// An error and its causes, each once.
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

pub(super) fn of_dns(error: dns::Error<StageError>) -> StageError {
    match error {
        dns::Error::Transport(error) => error,
        // A name has several addresses: the one that got furthest says most.
        dns::Error::Dial(errors) => errors
            .into_iter()
            .map(of_dns)
            .max_by_key(|error| error.stage)
            .unwrap_or_else(|| StageError::new(Stage::Resolve, "the name has no addresses")),
        error => StageError::new(Stage::Resolve, of_resolver(&in_full(&error))),
    }
}

/// What the resolver says, for people: it speaks of queries, records and classes.
fn of_resolver(text: &str) -> String {
    let quoted = text
        .split_once("Name(\"")
        .and_then(|(_, rest)| rest.split_once('"'));
    let name = quoted.map_or("the name", |(name, _)| name.trim_end_matches('.'));
    if text.contains("no records found") {
        format!("there is no host called {name}: is it spelt right, and does it have an address?")
    } else {
        format!("{name} cannot be looked up ({text}): is this machine online?")
    }
}

pub(super) fn of_websocket(error: WebsocketError<StageError>) -> StageError {
    let reason = match error {
        WebsocketError::Transport(error) => return error,
        WebsocketError::Tls(error) => return of_tls(in_full(&error)),
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

fn of_tls(reason: String) -> StageError {
    let hint = if reason.contains("UnknownIssuer") || reason.contains("CaUsedAsEndEntity") {
        "; if the certificate is self-signed, name it with --tls-ca"
    } else if reason.contains("InvalidContentType") {
        "; the port does not speak TLS: dial it as /ws, not /tls/ws"
    } else if hung_up(&reason) || reason.contains("handshake eof") {
        "; the port hangs up when greeted in TLS: if it speaks none, dial it as /ws, not /tls/ws"
    } else if reason.contains("NotValidForName") {
        "; the certificate is for another host: dial the name that it is for"
    } else if reason.contains("Expired") {
        "; the certificate is out of date, or this machine's clock is wrong"
    } else {
        ""
    };
    StageError::new(Stage::Tls, reason + hint)
}

/// Why an HTTP upgrade came to nothing.
fn of_upgrade_to_websocket(reason: &str) -> String {
    if let Some((_, status)) = reason.split_once("status code = ") {
        return format!(
            "not a WebSocket peer: a web server answers there (HTTP {status}); is the port right? \
             A proxy in front of a node must pass WebSocket upgrades on"
        );
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

/// What noise and yamux are called on the wire, and what they are for.
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
    if let Some(Instead(name)) = causes.find_map(|error| error.downcast_ref()) {
        return not_offered(stage, Some(name));
    }
    let reason = in_full(error);
    // Found when negotiating, or, where one thing only was proposed, by what was to follow it.
    if reason.contains("negotiation failed") {
        return not_offered(stage, None);
    }
    if hung_up(&reason) {
        return StageError::new(stage, HUNG_UP).with_code("HUNG_UP");
    }
    StageError::new(
        stage,
        format!("the peer does not speak libp2p's {stage} as it must ({reason})"),
    )
}

/// The peer speaks libp2p, but has not what diatribe needs.
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

/// What is said of a peer that went away during noise or yamux.
const HUNG_UP: &str =
    "the peer closed the connection; it may have no place for another one at the moment";

/// libp2p and the websocket library say it in many words.
fn hung_up(reason: &str) -> bool {
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
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_found_however_often_its_error_was_wrapped() {
        let error = StageError::new(Stage::Resolve, "nobody").with_code("CODE");
        let mut wrapped = io::Error::other(error.clone());
        for _ in 0..3 {
            let found = stage_of(&TransportError::Other(io::Error::other(wrapped)));
            assert_eq!(found, error);
            wrapped = io::Error::other(io::Error::other(error.clone()));
        }
    }

    #[test]
    fn a_name_that_does_not_exist_is_named_without_the_resolvers_words() {
        let text = "DNS error: no records found for Query { name: Name(\"nobody.invalid.\"), \
                    query_type: A, query_class: IN }";
        let said = of_resolver(text);
        assert!(said.contains("no host called nobody.invalid"), "{said}");
        assert!(!said.contains("query"), "{said}");
        let said = of_resolver("DNS error: request timed out");
        assert!(said.contains("is this machine online?"), "{said}");
    }

    #[test]
    fn certificates_that_are_refused_say_what_to_do() {
        for (error, advice) in [
            ("invalid peer certificate: UnknownIssuer", "--tls-ca"),
            ("invalid peer certificate: Expired", "clock"),
            ("received corrupt message of type InvalidContentType", "/ws"),
            ("i/o error: tls handshake eof", "dial it as /ws"),
        ] {
            let said = of_tls(error.to_owned());
            assert!(said.stage == Stage::Tls && said.reason.contains(advice));
        }
    }
}
