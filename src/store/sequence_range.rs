//! Reads the events of a stream by their sequence numbers.
//!
//! Entry point: [`Reader::by_sequence`]. The rule it keeps: an answer is no larger than a page of history, and has no
//! batch in conflict (equivocation).

use rusqlite::params;

use super::error::LogError;
use super::history::{PAGE_BYTES, PAGE_ROWS, stored};
use super::read::Reader;
use crate::model::{InstanceId, RoomName, Stored};

/// Range of sequence numbers in the stream of an author's process in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeqRange {
    /// The room.
    pub room: RoomName,
    /// The author's libp2p `PublicKey`.
    pub author: Vec<u8>,
    /// Random id of the author's process.
    pub instance: InstanceId,
    /// Number of the first event.
    pub first: u64,
    /// Number of the last event.
    pub last: u64,
}

/// Part of a range, from its beginning on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeqPage {
    /// The batches with these events, in the order of their numbers. The first and the last one may have further
    /// events.
    pub batches: Vec<Stored>,
    /// Whether the log may have more of the range.
    pub has_more: bool,
}

impl Reader<'_> {
    /// Returns the batches with the events of `numbers`, from the first one on: at most [`PAGE_ROWS`], and no more
    /// after [`PAGE_BYTES`].
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub fn by_sequence(&self, numbers: &SeqRange) -> Result<SeqPage, LogError> {
        self.read_range(numbers)
            .map_err(|error| LogError::from_sqlite(self.path(), error))
    }

    fn read_range(&self, numbers: &SeqRange) -> rusqlite::Result<SeqPage> {
        let Some(room) = self.room_number(numbers.room.as_str())? else {
            return Ok(SeqPage::default());
        };
        let column = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        // Batches without conflict do not overlap: only the last one that begins before the range can reach into it.
        let mut statement = self.connection().prepare_cached(&format!(
            "SELECT batch.n, id, (SELECT name FROM room WHERE room.n = batch.room), instance.author, instance.instance,
             first_seq, count, sent_at_ms, stored_at_ms, conflict, envelope, NULL, NULL, NULL, NULL,
             large_file, large_at, large_bytes
             FROM batch JOIN instance ON instance.n = batch.instance
             WHERE conflict = 0 AND room = ?1
             AND batch.instance = (SELECT n FROM instance WHERE author = ?2 AND instance = ?3)
             AND first_seq >= coalesce((SELECT max(first_seq) FROM batch WHERE conflict = 0 AND room = ?1
               AND instance = (SELECT n FROM instance WHERE author = ?2 AND instance = ?3) AND first_seq <= ?4), ?4)
             AND first_seq <= ?5 AND first_seq + count > ?4
             ORDER BY first_seq LIMIT {PAGE_ROWS}"
        ))?;
        let mut rows = statement.query(params![
            room,
            numbers.author,
            numbers.instance,
            column(numbers.first),
            column(numbers.last)
        ])?;
        let mut page = SeqPage::default();
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let stored = stored(self.path(), row)?;
            bytes += stored.record.bytes.len();
            let reaches_the_end = stored.record.end_seq() > numbers.last;
            page.batches.push(stored);
            if !reaches_the_end && (bytes >= PAGE_BYTES || page.batches.len() == PAGE_ROWS) {
                page.has_more = true;
                break;
            }
        }
        Ok(page)
    }
}
