//! What a probe found behind an address, in words: what the peer says of itself, and its silence.
//!
//! Entry type: [`Identified`]. The rule it keeps: what a stranger says is cut short, and is told as
//! its own account.

use std::time::Instant;

use libp2p::identify;

use crate::handshake;
use crate::net::stage::{Stage, StageError};

/// What the handshake's protocol is called in any version.
const HANDSHAKES: &str = "/diatribe/handshake/";
/// Versions that are named, and characters of what a peer says of itself.
const MAX_VERSIONS: usize = 4;
const MAX_SAID: usize = 100;

/// What a peer says of itself.
pub(super) struct Identified {
    pub(super) at: Instant,
    pub(super) agent: String,
    handshakes: Vec<String>,
}

impl Identified {
    pub(super) fn new(info: &identify::Info) -> Identified {
        let protocols = info.protocols.iter().map(AsRef::<str>::as_ref);
        let versions = protocols.filter(|protocol| protocol.starts_with(HANDSHAKES));
        Identified {
            at: Instant::now(),
            agent: shortened(&info.agent_version),
            handshakes: versions.take(MAX_VERSIONS).map(shortened).collect(),
        }
    }

    /// Says with whose words a handshake came to nothing, where that may be the reason.
    pub(super) fn explain(&self, mut error: StageError) -> StageError {
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

/// What a stranger says of itself, no longer than a person wants to read, and without what it is quoted with.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| *c != '`').take(MAX_SAID).collect()
}

/// What a silent peer may be.
pub(super) fn silence(stage: Stage, secure: bool, reason: String) -> String {
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
