//! Reads the log: pages of history by room, time and author; envelopes by id for a fetch; items for anti-entropy.
//!
//! Entry type: [`Reader`]. The rule it keeps: every answer has a maximum size, however large the log is.

use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::blob_store::{self, BlobRef};
use super::error::LogError;
use super::names::room_at;
use crate::model::{Found, Id, Item, RoomName};

/// Statistics of a room in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomStats {
    /// The room.
    pub room: RoomName,
    /// Number of batches.
    pub batches: u64,
    /// Low watermark: Unix time in milliseconds below which batches are refused.
    pub low_watermark_ms: u64,
    /// Sending times of the oldest and the newest batch.
    pub span_ms: Option<(u64, u64)>,
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

    pub(super) fn connection(&self) -> &'a Connection {
        self.conn
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    pub(super) fn failed(&self, error: rusqlite::Error) -> LogError {
        LogError::from_sqlite(self.path, error)
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
                    room: room_at(row, 0)?,
                    batches: row.get::<_, i64>(1)? as u64,
                    low_watermark_ms: row.get::<_, i64>(2)? as u64,
                    span_ms: span.0.zip(span.1).map(|(a, b)| (a as u64, b as u64)),
                })
            })?
            .collect()
    }
}
