//! Row numbers of rooms, instances and links in the log's tables, cached, and the low watermark of each room.
//!
//! Entry type: [`Names`]. The rule it keeps: after a rollback it is read again, because the row numbers that the transaction gave
//! are void.

use std::collections::HashMap;

use bytes::Bytes;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::tombstones;
use crate::model::{InstanceId, Record, RoomName, low_watermark_at};

/// Maximum number of cached row numbers of instances; beyond it the cache is cleared.
const MAX_INSTANCES_REMEMBERED: usize = 4096;

/// Maximum number of links with a row of their own; further ones share [`OTHER_LINKS`].
const MAX_LINKS: usize = 256;

/// Row number shared by all links without a row of their own.
const OTHER_LINKS: i64 = -1;

/// Cache of the row numbers of rooms, instances and links.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) rooms: HashMap<RoomName, Room>,
    instances: HashMap<(Vec<u8>, InstanceId), Instance>,
    links: HashMap<Bytes, i64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) n: i64,
    pub(super) low_watermark_ms: u64,
    /// Number of tombstones.
    pub(super) removed: u64,
}

impl Room {
    /// Returns the low watermark at a time; never within the last minutes, even if it was set by a wrong clock.
    pub(super) fn low_watermark_at(&self, now_ms: u64) -> u64 {
        low_watermark_at(self.low_watermark_ms, now_ms)
    }
}

/// Row numbers of an author's process and of the author.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instance {
    pub(super) n: i64,
    pub(super) author: i64,
    /// Time at which the author's first batch was stored, in Unix milliseconds.
    pub(super) since_ms: u64,
}

impl Names {
    /// Reads the rooms and their tombstone counts from the file.
    pub(super) fn read(conn: &Connection) -> rusqlite::Result<Names> {
        let mut rooms = rooms_of(conn)?;
        for (n, count) in tombstones::count(conn)? {
            if let Some(room) = rooms.values_mut().find(|room| room.n == n) {
                room.removed = count;
            }
        }
        Ok(Names {
            rooms,
            instances: HashMap::new(),
            links: HashMap::new(),
        })
    }

    /// Raises a room's low watermark to this time.
    pub(super) fn set_low_watermark(
        &mut self,
        conn: &Connection,
        room: &RoomName,
        low_watermark_ms: u64,
    ) -> rusqlite::Result<()> {
        if let Some(room) = self.rooms.get_mut(room)
            && low_watermark_ms > room.low_watermark_ms
        {
            room.low_watermark_ms = low_watermark_ms;
            conn.prepare_cached("UPDATE room SET horizon_ms = ?2 WHERE n = ?1")?
                .execute(params![room.n, low_watermark_ms as i64])?;
        }
        Ok(())
    }

    /// Returns the cached row numbers of the room and the instance of `record`.
    pub(super) fn known(&self, record: &Record) -> Option<(i64, i64)> {
        let key = (record.author.to_vec(), record.instance);
        let instance = self.instances.get(&key)?;
        Some((self.rooms.get(&record.room)?.n, instance.n))
    }

    /// Returns the name of a room by its row number.
    pub(super) fn room_name(&self, n: i64) -> Option<&RoomName> {
        let mut rooms = self.rooms.iter();
        rooms.find(|(_, room)| room.n == n).map(|(name, _)| name)
    }

    /// Removes the rows of these instances and their authors that no batch refers to.
    pub(super) fn forget_unused(
        &mut self,
        conn: &Connection,
        instances: impl IntoIterator<Item = (i64, i64)>,
    ) -> rusqlite::Result<()> {
        let mut gone = 0;
        for (instance, author) in instances {
            gone += conn
                .prepare_cached(
                    "DELETE FROM instance WHERE n = ?1
                     AND NOT EXISTS (SELECT 1 FROM batch WHERE instance = ?1 AND conflict = 0)
                     AND NOT EXISTS (SELECT 1 FROM batch WHERE instance = ?1 AND conflict = 1)",
                )?
                .execute([instance])?;
            gone += conn
                .prepare_cached(
                    "DELETE FROM author WHERE n = ?1
                     AND NOT EXISTS (SELECT 1 FROM batch WHERE author = ?1)",
                )?
                .execute([author])?;
        }
        if gone > 0 {
            // SQLite may reuse their row numbers.
            self.instances.clear();
        }
        Ok(())
    }

    pub(super) fn room(&mut self, conn: &Connection, name: &RoomName) -> rusqlite::Result<Room> {
        if let Some(room) = self.rooms.get(name) {
            return Ok(*room);
        }
        conn.execute("INSERT INTO room (name) VALUES (?1)", [name.as_str()])?;
        let room = Room {
            n: conn.last_insert_rowid(),
            low_watermark_ms: 0,
            removed: 0,
        };
        self.rooms.insert(name.clone(), room);
        Ok(room)
    }

    pub(super) fn instance(
        &mut self,
        conn: &Connection,
        now_ms: u64,
        record: &Record,
    ) -> rusqlite::Result<Instance> {
        let key = (record.author.to_vec(), record.instance);
        if let Some(instance) = self.instances.get(&key) {
            return Ok(*instance);
        }
        let found = conn
            .prepare_cached("SELECT n FROM instance WHERE author = ?1 AND instance = ?2")?
            .query_row(params![key.0, key.1], |row| row.get(0))
            .optional()?;
        let n = match found {
            Some(n) => n,
            None => {
                conn.prepare_cached(
                    "INSERT INTO instance (author, instance, peer_id) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![key.0, key.1, peer_id(&key.0)])?;
                conn.last_insert_rowid()
            }
        };
        let (author, since_ms) = author_of(conn, now_ms, &key.0)?;
        let instance = Instance {
            n,
            author,
            since_ms,
        };
        if self.instances.len() >= MAX_INSTANCES_REMEMBERED {
            self.instances.clear();
        }
        self.instances.insert(key, instance);
        Ok(instance)
    }

    /// Returns the row number of the neighbour that delivered a batch; 0 for none.
    pub(super) fn link(&mut self, conn: &Connection, peer: &Bytes) -> rusqlite::Result<i64> {
        if peer.is_empty() {
            return Ok(0);
        }
        if let Some(n) = self.links.get(peer) {
            return Ok(*n);
        }
        let found = conn
            .prepare_cached("SELECT n FROM link WHERE peer = ?1")?
            .query_row([&peer[..]], |row| row.get(0))
            .optional()?;
        let n = match found {
            Some(n) => n,
            None => {
                let made = conn
                    .prepare_cached(
                        "INSERT INTO link (peer) SELECT ?1 WHERE (SELECT count(*) FROM link) < ?2",
                    )?
                    .execute(params![&peer[..], MAX_LINKS as i64])?;
                match made {
                    0 => return Ok(OTHER_LINKS),
                    _ => conn.last_insert_rowid(),
                }
            }
        };
        self.links.insert(peer.clone(), n);
        Ok(n)
    }
}

/// Returns the row number of the author with this key, and the time of its first batch.
fn author_of(conn: &Connection, now_ms: u64, key: &[u8]) -> rusqlite::Result<(i64, u64)> {
    let found = conn
        .prepare_cached("SELECT n, since_ms FROM author WHERE key = ?1")?
        .query_row([key], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))
        .optional()?;
    if let Some(author) = found {
        return Ok(author);
    }
    conn.prepare_cached("INSERT INTO author (key, since_ms) VALUES (?1, ?2)")?
        .execute(params![key, now_ms as i64])?;
    Ok((conn.last_insert_rowid(), now_ms))
}

fn rooms_of(conn: &Connection) -> rusqlite::Result<HashMap<RoomName, Room>> {
    conn.prepare("SELECT name, n, horizon_ms FROM room")?
        .query_map([], |row| {
            Ok((
                room_at(row, 0)?,
                Room {
                    n: row.get(1)?,
                    low_watermark_ms: row.get::<_, i64>(2)? as u64,
                    removed: 0,
                },
            ))
        })?
        .collect()
}

/// Returns the author's PeerId as text: base58 of the identity multihash of the key.
fn peer_id(author: &[u8]) -> String {
    let multihash = [&[0, author.len() as u8], author].concat();
    bs58::encode(multihash).into_string()
}

/// Minimum number of tombstones dropped at a time.
const MIN_DROPPED_AT_ONCE: u64 = 64;

/// Drops the oldest tombstones of the room with the most, if the log has more than the maximum. Raises the room's low
/// watermark above them; batches below it that are held stay. Returns the room's row number.
pub(super) fn enforce_bound(
    conn: &Connection,
    names: &mut Names,
    log_bytes: u64,
    now_ms: u64,
) -> rusqlite::Result<Option<i64>> {
    let all: u64 = names.rooms.values().map(|room| room.removed).sum();
    let Some(surplus) = all
        .checked_sub(tombstones::max_count(log_bytes))
        .filter(|more| *more > 0)
    else {
        return Ok(None);
    };
    let most = names.rooms.iter_mut().max_by_key(|(_, room)| room.removed);
    let Some((name, room)) = most else {
        return Ok(None);
    };
    let count = surplus.max(MIN_DROPPED_AT_ONCE).min(room.removed);
    let last_ms: Option<i64> = conn
        .prepare_cached(
            "SELECT sent_at_ms FROM removed WHERE room = ?1 ORDER BY sent_at_ms LIMIT 1 OFFSET ?2",
        )?
        .query_row(params![room.n, count.saturating_sub(1) as i64], |row| {
            row.get(0)
        })
        .optional()?;
    let Some(before_ms) = last_ms.map(|ms| ms as u64 + 1) else {
        return Ok(None);
    };
    let (n, name) = (room.n, name.clone());
    room.removed -= tombstones::drop_before(conn, n, before_ms)?.min(room.removed);
    names.set_low_watermark(conn, &name, low_watermark_at(before_ms, now_ms))?;
    Ok(Some(n))
}

/// Reads the name of a room from a column.
pub(super) fn room_at(row: &Row<'_>, column: usize) -> rusqlite::Result<RoomName> {
    let name: String = row.get(column)?;
    name.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}
