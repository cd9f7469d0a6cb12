//! The log itself: batches in, in one transaction a call; the oldest out when it is full.
//!
//! Entry type: [`Log`], which runs on whatever thread it is given ([`super::Writer`] gives it one).
//! The rules it keeps: a batch is acknowledged only when its transaction is committed; a batch is
//! there once; what was removed for its age does not come back.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::error::LogError;
use super::read::Reader;
use super::record::{Id, Outcome, Record, Verified};
use super::schema::{self, Lock, Sync};

/// How long and how much the log keeps, and what a power cut may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Batches sent longer ago are removed.
    pub age: Duration,
    /// The most that the file's pages in use may take; the oldest batches make room. The WAL beside it
    /// takes up to some 140 MiB more under load, and 64 MiB afterwards.
    pub bytes: u64,
    /// What survives a power cut.
    pub sync: Sync,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep {
            age: Duration::from_secs(30 * 24 * 3600),
            bytes: 1 << 30,
            sync: Sync::default(),
        }
    }
}

/// Batches removed in one transaction: some ten milliseconds, so that no append waits long.
pub(super) const PRUNED_AT_ONCE: usize = 256;

/// Instances whose numbers in the file are remembered; past this the memory starts anew.
const INSTANCES_REMEMBERED: usize = 4096;

/// A room's batches sent before this were removed; a row of what [`Log::prune`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The room.
    pub room: String,
    /// Nothing sent before this, in Unix milliseconds, is held or taken any more.
    pub horizon_ms: u64,
    /// How many batches went.
    pub batches: u64,
}

/// The log, open for writing. One process has it at a time.
#[derive(Debug)]
pub struct Log {
    conn: Connection,
    path: PathBuf,
    keep: Keep,
    rooms: HashMap<String, Room>,
    instances: HashMap<(Vec<u8>, [u8; 16]), i64>,
    _lock: Option<Lock>,
}

#[derive(Clone, Copy, Debug)]
struct Room {
    n: i64,
    horizon_ms: u64,
}

impl Log {
    /// Opens the log in the directory `dir`, or makes one.
    pub fn open(dir: &Path, keep: Keep) -> Result<Log, LogError> {
        Log::open_file(&dir.join(schema::FILE_NAME), keep)
    }

    /// Opens or makes the log whose file is `path`.
    pub(super) fn open_file(path: &Path, keep: Keep) -> Result<Log, LogError> {
        let lock = Lock::take(path)?;
        let conn = schema::open(path, keep.sync)?;
        Log::over(conn, path.to_owned(), keep, Some(lock))
    }

    /// A log in memory, with the same bounds; it ends with the process.
    pub fn ephemeral(keep: Keep) -> Result<Log, LogError> {
        let path = PathBuf::from(":memory:");
        let conn = schema::open_in_memory().map_err(|error| LogError::from_sqlite(&path, error))?;
        Log::over(conn, path, keep, None)
    }

    fn over(
        conn: Connection,
        path: PathBuf,
        keep: Keep,
        lock: Option<Lock>,
    ) -> Result<Log, LogError> {
        let rooms = rooms_of(&conn).map_err(|error| LogError::from_sqlite(&path, error))?;
        Ok(Log {
            conn,
            path,
            keep,
            rooms,
            instances: HashMap::new(),
            _lock: lock,
        })
    }

    /// The log's file; `:memory:` for an ephemeral log.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bounds it was opened with.
    pub fn keep(&self) -> &Keep {
        &self.keep
    }

    /// Whether it lies in memory only.
    pub fn is_ephemeral(&self) -> bool {
        self._lock.is_none()
    }

    /// Stores what is new of `batches` in one transaction and says of each what became of it. After
    /// an error none of them is stored.
    pub fn append<C: Verified>(
        &mut self,
        now_ms: u64,
        batches: &[C],
    ) -> Result<Vec<Outcome>, LogError> {
        self.append_records(now_ms, batches.iter().map(Verified::record))
    }

    /// [`Log::append`] for what went through it on another thread.
    pub(super) fn append_records(
        &mut self,
        now_ms: u64,
        records: impl Iterator<Item = impl Borrow<Record>>,
    ) -> Result<Vec<Outcome>, LogError> {
        let oldest_ms = now_ms.saturating_sub(self.keep.age.as_millis() as u64);
        let result = (|| {
            let tx = self.conn.transaction()?;
            let mut names = Names {
                rooms: &mut self.rooms,
                instances: &mut self.instances,
            };
            let outcomes = records
                .map(|record| append_one(&tx, &mut names, now_ms, oldest_ms, record.borrow()))
                .collect::<rusqlite::Result<Vec<_>>>()?;
            tx.commit()?;
            Ok(outcomes)
        })();
        result.map_err(|error| {
            // The numbers of rooms and instances that the transaction had made are void.
            self.instances.clear();
            self.rooms = rooms_of(&self.conn).unwrap_or_default();
            LogError::from_sqlite(&self.path, error)
        })
    }

    /// Removes a bounded number of the oldest batches when the log is over its bounds; an empty
    /// answer says that it is within them.
    pub fn prune(&mut self, now_ms: u64) -> Result<Vec<Pruned>, LogError> {
        self.prune_some(now_ms)
            .map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// The most recent batches sent before this are not held: `room`'s horizon.
    pub fn horizon_ms(&self, room: &str) -> u64 {
        self.rooms.get(room).map_or(0, |room| room.horizon_ms)
    }

    /// Reads what is stored, this far.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.conn, &self.path)
    }

    /// The bytes of the file's pages in use.
    pub fn used_bytes(&self) -> Result<u64, LogError> {
        used_bytes(&self.conn).map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// Moves what the WAL holds into the file, as far as no reader is in the way.
    pub(super) fn checkpoint(&self) -> Result<(), LogError> {
        schema::checkpoint(&self.conn).map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// Looks how far the WAL has grown.
    pub(super) fn wal(&self) -> Result<schema::Wal, LogError> {
        schema::wal(&self.conn).map_err(|error| LogError::from_sqlite(&self.path, error))
    }

    /// Lets the file grow to so many pages only, as a full disk would.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: Option<i64>) -> rusqlite::Result<()> {
        let pages = pages.unwrap_or(i64::from(u32::MAX) - 1);
        self.conn
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
    }

    fn prune_some(&mut self, now_ms: u64) -> rusqlite::Result<Vec<Pruned>> {
        let before_ms = now_ms.saturating_sub(self.keep.age.as_millis() as u64);
        let mut pruned = Vec::new();
        let over = used_bytes(&self.conn)? > self.keep.bytes;
        let Some((name, oldest_ms)) = self.oldest_room()? else {
            return Ok(pruned);
        };
        if oldest_ms >= before_ms && !over {
            return Ok(pruned);
        }
        let tx = self.conn.transaction()?;
        if let Some(room) = self.rooms.get_mut(&name) {
            // The horizon is a time, so all of one millisecond go together.
            let last_ms: u64 = tx
                .prepare_cached(
                    "SELECT max(sent_at_ms) FROM (SELECT sent_at_ms FROM batch WHERE room = ?1
                     ORDER BY sent_at_ms, id LIMIT ?2)",
                )?
                .query_row(params![room.n, PRUNED_AT_ONCE as i64], |row| {
                    row.get::<_, i64>(0)
                })? as u64;
            let bound_ms = if over {
                last_ms + 1
            } else {
                (last_ms + 1).min(before_ms)
            };
            let batches = tx
                .prepare_cached("DELETE FROM batch WHERE room = ?1 AND sent_at_ms < ?2")?
                .execute(params![room.n, bound_ms as i64])? as u64;
            let horizon_ms = room.horizon_ms.max(bound_ms);
            tx.prepare_cached("UPDATE room SET horizon_ms = ?2 WHERE n = ?1")?
                .execute(params![room.n, horizon_ms as i64])?;
            tx.commit()?;
            room.horizon_ms = horizon_ms;
            pruned.push(Pruned {
                room: name,
                horizon_ms,
                batches,
            });
        }
        Ok(pruned)
    }

    /// The room that holds the oldest batch, and when that was sent.
    fn oldest_room(&self) -> rusqlite::Result<Option<(String, u64)>> {
        let mut oldest: Option<(String, u64)> = None;
        let mut query = self
            .conn
            .prepare_cached("SELECT min(sent_at_ms) FROM batch WHERE room = ?1")?;
        for (name, room) in &self.rooms {
            let first: Option<i64> = query.query_row([room.n], |row| row.get(0))?;
            if let Some(first) = first.map(|ms| ms as u64)
                && oldest.as_ref().is_none_or(|(_, ms)| first < *ms)
            {
                oldest = Some((name.clone(), first));
            }
        }
        Ok(oldest)
    }
}

/// The numbers that rooms and instances have in the file.
struct Names<'a> {
    rooms: &'a mut HashMap<String, Room>,
    instances: &'a mut HashMap<(Vec<u8>, [u8; 16]), i64>,
}

fn append_one(
    tx: &Transaction<'_>,
    names: &mut Names<'_>,
    now_ms: u64,
    oldest_ms: u64,
    record: &Record,
) -> rusqlite::Result<Outcome> {
    if !record.fits() {
        return Ok(Outcome::OutOfRange);
    }
    let room = names.room(tx, &record.room)?;
    if record.sent_at_ms < oldest_ms.max(room.horizon_ms) {
        return Ok(Outcome::TooOld);
    }
    let instance = names.instance(tx, record)?;
    let before = batch_before(tx, room.n, instance, record)?;
    if before.as_ref().is_some_and(|before| before.id == record.id) {
        return Ok(Outcome::Held);
    }
    let conflict = before
        .as_ref()
        .filter(|before| before.end_seq > record.first_seq)
        .map(|b| b.id);
    let inserted = tx
        .prepare_cached(
            "INSERT INTO batch (id, room, instance, first_seq, count, sent_at_ms, stored_at_ms, conflict, envelope)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING",
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
            &record.bytes[..],
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

/// The stored batch with the highest numbers below the end of `record`. Stored batches without
/// conflict do not overlap, so that any overlap is with this one.
struct Before {
    id: Id,
    end_seq: u64,
}

fn batch_before(
    tx: &Transaction<'_>,
    room: i64,
    instance: i64,
    record: &Record,
) -> rusqlite::Result<Option<Before>> {
    tx.prepare_cached(
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

impl Names<'_> {
    fn room(&mut self, tx: &Transaction<'_>, name: &str) -> rusqlite::Result<Room> {
        if let Some(room) = self.rooms.get(name) {
            return Ok(*room);
        }
        tx.execute("INSERT INTO room (name) VALUES (?1)", [name])?;
        let room = Room {
            n: tx.last_insert_rowid(),
            horizon_ms: 0,
        };
        self.rooms.insert(name.to_owned(), room);
        Ok(room)
    }

    fn instance(&mut self, tx: &Transaction<'_>, record: &Record) -> rusqlite::Result<i64> {
        let key = (record.author.to_vec(), record.instance);
        if let Some(n) = self.instances.get(&key) {
            return Ok(*n);
        }
        let found = tx
            .prepare_cached("SELECT n FROM instance WHERE author = ?1 AND instance = ?2")?
            .query_row(params![key.0, key.1], |row| row.get(0))
            .optional()?;
        let n = match found {
            Some(n) => n,
            None => {
                tx.prepare_cached(
                    "INSERT INTO instance (author, instance, peer_id) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![key.0, key.1, peer_id(&key.0)])?;
                tx.last_insert_rowid()
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

fn used_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok((pages * pragma("page_size")?) as u64)
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
