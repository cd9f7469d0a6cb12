//! Converts errors of the swarm to stages, with a cause and a remedy.
//!
//! Entry functions: one for each place where a connection can fail. The rule they keep: the reason needs no knowledge
//! of libp2p.

use libp2p::core::transport::TransportError;
use libp2p::swarm::{ConnectionDenied, ConnectionError, DialError, ListenError};

use crate::handshake;
use crate::net::diagnosis::stage_of;
use crate::net::limits;
use crate::net::stage::{self, Stage, StageError};

/// Error code: a dial reached this node itself.
pub(crate) const OWN_ID: &str = "OWN_ID";
const OWN_ID_REASON: &str = "that is this node itself, or a node with the same identity: \
     two nodes cannot share a passphrase or key file";

/// Explains a failed dial.
pub(crate) fn of_dial(error: &DialError) -> StageError {
    match error {
        DialError::LocalPeerId { .. } => {
            StageError::new(Stage::Noise, OWN_ID_REASON).with_code(OWN_ID)
        }
        DialError::WrongPeerId { obtained, .. } => StageError::new(
            Stage::Noise,
            format!(
                "another peer answers there: {obtained}; correct the /p2p/ part of the address"
            ),
        )
        .with_code("WRONG_PEER"),
        DialError::Denied { cause } => of_denied(cause),
        DialError::Transport(errors) => errors
            .iter()
            .map(|(_, error)| stage_of(error))
            .max_by_key(|error| error.stage)
            .unwrap_or_else(|| StageError::new(Stage::Address, "no address to dial")),
        // The node always passes an address; libp2p removes those on which this node listens.
        DialError::NoAddresses => StageError::new(Stage::Address, OWN_ID_REASON).with_code(OWN_ID),
        DialError::Aborted | DialError::DialPeerConditionFalse(_) => {
            StageError::new(Stage::Link, "the dial was given up")
        }
    }
}

/// Explains a failed inbound connection; none when it is not worth a line.
pub(crate) fn of_incoming(error: &ListenError) -> Option<StageError> {
    match error {
        ListenError::LocalPeerId { .. } => {
            Some(StageError::new(Stage::Noise, OWN_ID_REASON).with_code(OWN_ID))
        }
        ListenError::Denied { cause } => Some(of_denied(cause)),
        // A client that leaves after its request for WebSocket is a dialer that connected by another address: there is
        // nothing to report. Before that it may be any program.
        ListenError::Transport(error) => Some(stage_of(error))
            .filter(|e| e.code != Some(stage::HUNG_UP) || e.stage < Stage::Noise),
        ListenError::WrongPeerId { .. } | ListenError::Aborted => None,
    }
}

/// Explains why a listener cannot accept connections at the moment.
pub(crate) fn of_listener(error: std::io::Error) -> String {
    let staged = stage_of(&TransportError::Other(error));
    staged.reason
}

fn of_denied(cause: &ConnectionDenied) -> StageError {
    let reason = match cause.downcast_ref::<limits::Refused>() {
        Some(refused) => refused.to_string(),
        None => match std::error::Error::source(cause) {
            Some(source) => source.to_string(),
            None => cause.to_string(),
        },
    };
    StageError::new(Stage::Link, reason).with_code("LIMIT")
}

/// Explains a failed handshake.
pub(crate) fn of_handshake(failure: &handshake::Failure) -> StageError {
    let stage = match failure.stage {
        handshake::Stage::Round1 => Stage::Handshake1,
        handshake::Stage::Round2 => Stage::Handshake2,
    };
    let code = match (failure.code, failure.origin) {
        (Some(code), _) => Some(code.name()),
        (None, handshake::FailureOrigin::Timeout) => Some("TIMEOUT"),
        (None, handshake::FailureOrigin::Violation) => Some("VIOLATION"),
        (None, _) if failure.reason == handshake::Reason::NotSpoken => Some("NOT_SPOKEN"),
        (None, _) => None,
    };
    StageError {
        stage,
        code,
        reason: failure.reason.to_string(),
    }
}

/// Explains the loss of a link that this node did not close.
pub(crate) fn of_close(cause: Option<&ConnectionError>) -> String {
    match cause {
        None => "closed".to_owned(),
        Some(ConnectionError::KeepAliveTimeout) => "nothing was left to do on it".to_owned(),
        Some(ConnectionError::IO(error)) => {
            let text = error.to_string();
            let hung_up = error.kind() == std::io::ErrorKind::UnexpectedEof
                || text.to_lowercase().contains("closed");
            if hung_up {
                "the peer closed the link".to_owned()
            } else {
                format!("the link was lost: {text}")
            }
        }
    }
}
