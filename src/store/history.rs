//! Pages of history: batches by room, time and author.
//!
//! Entry points: [`Query`], [`Reader::page`]. The rule it keeps: a page has at most [`PAGE_ROWS`] batches and
//! [`PAGE_BYTES`] bytes and one batch more, however large the log is.

use std::path::Path;

use bytes::Bytes;
use rusqlite::{Row, params};

use super::blob_store::{self, BlobRef};
use super::error::LogError;
use super::names::room_at;
use super::read::Reader;
use crate::model::{Record, RoomName, Stored};

/// Maximum number of batches in a page of history.
pub const PAGE_ROWS: usize = 256;

/// Bytes of envelopes after which a page of history ends: a page exceeds them by one batch at most.
pub const PAGE_BYTES: usize = 4 << 20;

/// Filter of a read of history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only this room, in the order of sending. Without it all rooms, in the order of arrival.
    pub room: Option<RoomName>,
    /// Only this author (a libp2p `PublicKey`).
    pub author: Option<Vec<u8>>,
    /// Only batches sent at this Unix time in milliseconds or later.
    pub since_ms: Option<u64>,
    /// Only the last events, this many, and the rest of the batch with the first of them ([`Page::surplus`]).
    pub last: Option<usize>,
    /// Includes batches in conflict: their author had used the same numbers before.
    pub conflicts: bool,
}

/// Position of the next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// The beginning.
    Start,
    /// The position after a batch.
    After {
        /// Sending time of the batch.
        sent_at_ms: i64,
        /// Row number of its instance.
        instance: i64,
        /// Sequence number of its first event.
        first_seq: i64,
        /// Its position in the order of arrival.
        n: i64,
    },
}

/// A page of history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The batches, oldest first.
    pub batches: Vec<Stored>,
    /// Number of events in the first batch before the requested ones ([`Query::last`]).
    pub surplus: u64,
    /// Position of the next page; none after the last one.
    pub next: Option<Cursor>,
}

/// Iterator over pages of batches; nothing is locked between them.
#[derive(Debug)]
pub struct History<'a> {
    reader: Reader<'a>,
    query: Query,
    cursor: Option<Cursor>,
}

impl Iterator for History<'_> {
    type Item = Result<Vec<Stored>, LogError>;

    /// Returns the next page, which is never empty.
    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.page(&self.query, self.cursor.take()?) {
            Err(error) => Some(Err(error)),
            Ok(page) => {
                self.cursor = page.next;
                (!page.batches.is_empty()).then_some(Ok(page.batches))
            }
        }
    }
}

/// Reads a batch's position from four columns of a row, from `column` on.
fn place(row: &Row<'_>, column: usize) -> rusqlite::Result<Cursor> {
    Ok(Cursor::After {
        sent_at_ms: row.get(column)?,
        instance: row.get(column + 1)?,
        first_seq: row.get(column + 2)?,
        n: row.get(column + 3)?,
    })
}

pub(super) fn stored(log: &Path, row: &Row<'_>) -> rusqlite::Result<Stored> {
    let number = |column: usize| row.get::<_, i64>(column).map(|value| value as u64);
    Ok(Stored {
        record: Record {
            id: row.get(1)?,
            room: room_at(row, 2)?,
            author: row.get::<_, Vec<u8>>(3)?.into(),
            instance: row.get(4)?,
            first_seq: number(5)?,
            count: number(6)?,
            sent_at_ms: number(7)?,
            bytes: blob_store::envelope(log, row.get(10)?, BlobRef::of(row, 15)?)?.into(),
            brought_by: Bytes::new(),
        },
        stored_at_ms: number(8)?,
        conflict: row.get(9)?,
    })
}

/// Columns that order the batches of a room: batches of one millisecond by author and sequence number.
const BY_TIME: &str = "sent_at_ms, batch.instance, first_seq, batch.n";
const BY_TIME_BACK: &str = "sent_at_ms DESC, batch.instance DESC, first_seq DESC, batch.n DESC";

impl<'a> Reader<'a> {
    /// Returns an iterator over the pages of all batches that match `query`.
    pub fn history(&self, query: Query) -> History<'a> {
        History {
            reader: Reader::new(self.connection(), self.path()),
            query,
            cursor: Some(Cursor::Start),
        }
    }

    /// Returns the page of `query` that begins at `cursor`.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub fn page(&self, query: &Query, cursor: Cursor) -> Result<Page, LogError> {
        self.page_of(query, cursor)
            .map_err(|error| self.failed(error))
    }

    fn page_of(&self, query: &Query, cursor: Cursor) -> rusqlite::Result<Page> {
        let room = match &query.room {
            None => None,
            Some(name) => match self.room_number(name.as_str())? {
                None => return Ok(Page::default()),
                room => room,
            },
        };
        let selection = Selection { query, room };
        match (cursor, query.last) {
            (after @ Cursor::After { .. }, _) => self.read_page(&selection, &after, ""),
            (Cursor::Start, None) => self.read_page(&selection, &Cursor::Start, ""),
            (Cursor::Start, Some(0)) => Ok(Page::default()),
            (Cursor::Start, Some(last)) => {
                let (first, surplus) = self.last_events(&selection, last as u64)?;
                let page = self.read_page(&selection, &first, "=")?;
                Ok(Page { surplus, ..page })
            }
        }
    }

    /// Finds the batch with the first of the last `last` events. Returns its position and the number of its events
    /// before that one.
    fn last_events(&self, selection: &Selection<'_>, last: u64) -> rusqlite::Result<(Cursor, u64)> {
        let (filter, back) = (selection.filter(), selection.order().1);
        let sql = format!("SELECT {BY_TIME}, count {filter} ORDER BY {back}");
        let mut statement = self.connection().prepare_cached(&sql)?;
        let mut rows = statement.query(params![
            selection.since_ms(),
            selection.room,
            selection.query.author,
            selection.query.conflicts
        ])?;
        let (mut first, mut events) = (Cursor::Start, 0);
        // Reads backwards from the newest, one row in memory at a time.
        while events < last
            && let Some(row) = rows.next()?
        {
            first = place(row, 0)?;
            events += row.get::<_, i64>(4)? as u64;
        }
        Ok((first, events.saturating_sub(last)))
    }

    /// Reads the page after `from`; with `including` "=" it begins with the batch at `from`.
    fn read_page(
        &self,
        selection: &Selection<'_>,
        from: &Cursor,
        including: &str,
    ) -> rusqlite::Result<Page> {
        let (sent_at_ms, instance, first_seq, n) = match *from {
            Cursor::Start => (i64::MIN, i64::MIN, i64::MIN, i64::MIN),
            Cursor::After {
                sent_at_ms,
                instance,
                first_seq,
                n,
            } => (sent_at_ms, instance, first_seq, n),
        };
        let (filter, order) = (selection.filter(), selection.order().0);
        let (after, since_ms) = match selection.room {
            // SQLite seeks to the first of two bounds on a column: without the maximum each page would scan the
            // previous ones.
            Some(_) => (
                format!("({BY_TIME}) >{including} (?5, ?6, ?7, ?8)"),
                selection.since_ms().max(sent_at_ms),
            ),
            None => (
                format!("batch.n >{including} ?8 AND coalesce(?5, ?6, ?7) IS NOT NULL"),
                selection.since_ms(),
            ),
        };
        let sql = format!(
            "SELECT batch.n, id, (SELECT name FROM room WHERE room.n = batch.room), instance.author, instance.instance,
             first_seq, count, sent_at_ms, stored_at_ms, conflict, envelope, {BY_TIME},
             large_file, large_at, large_bytes {filter} AND {after}
             ORDER BY {order} LIMIT {PAGE_ROWS}"
        );
        let mut statement = self.connection().prepare_cached(&sql)?;
        let mut rows = statement.query(params![
            since_ms,
            selection.room,
            selection.query.author,
            selection.query.conflicts,
            sent_at_ms,
            instance,
            first_seq,
            n
        ])?;
        let mut page = Page::default();
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let stored = stored(self.path(), row)?;
            bytes += stored.record.bytes.len();
            let next = place(row, 11)?;
            page.batches.push(stored);
            if bytes >= PAGE_BYTES || page.batches.len() == PAGE_ROWS {
                page.next = Some(next);
                break;
            }
        }
        Ok(page)
    }
}

/// A query whose room was looked up.
struct Selection<'a> {
    query: &'a Query,
    /// Row number of the room; none for all rooms.
    room: Option<i64>,
}

impl Selection<'_> {
    fn since_ms(&self) -> i64 {
        self.query.since_ms.map_or(0, |ms| ms.min(i64::MAX as u64)) as i64
    }

    /// Returns the columns of the order and of its reverse.
    fn order(&self) -> (&'static str, &'static str) {
        match self.room {
            Some(_) => (BY_TIME, BY_TIME_BACK),
            None => ("batch.n", "batch.n DESC"),
        }
    }

    /// Returns the tables and conditions with parameters 1 to 4: `since_ms`, room, author, and whether to include
    /// conflicts.
    fn filter(&self) -> String {
        // Both variants must use `?2`: SQLite counts the parameters.
        let room = match self.room {
            Some(_) => "AND room = ?2",
            None => "AND ?2 IS NULL",
        };
        format!(
            "FROM batch JOIN instance ON instance.n = batch.instance
             WHERE sent_at_ms >= ?1 {room} AND (?3 IS NULL OR instance.author = ?3) AND conflict <= ?4"
        )
    }
}
