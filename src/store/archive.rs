//! A log opened only for reading, by another program than the node that writes it.
//!
//! Entry type: [`Archive`]. The rule it keeps: every batch acknowledged before the log is opened can be read.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::error::LogError;
use super::paths::FILE_NAME;
use super::read::Reader;
use super::recovery::recover_before_reading;
use super::schema;
use crate::identity::NetworkId;

/// A log that is open only for reading; a node may write it meanwhile.
#[derive(Debug)]
pub struct Archive {
    conn: Connection,
    path: PathBuf,
}

impl Archive {
    /// Opens the log in the directory `dir` without creating one. Brings the journal into the file first: waits up to
    /// 2 s for a running node's flush, and replays the journal of a killed one.
    ///
    /// # Errors
    ///
    /// [`LogError::Absent`] if there is no log, and other errors if it cannot be read.
    pub fn open(dir: &Path) -> Result<Archive, LogError> {
        let path = dir.join(FILE_NAME);
        recover_before_reading(&path);
        let conn = schema::open_to_read(&path)?;
        Ok(Archive { conn, path })
    }

    /// Returns the network that the log belongs to; the open network if it has none yet.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub fn network(&self) -> Result<NetworkId, LogError> {
        let network = schema::network_of(&self.conn);
        let network = network.map_err(|error| LogError::from_sqlite(&self.path, error))?;
        Ok(network.unwrap_or(NetworkId::OPEN))
    }

    /// Returns a reader of the committed batches.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.conn, &self.path)
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.conn
    }
}
