//! Explains failures of TLS with a cause and a remedy.
//!
//! Entry functions: [`of_connect`] for outbound connections, [`of_accept`] for inbound ones. The rules they keep: the
//! reason depends on the library's error variants, not on its texts; and only a bounded part of the peer's data is
//! repeated.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::{hung_up, in_full};
use crate::net::stage::{self, Stage, StageError};
use crate::net::tls::certificate::date;

/// Maximum number of a certificate's host names that are repeated, and of characters of each: the certificate's author
/// chose both.
const MAX_NAMES: usize = 4;
const MAX_NAME_CHARS: usize = 64;

/// Explains why TLS of an outbound connection failed.
pub(in crate::net) fn of_connect(error: &io::Error) -> StageError {
    let reason = match cause(error) {
        Some(Error::InvalidCertificate(error)) => of_certificate(error),
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "what answers there is not TLS; the port does not speak it: dial it as /ws, not /tls/ws".to_owned()
        }
        Some(Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )) => TOO_OLD.to_owned(),
        Some(Error::AlertReceived(AlertDescription::ProtocolVersion)) => TOO_OLD.to_owned(),
        Some(Error::AlertReceived(AlertDescription::UnrecognisedName)) => {
            "the server has no certificate for the name that was dialled: dial the name that it has one for".to_owned()
        }
        Some(error @ Error::AlertReceived(_)) => {
            format!("the server refuses to speak TLS with us ({error}): it may want other ciphers than this program has")
        }
        _ if is_hang_up(error) => {
            format!(
                "the port hangs up when greeted in TLS ({}): if it speaks none, dial it as /ws, not /tls/ws",
                in_full(error)
            )
        }
        _ => format!("TLS did not come up: {}", in_full(error)),
    };
    StageError::new(Stage::Tls, reason)
}

const TOO_OLD: &str = "the server speaks only a version of TLS that is older than 1.2, which is not spoken here because it is \
                       not safe: it must be updated or set up to speak 1.2 or 1.3";

/// Explains why TLS of an inbound connection failed, from the side of this node.
pub(in crate::net) fn of_accept(error: &io::Error) -> StageError {
    let reason = match cause(error) {
        Some(Error::AlertReceived(alert)) => match alert {
            AlertDescription::UnknownCA | AlertDescription::BadCertificate => {
                "a visitor does not believe this node's TLS certificate: if no public authority has signed it, the visitor \
                 must name it with --tls-ca, and dial the host that it is for"
                    .to_owned()
            }
            AlertDescription::CertificateExpired => {
                "a visitor says that this node's TLS certificate is out of date: renew it, unless the visitor's clock is wrong"
                    .to_owned()
            }
            alert => format!("a visitor broke TLS off: it says {alert:?}"),
        },
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "a visitor does not speak TLS, which this port needs: it must dial it as /tls/ws, not /ws".to_owned()
        }
        Some(Error::PeerIncompatible(_)) => {
            "a visitor speaks no version of TLS from 1.2 on, or none of the ciphers that are spoken here".to_owned()
        }
        _ if is_hang_up(error) => {
            let reason = "a visitor hung up before TLS was spoken: a health check, a port scan, or a peer that has found \
                          another way";
            return StageError::new(Stage::Tls, reason).with_code(stage::HUNG_UP);
        }
        _ => format!("TLS with a visitor did not come up: {}", in_full(error)),
    };
    StageError::new(Stage::Tls, reason).with_code(stage::NOT_TLS)
}

fn of_certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the certificate there has expired on {}: whoever runs the server must renew it, unless this machine's clock, \
             which says {}, is wrong",
            date(not_after.as_secs()),
            date(time.as_secs())
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the certificate there is not valid before {}: this machine's clock says {}; one of the two is wrong",
            date(not_before.as_secs()),
            date(time.as_secs())
        ),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "the certificate there is for {}, not for {}: dial the host that it is for",
            names(presented),
            expected.to_str()
        ),
        CertificateError::UnknownIssuer => {
            "the certificate there is not signed by an authority that is trusted here: if it is self-signed, or its authority \
             is one of your own, name that certificate with --tls-ca"
                .to_owned()
        }
        CertificateError::BadSignature => {
            "the certificate there names an authority that is trusted here, which has not signed it: it may have been made anew \
             under the same name; if it is the right one, name the new one with --tls-ca"
                .to_owned()
        }
        error if format!("{error:?}").contains("CaUsedAsEndEntity") => {
            "the certificate there is self-signed, and made for an authority: if it is the right one, name it with --tls-ca"
                .to_owned()
        }
        error => format!("the certificate there cannot be believed: {error}"),
    }
}

/// Lists the hosts that a certificate is for, without the library's quoting.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no host at all".to_owned();
    }
    let shown = presented.iter().take(MAX_NAMES).map(|name| {
        let quoted = name.split_once("(\"").map(|(_, rest)| rest);
        let inner = quoted.and_then(|rest| rest.rsplit_once("\")"));
        let name = inner.map_or(name.as_str(), |(inner, _)| inner);
        name.chars().take(MAX_NAME_CHARS).collect::<String>()
    });
    let shown: Vec<String> = shown.collect();
    match presented.len() - shown.len() {
        0 => shown.join(" and "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn is_hang_up(error: &io::Error) -> bool {
    let kind = error.kind();
    let text = in_full(error);
    kind == io::ErrorKind::UnexpectedEof || hung_up(&text) || text.contains("handshake eof")
}
