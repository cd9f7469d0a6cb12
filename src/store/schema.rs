//! Schema of the log's file, and its connections.
//!
//! Entry points: [`open`], [`open_to_read`]. The rule it keeps: a file of an unknown schema or program is opened
//! read-only and not changed.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::error::LogError;
use super::paths::make_private;
use super::retention_policy::{RetentionPolicy, Sync};
use super::wal::{self, BUSY_TIMEOUT, WalBounds};
use crate::identity::NetworkId;

/// Schema that this program reads and writes (SQLite's `user_version`). Batches in logs of earlier schemas were signed
/// for no network and do not verify: see [`LogError::Older`].
pub(super) const SCHEMA_VERSION: i64 = 3;

/// SQLite's `application_id` of a log: "diat".
const APPLICATION_ID: i64 = 0x6469_6174;

/// Page size in bytes: a node under full load spends a quarter less on an event than with 8 KiB, because SQLite writes
/// each page with two calls (measured). A small batch alone writes four pages, therefore the write buffer collects
/// them (`FLUSH_INTERVAL` in `write_loop.rs`).
const PAGE_SIZE: u32 = 32768;

/// Page cache of the writer in KiB: holds the inner pages of a full log's indices.
const CACHE_KIB: i64 = 8192;

/// Tables of the log. `sqlite3 log.sqlite3` and `select * from readable` show its batches to a person.
const SCHEMA: &str = "
CREATE TABLE network (
  id BLOB NOT NULL                 -- the network whose nodes said all of it; no row: none has said anything yet
) STRICT;

CREATE TABLE room (
  n          INTEGER PRIMARY KEY,
  name       TEXT NOT NULL UNIQUE,
  -- batches sent before this Unix time in ms were removed and are not fetched again
  horizon_ms INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE author (
  n        INTEGER PRIMARY KEY,
  key      BLOB NOT NULL UNIQUE,   -- libp2p PublicKey
  since_ms INTEGER NOT NULL        -- when its first batch was stored, Unix time
) STRICT;

CREATE TABLE link (
  n        INTEGER PRIMARY KEY,
  peer     BLOB NOT NULL UNIQUE    -- PeerId of a neighbour that brought batches first
) STRICT;

CREATE TABLE instance (
  n        INTEGER PRIMARY KEY,
  author   BLOB NOT NULL,          -- libp2p PublicKey
  instance BLOB NOT NULL,          -- random for each start of the author's process
  peer_id  TEXT NOT NULL,          -- the author as people see it
  UNIQUE (author, instance)
) STRICT;

CREATE TABLE batch (
  n            INTEGER PRIMARY KEY, -- order of arrival
  id           BLOB NOT NULL,       -- a hash of room, body and signature
  room         INTEGER NOT NULL REFERENCES room (n),
  instance     INTEGER NOT NULL REFERENCES instance (n),
  first_seq    INTEGER NOT NULL,    -- number of its first event
  count        INTEGER NOT NULL,    -- how many events
  sent_at_ms   INTEGER NOT NULL,    -- Unix time, as the author says
  stored_at_ms INTEGER NOT NULL,
  conflict     INTEGER NOT NULL,    -- 1: the author had used these numbers before
  author       INTEGER NOT NULL REFERENCES author (n),
  link         INTEGER NOT NULL,    -- who brought it first, 0: nobody
  bytes        INTEGER NOT NULL,    -- what it counts for when there is no room for all
  envelope     BLOB NOT NULL,       -- as it came, signature included; empty when it is large:
  large_file   INTEGER,             -- then it lies in log.sqlite3-large-N with this N,
  large_at     INTEGER,             -- from this byte on,
  large_bytes  INTEGER              -- with so many
) STRICT;
CREATE UNIQUE INDEX batch_by_id ON batch (id);
CREATE INDEX batch_by_time ON batch (room, sent_at_ms, id);
CREATE UNIQUE INDEX batch_by_seq ON batch (instance, room, first_seq) WHERE conflict = 0;
CREATE INDEX batch_by_conflict ON batch (instance) WHERE conflict = 1;
CREATE INDEX batch_by_author ON batch (author, sent_at_ms, link, bytes);
CREATE INDEX batch_by_file ON batch (large_file, large_bytes) WHERE large_file IS NOT NULL;

-- batches that made room: they are not fetched again, and count as held when rooms are compared
CREATE TABLE removed (
  id           BLOB PRIMARY KEY,
  room         INTEGER NOT NULL REFERENCES room (n),
  sent_at_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX removed_by_time ON removed (room, sent_at_ms);

CREATE VIEW readable AS
  SELECT batch.n, room.name AS room, instance.peer_id AS author, lower(hex(instance.instance)) AS instance,
         first_seq, count, strftime('%Y-%m-%d %H:%M:%f', sent_at_ms / 1000.0, 'unixepoch') AS sent_at,
         strftime('%Y-%m-%d %H:%M:%f', stored_at_ms / 1000.0, 'unixepoch') AS stored_at,
         coalesce(large_bytes, length(envelope)) AS bytes, conflict, lower(hex(id)) AS id
  FROM batch JOIN room ON room.n = batch.room JOIN instance ON instance.n = batch.instance;
";

/// Opens the log at `path` for writing, and creates it if there is none.
pub(super) fn open(path: &Path, policy: &RetentionPolicy) -> Result<Connection, LogError> {
    let failed = |error| LogError::from_sqlite(path, error);
    refuse_orphans(path)?;
    let fresh = make_private(path)?;
    if !fresh {
        // Detects every error of an existing file before a byte is written.
        open_to_read(path)?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    if conn.is_readonly(rusqlite::MAIN_DB).map_err(failed)? {
        return Err(LogError::ReadOnly {
            path: path.to_owned(),
        });
    }
    if fresh {
        // Lets free pages be returned to the disk. It must be set in an empty file; later it would be a write.
        conn.pragma_update(None, "page_size", PAGE_SIZE)
            .and_then(|()| conn.pragma_update(None, "auto_vacuum", "INCREMENTAL"))
            .map_err(failed)?;
    }
    set_up(&conn, policy).map_err(failed)?;
    if version_of(&conn, path)? != 0 {
        return Ok(conn);
    }
    create_tables(&mut conn).map_err(failed)?;
    // From now on the file itself has its schema: one without it beside files that belong to it is damaged.
    wal::checkpoint(&conn).map_err(failed)?;
    Ok(conn)
}

/// Refuses a log of which only the files beside it exist, because its own is missing or empty. SQLite would delete the
/// WAL with its batches and create an empty log.
fn refuse_orphans(path: &Path) -> Result<(), LogError> {
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if bytes(path) > 0 {
        return Ok(());
    }
    let belongs = |name: &str| {
        let suffix = path
            .file_name()
            .and_then(|log| name.strip_prefix(log.to_str()?));
        suffix.is_some_and(|suffix| {
            matches!(suffix, "-wal" | "-tail") || suffix.starts_with("-large-")
        })
    };
    // If the directory cannot be listed, the next step reports it.
    let files = path
        .parent()
        .and_then(|folder| std::fs::read_dir(folder).ok());
    let orphan = files
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .find(|file| file.file_name().to_str().is_some_and(belongs) && bytes(&file.path()) > 0);
    match orphan {
        Some(orphan) => Err(LogError::Orphaned {
            path: path.to_owned(),
            orphan: orphan.path(),
        }),
        None => Ok(()),
    }
}

/// Creates an empty log in memory.
pub(super) fn open_in_memory() -> rusqlite::Result<Connection> {
    let mut conn = Connection::open_in_memory()?;
    set_up(&conn, &RetentionPolicy::default())?;
    create_tables(&mut conn)?;
    Ok(conn)
}

/// Opens the log at `path` for reading; another process may write it meanwhile.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, LogError> {
    refuse_orphans(path)?;
    match open_to_salvage(path)? {
        (conn, SCHEMA_VERSION | 0) => Ok(conn),
        (_, found) => Err(LogError::Older {
            path: path.to_owned(),
            found,
            known: SCHEMA_VERSION,
        }),
    }
}

/// Opens a log of any known schema for reading, and returns the schema.
pub(super) fn open_to_salvage(path: &Path) -> Result<(Connection, i64), LogError> {
    let failed = |error| LogError::from_sqlite(path, error);
    // SQLite reports a missing and an inaccessible file in the same way.
    check_readable(path).map_err(|error| LogError::from_io(path, error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let found = version_of(&conn, path)?;
    Ok((conn, found))
}

/// Checks that the file is readable, without opening it: closing it would drop all locks of this process on it
/// (POSIX), those of its other connections too, and the next program that opens and closes the log, such as `sqlite3`,
/// would remove the WAL under a running node (<https://sqlite.org/howtocorrupt.html>, 2.2).
fn check_readable(path: &Path) -> std::io::Result<()> {
    std::fs::metadata(path)?;
    #[cfg(unix)]
    rustix::fs::access(path, rustix::fs::Access::READ_OK)?;
    Ok(())
}

/// Returns the schema of the file if this program knows it; 0 for one without tables.
fn version_of(conn: &Connection, path: &Path) -> Result<i64, LogError> {
    let failed = |error| LogError::from_sqlite(path, error);
    let pragma = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let application = pragma("application_id").map_err(failed)?;
    let found = pragma("user_version").map_err(failed)?;
    let tables: i64 = conn
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    let path = path.to_owned();
    match (application, found) {
        (0, 0) if tables == 0 => Ok(0),
        (APPLICATION_ID, 1..=SCHEMA_VERSION) => Ok(found),
        (APPLICATION_ID, _) if found > SCHEMA_VERSION => Err(LogError::Newer {
            path,
            found,
            known: SCHEMA_VERSION,
        }),
        (APPLICATION_ID, _) => Err(LogError::Older {
            path,
            found,
            known: SCHEMA_VERSION,
        }),
        _ => Err(LogError::Foreign { path }),
    }
}

fn set_up(conn: &Connection, policy: &RetentionPolicy) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    // The writer alone inserts rows, after the rooms and instances that they refer to, so that this check would find
    // nothing.
    conn.pragma_update(None, "foreign_keys", false)?;
    conn.pragma_update(None, "page_size", PAGE_SIZE)?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    set_sync(conn, policy.sync)?;
    // `checkpoint.rs` decides when to run a checkpoint.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    let at_rest = WalBounds::of(policy.bytes).at_rest;
    conn.pragma_update_and_check(None, "journal_size_limit", at_rest, |_| Ok(()))?;
    // Keeps the plan of a statement for other bound values: with a partial index SQLite would plan it each time, a
    // quarter of the cost of storing a small batch (measured).
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Sets the durability from the next transaction on.
pub(super) fn set_sync(conn: &Connection, sync: Sync) -> rusqlite::Result<()> {
    let level = match sync {
        Sync::Full => "FULL",
        Sync::Normal => "NORMAL",
    };
    conn.pragma_update(None, "synchronous", level)
}

/// Opens a connection for [`wal::checkpoint`].
pub(super) fn open_to_checkpoint(
    path: &Path,
    policy: &RetentionPolicy,
) -> Result<Connection, LogError> {
    let failed = |error| LogError::from_sqlite(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    set_up(&conn, policy).map_err(failed)?;
    Ok(conn)
}

/// Returns the network that the log belongs to; none if it has none yet or its schema is older.
pub(super) fn network_of(conn: &Connection) -> rusqlite::Result<Option<NetworkId>> {
    let found = conn.query_row("SELECT id FROM network", [], |row| row.get(0));
    match found.optional() {
        Ok(id) => Ok(id.map(NetworkId::from_bytes)),
        Err(error) if error.to_string().contains("no such table") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Assigns a log without a network to this one.
pub(super) fn set_network(conn: &Connection, network: NetworkId) -> rusqlite::Result<()> {
    conn.execute(
        "INSERT INTO network (id) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM network)",
        [network.as_bytes()],
    )
    .map(drop)
}

/// One transaction: if the process dies meanwhile, the file is empty and counts as new.
fn create_tables(conn: &mut Connection) -> rusqlite::Result<()> {
    let tx = conn.transaction()?;
    tx.execute_batch(SCHEMA)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    tx.commit()
}
