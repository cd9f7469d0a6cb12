//! Reads the log: pages of history by room, time and author; envelopes by id for a fetch; items for anti-entropy.
//!
//! Entry type: [`Reader`]. The rule it keeps: every answer has a maximum size, however large the log is.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::blob_store::{self, BlobRef};
use super::error::LogError;
use super::log::recover_before_reading;
use super::schema;
use crate::identity::NetworkId;
use crate::model::{Found, Id, Item, Record, Stored};

/// Maximum number of batches in a page of history.
pub const PAGE_ROWS: usize = 256;

/// Bytes of envelopes after which a page of history ends: a page exceeds them by one batch at most.
pub const PAGE_BYTES: usize = 4 << 20;

/// Filter of a read of history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only this room, in the order of sending. Without it all rooms, in the order of arrival.
    pub room: Option<String>,
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

/// Statistics of a room in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomStats {
    /// The room.
    pub room: String,
    /// Number of batches.
    pub batches: u64,
    /// Low watermark: Unix time in milliseconds below which batches are refused.
    pub low_watermark_ms: u64,
    /// Sending times of the oldest and the newest batch.
    pub span_ms: Option<(u64, u64)>,
}

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
        let path = dir.join(schema::FILE_NAME);
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

/// Reads over one connection to the log.
#[derive(Debug)]
pub struct Reader<'a> {
    conn: &'a Connection,
    path: &'a Path,
}

impl<'a> Reader<'a> {
    pub(super) fn new(conn: &'a Connection, path: &'a Path) -> Reader<'a> {
        Reader { conn, path }
    }

    /// Returns an iterator over the pages of all batches that match `query`.
    pub fn history(&self, query: Query) -> History<'a> {
        History {
            reader: Reader { ..*self },
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

    /// Returns the envelopes of `ids` in `room`, in that order, up to `most` bytes in total, but at least one.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub fn fetch(&self, room: &str, ids: &[Id], most: usize) -> Result<Found, LogError> {
        self.found(room, ids, most)
            .map_err(|error| self.failed(error))
    }

    /// Returns the newest `most` items of `room`, oldest first, tombstones included, and the room's low watermark,
    /// which is raised if `most` cut off older items.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub fn items(&self, room: &str, most: usize) -> Result<(u64, Vec<Item>), LogError> {
        self.newest_items(room, most)
            .map_err(|error| self.failed(error))
    }

    /// Returns the number of tombstones of `room`.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub fn removed_in(&self, room: &str) -> Result<u64, LogError> {
        self.conn
            .prepare_cached(
                "SELECT count(*) FROM removed JOIN room ON room.n = removed.room WHERE name = ?1",
            )
            .and_then(|mut query| query.query_row([room], |row| row.get::<_, i64>(0)))
            .map(|count| count as u64)
            .map_err(|error| self.failed(error))
    }

    /// Returns whether the log holds the batch.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub fn holds(&self, id: &Id) -> Result<bool, LogError> {
        self.conn
            .prepare_cached("SELECT 1 FROM batch WHERE id = ?1")
            .and_then(|mut query| query.exists([id]))
            .map_err(|error| self.failed(error))
    }

    /// Returns statistics of each room.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub fn rooms(&self) -> Result<Vec<RoomStats>, LogError> {
        self.room_stats().map_err(|error| self.failed(error))
    }

    pub(super) fn connection(&self) -> &Connection {
        self.conn
    }

    pub(super) fn path(&self) -> &Path {
        self.path
    }

    fn failed(&self, error: rusqlite::Error) -> LogError {
        LogError::from_sqlite(self.path, error)
    }

    fn page_of(&self, query: &Query, cursor: Cursor) -> rusqlite::Result<Page> {
        let room = match &query.room {
            None => None,
            Some(name) => match self.room_number(name)? {
                None => {
                    return Ok(Page::default());
                }
                room => room,
            },
        };
        let since = query.since_ms.map_or(0, |ms| ms.min(i64::MAX as u64)) as i64;
        // Orders the batches of one millisecond by author and sequence number.
        const BY_TIME: &str = "sent_at_ms, batch.instance, first_seq, batch.n";
        const BY_TIME_BACK: &str =
            "sent_at_ms DESC, batch.instance DESC, first_seq DESC, batch.n DESC";
        let (order, back) = if room.is_some() {
            (BY_TIME, BY_TIME_BACK)
        } else {
            ("batch.n", "batch.n DESC")
        };
        let filter = format!(
            "FROM batch JOIN instance ON instance.n = batch.instance
             WHERE sent_at_ms >= ?1 {} AND (?3 IS NULL OR instance.author = ?3) AND conflict <= ?4",
            // Both variants must use `?2`: SQLite counts the parameters.
            if room.is_some() {
                "AND room = ?2"
            } else {
                "AND ?2 IS NULL"
            },
        );
        let mut page = Page::default();
        let (from, including) = match (cursor, query.last) {
            (after @ Cursor::After { .. }, _) => (after, ""),
            (Cursor::Start, None) => (Cursor::Start, ""),
            (Cursor::Start, Some(0)) => return Ok(page),
            (Cursor::Start, Some(last)) => {
                let sql = format!("SELECT {BY_TIME}, count {filter} ORDER BY {back}");
                let mut statement = self.conn.prepare_cached(&sql)?;
                let mut rows =
                    statement.query(params![since, room, query.author, query.conflicts])?;
                let (mut first, mut events, last) = (Cursor::Start, 0, last as u64);
                // Reads backwards from the newest, one row in memory at a time.
                while events < last
                    && let Some(row) = rows.next()?
                {
                    first = place(row, 0)?;
                    events += row.get::<_, i64>(4)? as u64;
                }
                page.surplus = events.saturating_sub(last);
                (first, "=")
            }
        };
        let (sent_at_ms, instance, first_seq, n) = match from {
            Cursor::Start => (i64::MIN, i64::MIN, i64::MIN, i64::MIN),
            Cursor::After {
                sent_at_ms,
                instance,
                first_seq,
                n,
            } => (sent_at_ms, instance, first_seq, n),
        };
        let after = if room.is_some() {
            format!("({BY_TIME}) >{including} (?5, ?6, ?7, ?8)")
        } else {
            format!("batch.n >{including} ?8 AND coalesce(?5, ?6, ?7) IS NOT NULL")
        };
        let sql = format!(
            "SELECT batch.n, id, (SELECT name FROM room WHERE room.n = batch.room), instance.author, instance.instance,
             first_seq, count, sent_at_ms, stored_at_ms, conflict, envelope, {BY_TIME},
             large_file, large_at, large_bytes {filter} AND {after}
             ORDER BY {order} LIMIT {PAGE_ROWS}"
        );
        let mut statement = self.conn.prepare_cached(&sql)?;
        // SQLite seeks to the first of two bounds on a column: without this each page would scan the previous ones.
        let since = if room.is_some() {
            since.max(sent_at_ms)
        } else {
            since
        };
        let mut rows = statement.query(params![
            since,
            room,
            query.author,
            query.conflicts,
            sent_at_ms,
            instance,
            first_seq,
            n
        ])?;
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let stored = stored(self.path, row)?;
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

    fn found(&self, room_name: &str, ids: &[Id], most: usize) -> rusqlite::Result<Found> {
        let mut found = Found::default();
        let Some(room) = self.room_number(room_name)? else {
            return Ok(Found {
                missing: ids.to_vec(),
                looked_at: ids.len(),
                ..found
            });
        };
        let mut query = self
            .conn
            .prepare_cached(
                "SELECT envelope, large_file, large_at, large_bytes FROM batch WHERE id = ?1 AND room = ?2",
            )?;
        let mut bytes = 0;
        for id in ids {
            let held = query
                .query_row(params![id, room], |row| {
                    Ok((row.get(0)?, BlobRef::of(row, 1)?))
                })
                .optional()?;
            let envelope = match held {
                // Skips reading an envelope that does not fit.
                Some((_, Some(place))) if bytes > 0 && bytes + place.len() > most => break,
                Some((inline, place)) => {
                    blob_store::whole_envelope(self.path, inline, place, room_name, id)?
                }
                None => None,
            };
            match envelope {
                None => match self.removed(room, id)? {
                    Some(item) => found.removed.push(item),
                    None => found.missing.push(*id),
                },
                Some(envelope) if bytes > 0 && bytes + envelope.len() > most => break,
                Some(envelope) => {
                    bytes += envelope.len();
                    found.envelopes.push(Bytes::from(envelope));
                }
            }
            found.looked_at += 1;
        }
        Ok(found)
    }

    /// Returns the tombstone with this id.
    fn removed(&self, room: i64, id: &Id) -> rusqlite::Result<Option<Item>> {
        self.conn
            .prepare_cached("SELECT sent_at_ms FROM removed WHERE id = ?1 AND room = ?2")?
            .query_row(params![id, room], |row| {
                let sent_at_ms = row.get::<_, i64>(0)? as u64;
                Ok(Item {
                    sent_at_ms,
                    id: *id,
                })
            })
            .optional()
    }

    fn newest_items(&self, room: &str, most: usize) -> rusqlite::Result<(u64, Vec<Item>)> {
        let Some((n, low_watermark)) = self
            .conn
            .prepare_cached("SELECT n, horizon_ms FROM room WHERE name = ?1")?
            .query_row([room], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)? as u64))
            })
            .optional()?
        else {
            return Ok((0, Vec::new()));
        };
        let mut items: Vec<Item> = self
            .conn
            .prepare_cached(
                "SELECT sent_at_ms, id FROM batch WHERE room = ?1
                 UNION ALL SELECT sent_at_ms, id FROM removed WHERE room = ?1
                 ORDER BY sent_at_ms DESC, id DESC LIMIT ?2",
            )?
            .query_map(params![n, most as i64], |row| {
                Ok(Item {
                    sent_at_ms: row.get::<_, i64>(0)? as u64,
                    id: row.get(1)?,
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        items.reverse();
        let low_watermark = match items.first() {
            // Items of the first one's millisecond may be cut off.
            Some(first) if items.len() == most => low_watermark.max(first.sent_at_ms + 1),
            _ => low_watermark,
        };
        Ok((low_watermark, items))
    }

    pub(super) fn room_number(&self, name: &str) -> rusqlite::Result<Option<i64>> {
        self.conn
            .prepare_cached("SELECT n FROM room WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()
    }

    fn room_stats(&self) -> rusqlite::Result<Vec<RoomStats>> {
        self.conn
            .prepare_cached(
                "SELECT name, (SELECT count(*) FROM batch WHERE room = room.n), horizon_ms,
                 (SELECT min(sent_at_ms) FROM batch WHERE room = room.n),
                 (SELECT max(sent_at_ms) FROM batch WHERE room = room.n)
                 FROM room ORDER BY name",
            )?
            .query_map([], |row| {
                let span: (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
                Ok(RoomStats {
                    room: row.get(0)?,
                    batches: row.get::<_, i64>(1)? as u64,
                    low_watermark_ms: row.get::<_, i64>(2)? as u64,
                    span_ms: span.0.zip(span.1).map(|(a, b)| (a as u64, b as u64)),
                })
            })?
            .collect()
    }
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
            room: row.get(2)?,
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
