//! A batch as rows of the log's tables.
//!
//! Entry point: [`append_one`]. The rules it keeps: a batch is there once; two batches of an author with
//! the same numbers are both there, and the later one is marked.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::record::{Id, Outcome, Record};
use super::shelf::{self, Shelf};

/// Instances whose numbers in the file are remembered; past this the memory starts anew.
const INSTANCES_REMEMBERED: usize = 4096;

/// The numbers that rooms and instances have in the file.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) rooms: HashMap<String, Room>,
    instances: HashMap<(Vec<u8>, [u8; 16]), i64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) n: i64,
    pub(super) horizon_ms: u64,
}

/// Stores `record` in the transaction that is open, unless it is held or was sent before `oldest_ms`; a large
/// envelope on the shelf, if there is one.
pub(super) fn append_one(
    conn: &Connection,
    shelf: Option<&mut Shelf>,
    names: &mut Names,
    now_ms: u64,
    oldest_ms: u64,
    record: &Record,
) -> rusqlite::Result<Outcome> {
    if !record.fits() {
        return Ok(Outcome::OutOfRange);
    }
    let room = names.room(conn, &record.room)?;
    if record.sent_at_ms < oldest_ms.max(room.horizon_ms) {
        return Ok(Outcome::TooOld);
    }
    let instance = names.instance(conn, record)?;
    let before = batch_before(conn, room.n, instance, record)?;
    if before.as_ref().is_some_and(|before| before.id == record.id) {
        return Ok(Outcome::Held);
    }
    let conflict = before
        .as_ref()
        .filter(|before| before.end_seq > record.first_seq)
        .map(|b| b.id);
    let place = match shelf.filter(|_| record.bytes.len() > shelf::LARGE) {
        Some(_) if holds(conn, &record.id)? => return Ok(Outcome::Held),
        Some(shelf) => Some(shelf.add(&record.bytes)?),
        None => None,
    };
    let inline = match place {
        Some(_) => &[],
        None => &record.bytes[..],
    };
    let inserted = conn
        .prepare_cached(
            "INSERT INTO batch (id, room, instance, first_seq, count, sent_at_ms, stored_at_ms, conflict, envelope,
             large_file, large_at, large_bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT (id) DO NOTHING",
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
            inline,
            place.map(|place| place.file),
            place.map(|place| place.at),
            place.map(|place| place.bytes),
        ])?;
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

/// The stored batch with the highest numbers below the end of `record`. Stored batches without
/// conflict do not overlap, so that any overlap is with this one.
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

/// The number after the last that is stored of the one who said `record`, which is stored.
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
    .query_row(params![instance, room.n], |row| row.get::<_, i64>(0))
    .optional()
    .map(|head| head.map(|head| head as u64))
}

impl Names {
    /// Those that are in the file.
    pub(super) fn read(conn: &Connection) -> rusqlite::Result<Names> {
        Ok(Names {
            rooms: rooms_of(conn)?,
            instances: HashMap::new(),
        })
    }

    fn room(&mut self, conn: &Connection, name: &str) -> rusqlite::Result<Room> {
        if let Some(room) = self.rooms.get(name) {
            return Ok(*room);
        }
        conn.execute("INSERT INTO room (name) VALUES (?1)", [name])?;
        let room = Room {
            n: conn.last_insert_rowid(),
            horizon_ms: 0,
        };
        self.rooms.insert(name.to_owned(), room);
        Ok(room)
    }

    fn instance(&mut self, conn: &Connection, record: &Record) -> rusqlite::Result<i64> {
        let key = (record.author.to_vec(), record.instance);
        if let Some(n) = self.instances.get(&key) {
            return Ok(*n);
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
        if self.instances.len() >= INSTANCES_REMEMBERED {
            self.instances.clear();
        }
        self.instances.insert(key, n);
        Ok(n)
    }
}

fn rooms_of(conn: &Connection) -> rusqlite::Result<HashMap<String, Room>> {
    conn.prepare("SELECT name, n, horizon_ms FROM room")?
        .query_map([], |row| {
            Ok((
                row.get(0)?,
                Room {
                    n: row.get(1)?,
                    horizon_ms: row.get::<_, i64>(2)? as u64,
                },
            ))
        })?
        .collect()
}

/// The author's PeerId as people see it: base58 of the identity multihash of the key.
fn peer_id(author: &[u8]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let multihash = [&[0, author.len() as u8], author].concat();
    let mut digits: Vec<u8> = Vec::new();
    for byte in &multihash {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let zeros = multihash.iter().take_while(|byte| **byte == 0).map(|_| &0);
    zeros
        .chain(digits.iter().rev())
        .map(|digit| char::from(ALPHABET[usize::from(*digit)]))
        .collect()
}
