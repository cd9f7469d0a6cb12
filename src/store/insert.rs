//! Inserts a batch into the log's tables.
//!
//! Entry point: [`insert_record`]. The rules it keeps (dedup): a batch is stored once, and not again after retention
//! evicted it; two batches of an author with the same sequence numbers are both stored, and the later one is marked as
//! a conflict.

use std::collections::HashMap;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::blob_store::{self, BlobStore};
use super::quota::{Owner, Usage};
use super::tombstones;
use crate::model::{Id, Outcome, Record, low_watermark_at};

/// Maximum number of cached row numbers of instances; beyond it the cache is cleared.
const MAX_INSTANCES_REMEMBERED: usize = 4096;

/// Maximum number of links with a row of their own; further ones share [`OTHER_LINKS`].
const MAX_LINKS: usize = 256;

/// Row number that stands for all links without a row.
const OTHER_LINKS: i64 = -1;

/// Cache of the row numbers of rooms, instances and links.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) rooms: HashMap<String, Room>,
    instances: HashMap<(Vec<u8>, [u8; 16]), Instance>,
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
struct Instance {
    n: i64,
    author: i64,
    /// Time at which the author's first batch was stored, in Unix milliseconds.
    since_ms: u64,
}

/// Target of an insert: the tables, the blob store, the cached row numbers, and the counted quotas.
pub(super) struct Tables<'a> {
    pub(super) conn: &'a Connection,
    /// Large envelopes; none in memory.
    pub(super) blobs: Option<&'a mut BlobStore>,
    pub(super) names: &'a mut Names,
    /// Counted quotas; none while the log is not full.
    pub(super) usage: Option<&'a mut Usage>,
}

/// Inserts `record` in the open transaction, unless it is held, has a tombstone, or was sent before `oldest_ms` or the
/// low watermark. A large envelope goes into the blob store if there is one.
pub(super) fn insert_record(
    tables: Tables<'_>,
    now_ms: u64,
    oldest_ms: u64,
    record: &Record,
) -> rusqlite::Result<Outcome> {
    let Tables {
        conn,
        blobs,
        names,
        usage,
    } = tables;
    if !record.fits() {
        return Ok(Outcome::OutOfRange);
    }
    let room = names.room(conn, &record.room)?;
    if record.sent_at_ms < oldest_ms.max(room.low_watermark_at(now_ms)) {
        return Ok(Outcome::TooOld);
    }
    if room.removed > 0 && tombstones::exists(conn, &record.id)? {
        return Ok(Outcome::Held);
    }
    let Instance {
        n: instance,
        author,
        since_ms,
    } = names.instance(conn, now_ms, record)?;
    let link = names.link(conn, &record.brought_by)?;
    let before = batch_before(conn, room.n, instance, record)?;
    if before.as_ref().is_some_and(|before| before.id == record.id) {
        return Ok(Outcome::Held);
    }
    let conflict = before
        .as_ref()
        .filter(|before| before.end_seq > record.first_seq)
        .map(|b| b.id);
    let place = match blobs.filter(|_| record.bytes.len() > blob_store::MAX_INLINE_BYTES) {
        Some(_) if holds(conn, &record.id)? => return Ok(Outcome::Held),
        Some(blobs) => Some(blobs.add(&record.bytes)?),
        None => None,
    };
    let inline = match place {
        Some(_) => &[],
        None => &record.bytes[..],
    };
    let inserted = conn
        .prepare_cached(
            "INSERT INTO batch (id, room, instance, first_seq, count, sent_at_ms, stored_at_ms, conflict, author, link,
             bytes, envelope, large_file, large_at, large_bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            record.id,
            room.n,
            instance,
            record.first_seq as i64,
            record.count as i64,
            record.sent_at_ms as i64,
            now_ms as i64,
            conflict.is_some(),
            author,
            link,
            record.cost() as i64,
            inline,
            place.map(|place| place.file),
            place.map(|place| place.at),
            place.map(|place| place.bytes),
        ])?;
    if inserted > 0
        && let Some(usage) = usage
    {
        usage.add(Owner { author, link }, record.cost(), since_ms);
    }
    Ok(match conflict {
        _ if inserted == 0 => Outcome::Held,
        Some(with) => Outcome::Conflict { with },
        None => Outcome::New {
            follows: record.first_seq == 1
                || before.is_some_and(|before| before.end_seq == record.first_seq),
        },
    })
}

fn holds(conn: &Connection, id: &Id) -> rusqlite::Result<bool> {
    conn.prepare_cached("SELECT 1 FROM batch WHERE id = ?1")?
        .exists([id])
}

/// The stored batch with the highest numbers below the end of `record`. Stored batches without conflict do not
/// overlap, so that any overlap is with this one.
struct Before {
    id: Id,
    end_seq: u64,
}

fn batch_before(
    conn: &Connection,
    room: i64,
    instance: i64,
    record: &Record,
) -> rusqlite::Result<Option<Before>> {
    conn.prepare_cached(
        "SELECT id, first_seq + count FROM batch
         WHERE instance = ?1 AND room = ?2 AND first_seq < ?3 AND conflict = 0
         ORDER BY first_seq DESC LIMIT 1",
    )?
    .query_row(params![instance, room, record.end_seq() as i64], |row| {
        Ok(Before {
            id: row.get(0)?,
            end_seq: row.get::<_, i64>(1)? as u64,
        })
    })
    .optional()
}

/// Returns the sequence number after the last stored event of the stream of `record`, which is stored.
pub(super) fn head_of(
    conn: &Connection,
    names: &Names,
    record: &Record,
) -> rusqlite::Result<Option<u64>> {
    let instance = names
        .instances
        .get(&(record.author.to_vec(), record.instance));
    let (Some(room), Some(instance)) = (names.rooms.get(&record.room), instance) else {
        return Ok(None);
    };
    conn.prepare_cached(
        "SELECT first_seq + count FROM batch WHERE instance = ?1 AND room = ?2 AND conflict = 0
         ORDER BY first_seq DESC LIMIT 1",
    )?
    .query_row(params![instance.n, room.n], |row| row.get::<_, i64>(0))
    .optional()
    .map(|head| head.map(|head| head as u64))
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
        room: &str,
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

    /// Returns the name of a room by its row number.
    pub(super) fn room_name(&self, n: i64) -> Option<&str> {
        let mut rooms = self.rooms.iter();
        rooms
            .find(|(_, room)| room.n == n)
            .map(|(name, _)| name.as_str())
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

    fn room(&mut self, conn: &Connection, name: &str) -> rusqlite::Result<Room> {
        if let Some(room) = self.rooms.get(name) {
            return Ok(*room);
        }
        conn.execute("INSERT INTO room (name) VALUES (?1)", [name])?;
        let room = Room {
            n: conn.last_insert_rowid(),
            low_watermark_ms: 0,
            removed: 0,
        };
        self.rooms.insert(name.to_owned(), room);
        Ok(room)
    }

    fn instance(
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
    fn link(&mut self, conn: &Connection, peer: &Bytes) -> rusqlite::Result<i64> {
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

fn rooms_of(conn: &Connection) -> rusqlite::Result<HashMap<String, Room>> {
    conn.prepare("SELECT name, n, horizon_ms FROM room")?
        .query_map([], |row| {
            Ok((
                row.get(0)?,
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
