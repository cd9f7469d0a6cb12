//! Reading the log: by room, time and author in pages, by id for neighbours, as items to compare.
//!
//! Entry type: [`Reader`]. The rule it keeps: no answer is larger than its caller said, however
//! large the log is.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::blob_store::{self, BlobRef};
use super::error::LogError;
use super::log::recover_before_reading;
use super::schema;
use crate::identity::NetworkId;
use crate::model::{Found, Id, Item, Record, Stored};

/// Rows in one page of history.
pub const PAGE_ROWS: usize = 256;

/// Envelope bytes after which a page of history ends: it holds at most this and one batch more.
pub const PAGE_BYTES: usize = 4 << 20;

/// Which batches of the log are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Of this room only, in the order of sending; of all rooms, in the order of arrival.
    pub room: Option<String>,
    /// By this author only (a libp2p `PublicKey`).
    pub author: Option<Vec<u8>>,
    /// Sent at this Unix time in milliseconds or later.
    pub since_ms: Option<u64>,
    /// The last so many events only, and what else is in the batch of the first of them
    /// ([`Page::surplus`]).
    pub last: Option<usize>,
    /// Also the batches whose numbers their author had given away before.
    pub conflicts: bool,
}

/// Where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// At the beginning.
    Start,
    /// After this batch.
    After {
        /// When it was sent.
        sent_at_ms: i64,
        /// By whom, as the file numbers instances.
        instance: i64,
        /// The number of its first event.
        first_seq: i64,
        /// Its place in the order of arrival.
        n: i64,
    },
}

/// A page of history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The batches, oldest first.
    pub batches: Vec<Stored>,
    /// So many events of the first batch come before the last that were asked for ([`Query::last`]).
    pub surplus: u64,
    /// Where the next page begins; none when this was the last.
    pub next: Option<Cursor>,
}

/// What a log holds of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomStats {
    /// The room.
    pub room: String,
    /// How many batches.
    pub batches: u64,
    /// Nothing sent before this Unix time in milliseconds is kept.
    pub low_watermark_ms: u64,
    /// When the oldest and the newest were sent.
    pub span_ms: Option<(u64, u64)>,
}

/// A log that is only read; a node may write it meanwhile.
#[derive(Debug)]
pub struct Archive {
    conn: Connection,
    path: PathBuf,
}

impl Archive {
    /// Opens the log in the directory `dir`; none is made. Whatever was acknowledged before is in what is read:
    /// a node that runs is waited for, up to 2 s, and what a killed one left beside the file is brought in.
    pub fn open(dir: &Path) -> Result<Archive, LogError> {
        let path = dir.join(schema::FILE_NAME);
        recover_before_reading(&path);
        let conn = schema::open_to_read(&path)?;
        Ok(Archive { conn, path })
    }

    /// The network that the log belongs to: the open one, as long as it belongs to none.
    pub fn network(&self) -> Result<NetworkId, LogError> {
        let network = schema::network_of(&self.conn);
        let network = network.map_err(|error| LogError::from_sqlite(&self.path, error))?;
        Ok(network.unwrap_or(NetworkId::OPEN))
    }

    /// Reads what is stored, this far.
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

    /// All batches that `query` asks for, page by page.
    pub fn history(&self, query: Query) -> History<'a> {
        History {
            reader: Reader { ..*self },
            query,
            cursor: Some(Cursor::Start),
        }
    }

    /// The page of `query` that begins at `cursor`.
    pub fn page(&self, query: &Query, cursor: Cursor) -> Result<Page, LogError> {
        self.page_of(query, cursor)
            .map_err(|error| self.failed(error))
    }

    /// The envelopes of `ids` in `room`, in that order, up to `most` bytes in all, but at least one.
    pub fn fetch(&self, room: &str, ids: &[Id], most: usize) -> Result<Found, LogError> {
        self.found(room, ids, most)
            .map_err(|error| self.failed(error))
    }

    /// The newest `most` items of `room`, oldest first, and the room's horizon. When `most` cut some
    /// off, the horizon is that of what is left. What made room counts as an item.
    pub fn items(&self, room: &str, most: usize) -> Result<(u64, Vec<Item>), LogError> {
        self.newest_items(room, most)
            .map_err(|error| self.failed(error))
    }

    /// How many batches of `room` are remembered that made room.
    pub fn removed_in(&self, room: &str) -> Result<u64, LogError> {
        self.conn
            .prepare_cached(
                "SELECT count(*) FROM removed JOIN room ON room.n = removed.room WHERE name = ?1",
            )
            .and_then(|mut query| query.query_row([room], |row| row.get::<_, i64>(0)))
            .map(|count| count as u64)
            .map_err(|error| self.failed(error))
    }

    /// Whether the batch is held.
    pub fn holds(&self, id: &Id) -> Result<bool, LogError> {
        self.conn
            .prepare_cached("SELECT 1 FROM batch WHERE id = ?1")
            .and_then(|mut query| query.exists([id]))
            .map_err(|error| self.failed(error))
    }

    /// What is held, room by room.
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
        // Of one millisecond, each author's in the order sent.
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
            // `?2` must be there in both: SQLite counts the parameters.
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
                // Backwards from the newest, one row in memory at a time.
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
        // SQLite begins where the first of two such bounds says: each page would pass over the last ones.
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
                // What would not fit need not be read.
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

    /// The batch with this id, if it was held and made room.
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
            // Of the first item's millisecond some may be cut off.
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

/// Batches one after the other, read in pages; nothing is locked between them.
#[derive(Debug)]
pub struct History<'a> {
    reader: Reader<'a>,
    query: Query,
    cursor: Option<Cursor>,
}

impl Iterator for History<'_> {
    type Item = Result<Vec<Stored>, LogError>;

    /// The next page, never empty.
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

/// A batch's place, out of the four columns from `column` on.
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
