//! libp2p's errors as stages, in words that say what to do.
//!
//! Entry functions: one for each place where a connection can fail. The rule they keep: whoever
//! reads the reason need not know libp2p.

use libp2p::core::transport::TransportError;
use libp2p::swarm::{ConnectionDenied, ConnectionError, DialError, ListenError};

use crate::handshake;
use crate::net::diagnosis::stage_of;
use crate::net::limits;
use crate::net::stage::{self, Stage, StageError};

/// The code of a dial that led to this node itself.
pub(crate) const OWN_ID: &str = "OWN_ID";
const OWN_ID_REASON: &str = "that is this node itself, or a node with the same identity: \
     two nodes cannot share a passphrase or key file";

/// Why a dial failed.
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
        // An address is always given; libp2p leaves out those on which this node listens.
        DialError::NoAddresses => StageError::new(Stage::Address, OWN_ID_REASON).with_code(OWN_ID),
        DialError::Aborted | DialError::DialPeerConditionFalse(_) => {
            StageError::new(Stage::Link, "the dial was given up")
        }
    }
}

/// Why an inbound connection came to nothing; none when it is not worth a line.
pub(crate) fn of_incoming(error: &ListenError) -> Option<StageError> {
    match error {
        ListenError::LocalPeerId { .. } => {
            Some(StageError::new(Stage::Noise, OWN_ID_REASON).with_code(OWN_ID))
        }
        ListenError::Denied { cause } => Some(of_denied(cause)),
        // Whoever goes away after it has asked for WebSocket is a dialer that has found another way: there is nothing to be
        // told. One that goes before may be any program.
        ListenError::Transport(error) => Some(stage_of(error))
            .filter(|e| e.code != Some(stage::HUNG_UP) || e.stage < Stage::Noise),
        ListenError::WrongPeerId { .. } | ListenError::Aborted => None,
    }
}

/// Why a listener takes no connection at the moment.
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

/// Why a handshake failed.
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

/// Why a link is gone that we did not close.
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
