//! Imports the lines of an export.
//!
//! Entry point: [`import`]. The rule it keeps: an imported batch is verified again.

use std::io::{BufRead, Read};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::line::Line;
use crate::identity::NetworkId;
use crate::model::{Outcome, Verified};
use crate::store::error::LogError;
use crate::store::log::Log;

/// Maximum length of a line of an export: the largest envelope in base64, and the other fields.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// Number of batches stored in one transaction of an import.
const MAX_BATCHES_AT_ONCE: usize = 1000;

/// Reason for which an envelope is not imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It does not verify in the log's network: it was signed for another one, or forged.
    OtherNetwork,
    /// It is no batch, or not a valid one at present.
    NoBatch(String),
}

impl From<String> for Refused {
    fn from(reason: String) -> Refused {
        Refused::NoBatch(reason)
    }
}

/// Report of [`import`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Number of batches that were new.
    pub stored: u64,
    /// Number of batches that the log held already.
    pub held: u64,
    /// Number of batches over the maximum age.
    pub too_old: u64,
    /// Number of batches of another network.
    pub refused: u64,
    /// Line of the first batch of another network, and that network if the export names it.
    pub first_refused: Option<(u64, Option<NetworkId>)>,
}

/// Stores the batches of an [`export`](super::export) in `log`. `verify` returns the batch of an envelope, or an error; batches of
/// another network are counted and skipped.
///
/// # Errors
///
/// [`LogError::Import`] at the first line that is no batch; the lines before it are stored.
pub fn import<C: Verified, E: Into<Refused>>(
    mut log: Log,
    now_ms: u64,
    input: &mut impl BufRead,
    mut verify: impl FnMut(&[u8]) -> Result<C, E>,
) -> Result<Imported, LogError> {
    let mut imported = Imported::default();
    let mut group = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = input
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line);
        let read = read.map_err(|source| LogError::Io {
            path: PathBuf::from("the import"),
            source,
        })?;
        let mut bad = None;
        match (read > 0).then(|| take_line(&line, &mut verify)) {
            Some(Ok(batch)) => group.push(batch),
            Some(Err((Refused::OtherNetwork, network))) => {
                imported.refused += 1;
                imported.first_refused.get_or_insert((number, network));
            }
            Some(Err((Refused::NoBatch(detail), _))) => {
                bad = Some(LogError::Import {
                    line: number,
                    detail,
                });
            }
            None => {}
        }
        if group.len() == MAX_BATCHES_AT_ONCE || read == 0 || bad.is_some() {
            for outcome in log.append(now_ms, &group)? {
                *(match outcome {
                    Outcome::New { .. } | Outcome::Conflict { .. } => &mut imported.stored,
                    Outcome::Held => &mut imported.held,
                    Outcome::TooOld | Outcome::OutOfRange => &mut imported.too_old,
                }) += 1;
            }
            group.clear();
        }
        match bad {
            Some(error) => return Err(error),
            None if read == 0 => break,
            None => {}
        }
    }
    log.close()?;
    Ok(imported)
}

/// Verifies the batch of a line. The error has the network that the line names.
fn take_line<C, E: Into<Refused>>(
    line: &[u8],
    verify: &mut impl FnMut(&[u8]) -> Result<C, E>,
) -> Result<C, (Refused, Option<NetworkId>)> {
    let no_batch = |reason: String| (Refused::NoBatch(reason), None);
    let line: Line = serde_json::from_slice(line).map_err(|error| no_batch(error.to_string()))?;
    let envelope = BASE64.decode(&line.envelope);
    let envelope = envelope.map_err(|error| no_batch(error.to_string()))?;
    verify(&envelope).map_err(|error| {
        let mut network = [0; 32];
        let named = line
            .network
            .map(|id| hex::decode_to_slice(id, &mut network));
        let named = matches!(named, Some(Ok(())));
        (error.into(), named.then(|| NetworkId::from_bytes(network)))
    })
}
