//! SQLite's WAL: its size, its bounds, and the checkpoints that move it into the log's file.
//!
//! Entry points: [`WalBounds`], [`checkpoint`], [`truncate`]. The rule it keeps: a checkpoint never loses a batch; what cannot be
//! moved stays in the WAL.

use std::ops::RangeInclusive;
use std::time::Duration;

use rusqlite::Connection;

/// Timeout of SQLite for a lock that another connection of this process holds briefly.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout of a truncation of the WAL for readers to finish.
const TRUNCATE_TIMEOUT: Duration = Duration::from_millis(200);

/// Bounds of the WAL's size in bytes. They scale with the log's bound, so that all its files together stay within that
/// bound and a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WalBounds {
    /// Sizes that trigger a background checkpoint. It keeps the disk busy, and a commit may wait for it: the smaller,
    /// the shorter (measured). Picked at random from a range, so that nodes that receive the same batches do not all
    /// run it at once.
    pub(super) due: RangeInclusive<i64>,
    /// Size that triggers one while batches arrive in bulk: more frequent ones cost a fifth of the throughput
    /// (measured), and a wait is not noticed.
    pub(super) due_in_bulk: i64,
    /// Size at which the writer runs a checkpoint before it stores anything else, so that the WAL is bounded at any
    /// rate.
    pub(super) most: i64,
    /// Size to which the WAL's file is truncated when it restarts. Truncation delays commits by about ten milliseconds
    /// (measured), so it must not happen at ordinary rates.
    pub(super) at_rest: i64,
}

impl WalBounds {
    /// Returns the bounds for a log of `keep_bytes`: an eighth of it, but 8 to 128 MiB.
    pub(super) fn of(keep_bytes: u64) -> WalBounds {
        let most = (keep_bytes / 8).clamp(8 << 20, 128 << 20) as i64;
        WalBounds {
            due: (most / 32).max(2 << 20)..=(most / 32 * 3).max(4 << 20),
            due_in_bulk: most / 8 * 3,
            most,
            at_rest: most / 2,
        }
    }
}

/// Size of the WAL, in bytes of pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wal {
    /// All pages. The WAL restarts when all are in the file and no reader needs them.
    pub(super) bytes: i64,
    /// Pages that are not in the file yet.
    pub(super) left: i64,
}

/// Returns the size of the WAL.
pub(super) fn size(conn: &Connection) -> rusqlite::Result<Wal> {
    // Older logs have smaller pages.
    let page: i64 = conn
        .prepare_cached("PRAGMA page_size")?
        .query_row([], |row| row.get(0))?;
    conn.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
        .query_row([], |row| {
            let (all, moved): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(Wal {
                bytes: all * page,
                left: (all - moved) * page,
            })
        })
}

/// Runs a checkpoint as far as no reader needs the WAL; does not wait.
pub(super) fn checkpoint(conn: &Connection) -> rusqlite::Result<()> {
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Moves the whole WAL into the file and truncates it, so that the file alone is the log. Waits for readers at most
/// [`TRUNCATE_TIMEOUT`]; the rest stays in the WAL, where it is safe. Returns whether everything was moved.
pub(super) fn truncate(conn: &Connection) -> rusqlite::Result<bool> {
    conn.busy_timeout(TRUNCATE_TIMEOUT)?;
    let truncated = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        Ok(row.get::<_, i64>(0)? == 0)
    });
    conn.busy_timeout(BUSY_TIMEOUT)?;
    truncated
}
