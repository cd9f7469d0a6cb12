//! Maintenance of a log that no node has open: check, export and import.
//!
//! Entry points: [`check`], [`export`], [`import`]. The rule they keep: an imported batch is verified again.

use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::error::LogError;
use super::log::Log;
use super::read::{Archive, Query, RoomStats};
use super::schema::FILE_NAME;
use crate::identity::NetworkId;
use crate::model::{Outcome, Stored, Verified};
use crate::wire::envelope::id_in_room;

/// Maximum number of complaints of SQLite in a [`Report`].
const MAX_COMPLAINTS: usize = 20;

/// Maximum length of a line of an export: the largest envelope in base64, and the other fields.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// Number of batches stored in one transaction of an import.
const MAX_BATCHES_AT_ONCE: usize = 1000;

/// Report of [`check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The log's file.
    pub path: PathBuf,
    /// Statistics of each room.
    pub rooms: Vec<RoomStats>,
    /// Number of batches that were read and match their ids.
    pub whole: u64,
    /// Number of batches that do not match their ids.
    pub altered: u64,
    /// Complaints of SQLite about the file.
    pub complaints: Vec<String>,
}

impl Report {
    /// Returns whether the log is undamaged.
    pub fn is_sound(&self) -> bool {
        self.altered == 0 && self.complaints.is_empty()
    }
}

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

/// Reads the whole log in `dir`. A node may run meanwhile.
///
/// # Errors
///
/// [`LogError`] if there is no log or it cannot be read; damage is part of the report.
pub fn check(dir: &Path) -> Result<Report, LogError> {
    let path = dir.join(FILE_NAME);
    let archive = Archive::open(dir)?;
    let complaints = complaints_of(archive.connection());
    let complaints = match complaints.map_err(|error| LogError::from_sqlite(&path, error)) {
        Ok(complaints) => complaints,
        // So damaged that the integrity check fails itself.
        Err(LogError::Damaged { detail, .. }) => vec![detail],
        Err(error) => return Err(error),
    };
    let mut report = Report {
        rooms: Vec::new(),
        whole: 0,
        altered: 0,
        complaints,
        path,
    };
    let reader = archive.reader();
    let looked = reader.rooms().and_then(|rooms| {
        report.rooms = rooms;
        for page in reader.history(Query {
            conflicts: true,
            ..Query::default()
        }) {
            for stored in page? {
                let record = &stored.record;
                let whole = id_in_room(&record.room, &record.bytes) == record.id;
                // A running node removed it after its row was read.
                if stored.record.bytes.is_empty() && !reader.holds(&stored.record.id)? {
                    continue;
                }
                *(if whole {
                    &mut report.whole
                } else {
                    &mut report.altered
                }) += 1;
            }
        }
        Ok(())
    });
    if let Err(LogError::Damaged { detail, .. }) = looked {
        report.complaints.push(detail);
    } else {
        looked?;
    }
    Ok(report)
}

fn complaints_of(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = conn.prepare(&format!("PRAGMA integrity_check({MAX_COMPLAINTS})"))?;
    let lines = query.query_map([], |row| row.get::<_, String>(0))?;
    lines
        .filter(|line| !matches!(line, Ok(line) if line == "ok"))
        .collect()
}

/// A line of an export. An import reads the envelope and the network; the other fields are for people and programs.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    room: String,
    author: String,
    instance: String,
    first_seq: u64,
    count: u64,
    sent_at_ms: u64,
    id: String,
    /// Network of the batch; exports of an earlier version lack it.
    #[serde(default)]
    network: Option<String>,
    envelope: String,
}

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
                room: record.room,
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

/// Stores the batches of an [`export`] in `log`. `verify` returns the batch of an envelope, or an error; batches of
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
