//! Exports batches as JSON lines.
//!
//! Entry point: [`export`].

use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::line::Line;
use crate::model::Stored;
use crate::store::archive::Archive;
use crate::store::error::LogError;
use crate::store::history::Query;

/// Writes the batches that match `query`, one JSON object a line, and returns their number. A node may run meanwhile.
///
/// # Errors
///
/// [`LogError`] if the log cannot be read or `out` cannot be written.
pub fn export(dir: &Path, query: Query, out: &mut impl Write) -> Result<u64, LogError> {
    let archive = Archive::open(dir)?;
    let network = hex::encode(archive.network()?.as_bytes());
    let mut written = 0;
    for page in archive.reader().history(query) {
        for Stored { record, .. } in page? {
            // The blob is missing: a running node has just removed it, or it is lost.
            if record.bytes.is_empty() {
                continue;
            }
            let line = Line {
                author: hex::encode(&record.author),
                instance: hex::encode(record.instance),
                first_seq: record.first_seq,
                count: record.count,
                sent_at_ms: record.sent_at_ms,
                id: hex::encode(record.id),
                network: Some(network.clone()),
                envelope: BASE64.encode(&record.bytes),
                room: record.room.as_str().to_owned(),
            };
            serde_json::to_writer(&mut *out, &line)
                .map_err(std::io::Error::from)
                .and_then(|()| out.write_all(b"\n"))
                .map_err(|source| LogError::Io {
                    path: PathBuf::from("the export"),
                    source,
                })?;
            written += 1;
        }
    }
    Ok(written)
}
