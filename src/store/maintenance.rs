//! Looking after a log that no node has open: look for damage, carry it away and back.
//!
//! Entry points: [`check`], [`export`], [`import`]. The rule they keep: what comes back in goes through the verifier
//! again.

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

/// Complaints of SQLite that a [`Report`] holds at most.
const MAX_COMPLAINTS: usize = 20;

/// The longest line of an export: the largest envelope in base64, and the rest.
const MAX_LINE_BYTES: u64 = 4 << 20;

/// Batches stored in one transaction while importing.
const AT_ONCE: usize = 1000;

/// What [`check`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The log's file.
    pub path: PathBuf,
    /// What is held, room by room.
    pub rooms: Vec<RoomStats>,
    /// How many batches were read and found whole.
    pub whole: u64,
    /// Batches whose envelope is not what their id says.
    pub altered: u64,
    /// What SQLite found wrong with the file.
    pub complaints: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.altered == 0 && self.complaints.is_empty()
    }
}

/// EvictionReason an envelope is not taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not its author's in the log's network: said in another one, or forged.
    OtherNetwork,
    /// It is no batch, or cannot be one now.
    NoBatch(String),
}

impl From<String> for Refused {
    fn from(reason: String) -> Refused {
        Refused::NoBatch(reason)
    }
}

/// What [`import`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Batches that are new.
    pub stored: u64,
    /// Batches that were held before.
    pub held: u64,
    /// Batches older than what the log keeps.
    pub too_old: u64,
    /// Batches that are of another network.
    pub refused: u64,
    /// The line of the first of those, and its network, if the export says it.
    pub first_refused: Option<(u64, Option<NetworkId>)>,
}

/// Reads all of the log in `dir`. A node may run meanwhile.
pub fn check(dir: &Path) -> Result<Report, LogError> {
    let path = dir.join(FILE_NAME);
    let archive = Archive::open(dir)?;
    let complaints = complaints_of(archive.connection());
    let complaints = match complaints.map_err(|error| LogError::from_sqlite(&path, error)) {
        Ok(complaints) => complaints,
        // So damaged that not even the check comes to its end.
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
                // A large one that a node which runs has removed since its row was read.
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

/// A line of an export. Only the envelope is taken back; the rest is for people and programs.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    room: String,
    author: String,
    instance: String,
    first_seq: u64,
    count: u64,
    sent_at_ms: u64,
    id: String,
    /// The network it was said in; an export of an earlier version does not say it.
    #[serde(default)]
    network: Option<String>,
    envelope: String,
}

/// Writes what `query` asks for, a JSON object a line; returns how many. A node may run meanwhile.
pub fn export(dir: &Path, query: Query, out: &mut impl Write) -> Result<u64, LogError> {
    let archive = Archive::open(dir)?;
    let network = hex::encode(archive.network()?.as_bytes());
    let mut written = 0;
    for page in archive.reader().history(query) {
        for Stored { record, .. } in page? {
            // A large one that is not there: a node that runs has just removed it, or it is lost.
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

/// Stores what [`export`] wrote into `log`. `verify` turns an envelope into a checked batch, or says why not: those
/// of another network are counted and passed over.
///
/// # Errors
///
/// [`LogError::Import`] at the first line that is no batch; what comes before it is stored.
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
        if group.len() == AT_ONCE || read == 0 || bad.is_some() {
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

/// The batch of a line; if there is none, why, and the network that the line says it is of.
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
