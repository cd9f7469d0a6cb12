//! Checks a log for damage: SQLite's integrity check, and every batch against its id.
//!
//! Entry point: [`check`]. The rule it keeps: nothing is written.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::store::archive::Archive;
use crate::store::error::LogError;
use crate::store::history::Query;
use crate::store::paths::FILE_NAME;
use crate::store::read::RoomStats;
use crate::wire::envelope::id_in_room;

/// Maximum number of complaints of SQLite in a [`Report`].
const MAX_COMPLAINTS: usize = 20;

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
                let whole = id_in_room(record.room.as_str(), &record.bytes) == record.id;
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
