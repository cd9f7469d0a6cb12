//! The identify report of a probed peer, and explanations that use it.
//!
//! Entry type: [`IdentifyReport`]. The rule it keeps: texts of an unknown peer are shortened, and quoted as its own
//! account.

use std::time::Instant;

use libp2p::identify;

use crate::handshake;
use crate::net::stage::{Stage, StageError};

/// Prefix of the handshake's protocol name in every version.
const HANDSHAKE_PREFIX: &str = "/diatribe/handshake/";
/// Maximum number of handshake versions that are named, and of characters of a peer's text.
const MAX_VERSIONS: usize = 4;
const MAX_TEXT_CHARS: usize = 100;

/// The identify report of a peer.
pub(super) struct IdentifyReport {
    pub(super) at: Instant,
    pub(super) agent: String,
    handshakes: Vec<String>,
}

impl IdentifyReport {
    pub(super) fn new(info: &identify::Info) -> IdentifyReport {
        let protocols = info.protocols.iter().map(AsRef::<str>::as_ref);
        let versions = protocols.filter(|protocol| protocol.starts_with(HANDSHAKE_PREFIX));
        IdentifyReport {
            at: Instant::now(),
            agent: shortened(&info.agent_version),
            handshakes: versions.take(MAX_VERSIONS).map(shortened).collect(),
        }
    }

    /// Adds the peer's identify agent string to version-mismatch errors.
    pub(super) fn explain_handshake(&self, mut error: StageError) -> StageError {
        let us = concat!("diatribe/", env!("CARGO_PKG_VERSION"));
        let them = &self.agent;
        match error.code {
            Some("NOT_SPOKEN") if self.handshakes.is_empty() => {
                error.reason = format!(
                    "the peer does not speak {}: it is another libp2p program, `{them}` by its own \
                     account. Dial a diatribe node; is the port right?",
                    handshake::PROTOCOL
                );
            }
            Some("NOT_SPOKEN") => {
                error.code = Some("VERSION");
                error.reason = format!(
                    "the peer does not speak {}, but offers {}: it is another version of diatribe, \
                     `{them}` by its own account, and this is {us}. Update whichever of the two is \
                     older",
                    handshake::PROTOCOL,
                    self.handshakes.join(" and "),
                );
            }
            Some("VERSION") => {
                error.reason = format!(
                    "{} (the peer is `{them}` by its own account, and this is {us})",
                    error.reason
                );
            }
            _ => {}
        }
        error
    }
}

/// Returns a peer's text, shortened for people and without the quotation mark used around it.
fn shortened(text: &str) -> String {
    text.chars()
        .filter(|c| *c != '`')
        .take(MAX_TEXT_CHARS)
        .collect()
}

/// Explains the explain_silence of a peer at `stage`.
pub(super) fn explain_silence(stage: Stage, secure: bool, reason: String) -> String {
    match stage {
        Stage::Websocket if secure => {
            "the port is open, but nothing answers in TLS and WebSocket in time: another program \
             may have the port, or it speaks no TLS (dial it as /ws)"
                .into()
        }
        Stage::Websocket => {
            "the port is open, but nothing answers the WebSocket upgrade in time: another program \
             may have the port, or it speaks TLS (dial it as /tls/ws)"
                .into()
        }
        Stage::Noise | Stage::Yamux => {
            format!("{reason}: a WebSocket server, but not one of libp2p, or a very slow one")
        }
        _ => reason,
    }
}
