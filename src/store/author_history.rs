//! Reads an author's newest batches in a room: a node finds the sequence numbers of its earlier runs there.
//!
//! Entry point: [`Reader::newest_by_author`]. The rule it keeps: a bounded part is read, however much there is.

use bytes::Bytes;
use rusqlite::params;

use super::blob_store::{self, BlobRef};
use super::error::LogError;
use super::read::Reader;
use crate::model::Id;

/// Maximum number of instances, those with the latest first batch.
const MAX_INSTANCES: usize = 16;

/// Maximum number of batches of an instance.
const MAX_BATCHES: usize = 64;

/// Bytes of an instance's batches after which no more are read.
const MAX_BYTES: usize = 512 * 1024;

/// A batch of the author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthoredBatch {
    /// Id of the batch.
    pub id: Id,
    /// Sending time in Unix milliseconds.
    pub sent_at_ms: u64,
    /// Whether it has the highest numbers of its instance.
    pub is_last: bool,
    /// The envelope; empty if its blob is lost.
    pub bytes: Bytes,
}

impl Reader<'_> {
    /// Returns the newest batches of each of the newest instances of `author` (a libp2p `PublicKey`) in `room`.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub fn newest_by_author(
        &self,
        room: &str,
        author: &[u8],
    ) -> Result<Vec<AuthoredBatch>, LogError> {
        self.newest(room, author)
            .map_err(|error| LogError::from_sqlite(self.path(), error))
    }

    fn newest(&self, room: &str, author: &[u8]) -> rusqlite::Result<Vec<AuthoredBatch>> {
        let Some(room) = self.room_number(room)? else {
            return Ok(Vec::new());
        };
        let instances: Vec<i64> = self
            .connection()
            .prepare_cached(
                "SELECT n FROM instance WHERE author = ?1 AND EXISTS
                   (SELECT 1 FROM batch WHERE batch.instance = instance.n AND room = ?2 AND conflict = 0)
                 ORDER BY n DESC LIMIT ?3",
            )?
            .query_map(params![author, room, MAX_INSTANCES as i64], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let mut all = Vec::new();
        for instance in instances {
            let mut statement = self.connection().prepare_cached(
                "SELECT id, sent_at_ms, envelope, large_file, large_at, large_bytes FROM batch
                 WHERE instance = ?1 AND room = ?2 AND conflict = 0 ORDER BY first_seq DESC LIMIT ?3",
            )?;
            let mut rows = statement.query(params![instance, room, MAX_BATCHES as i64])?;
            let (mut bytes, mut is_last) = (0, true);
            while bytes < MAX_BYTES
                && let Some(row) = rows.next()?
            {
                let envelope =
                    blob_store::envelope(self.path(), row.get(2)?, BlobRef::of(row, 3)?)?;
                bytes += envelope.len();
                all.push(AuthoredBatch {
                    id: row.get(0)?,
                    sent_at_ms: row.get::<_, i64>(1)? as u64,
                    is_last,
                    bytes: envelope.into(),
                });
                is_last = false;
            }
        }
        Ok(all)
    }
}
