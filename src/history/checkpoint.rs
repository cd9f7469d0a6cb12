//! Moving the WAL into the log's file: when, and by whom.
//!
//! Entry type: [`Checkpoints`]. The rule it keeps: it is done in the background for as long as that keeps
//! up, so that no commit waits for it; past a bound the writer does it, and what comes waits.

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::LogError;
use super::log::Log;
use super::schema::{self, Sync};
use super::shelf::Unsynced;

/// Bytes in the WAL past which they are moved into the file, in the background. The disk is busy then, and a
/// commit may wait for it: the fewer, the shorter (measured). A number out of this range, so that nodes
/// which hear the same do not all do it at once.
const WAL_BYTES: RangeInclusive<i64> = 4 << 20..=12 << 20;

/// The same while batches come as fast as they can: what is moved more often costs a fifth of the
/// throughput (measured), and a wait is not felt.
const WAL_BYTES_IN_BULK: i64 = 48 << 20;

/// How often the background tries to move the last of them. Only when none is left does the WAL begin
/// anew, and the writer may add some at any time.
const WAL_TRIES: u32 = 8;

/// Bytes past which the writer does that itself, so that the WAL has a bound however fast batches come; they
/// wait meanwhile.
const WAL_BYTES_MOST: i64 = 128 << 20;

/// How the writer has the WAL moved into the file.
pub(super) struct Checkpoints {
    due: SyncSender<()>,
    /// So many bytes make it due, next time, unless batches come in bulk.
    at: i64,
    /// Whoever moves pages holds this: SQLite lets only one do it, and turns others away.
    turn: Arc<Mutex<()>>,
    /// Bytes in the WAL when the writer last moved them itself, and a reader kept it from beginning anew.
    seen: i64,
}

impl Checkpoints {
    /// For the log at `path`, and what a thread of its own runs.
    pub(super) fn new(
        path: PathBuf,
        sync: Sync,
        unsynced: Unsynced,
    ) -> (Checkpoints, impl FnOnce() + Send) {
        let (sender, due) = mpsc::sync_channel(1);
        let turn = Arc::new(Mutex::new(()));
        let checkpoints = Checkpoints {
            due: sender,
            at: rand::random_range(WAL_BYTES),
            turn: Arc::clone(&turn),
            seen: 0,
        };
        let background = move || {
            // Opened when it is first needed: a node that has nothing to do needs none.
            let mut conn = None;
            for () in due {
                // Whoever has to know that it has reached the disk waits.
                let mut finished = unsynced.lock().unwrap_or_else(PoisonError::into_inner);
                match finished.as_ref().map(File::sync_data) {
                    Some(Err(error)) => tracing::debug!(%error, "large messages were not synced"),
                    _ => *finished = None,
                }
                drop(finished);
                let opened = match conn.take() {
                    Some(conn) => Ok(conn),
                    None => schema::open_to_checkpoint(&path, sync),
                };
                let moved = opened.and_then(|opened| {
                    let conn = conn.insert(opened);
                    checkpoint(conn, &turn).map_err(|error| LogError::from_sqlite(&path, error))
                });
                if let Err(error) = moved {
                    // The writer meets the same failure and reports it.
                    tracing::debug!(%error, "the WAL could not be moved into the log");
                }
            }
        };
        (checkpoints, background)
    }

    /// Has the WAL of `log` moved when it is time, which is later while batches come `in_bulk`.
    pub(super) fn see_to_the_wal(&mut self, log: &Log, in_bulk: bool) {
        let Ok(wal) = log.wal() else { return };
        self.seen = self.seen.min(wal.bytes);
        if wal.left > 0 && wal.bytes - self.seen > WAL_BYTES_MOST {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = log.checkpoint() {
                tracing::warn!(%error, "the WAL could not be moved into the log");
            }
            // A reader that stays keeps it from beginning anew: then this is not tried each time.
            self.seen = wal.bytes;
            return;
        }
        let due = if in_bulk { WAL_BYTES_IN_BULK } else { self.at };
        if wal.left >= due || log.has_unsynced() {
            // When one is due already, that will do.
            let _ = self.due.try_send(());
            self.at = rand::random_range(WAL_BYTES);
        }
    }
}

/// The background's part.
fn checkpoint(conn: &rusqlite::Connection, turn: &Mutex<()>) -> rusqlite::Result<()> {
    // It may have been the large envelopes alone that were due.
    if schema::wal(conn)?.left < *WAL_BYTES.start() {
        return Ok(());
    }
    for _ in 0..WAL_TRIES {
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        schema::checkpoint(conn)?;
        if schema::wal(conn)?.left == 0 {
            break;
        }
    }
    Ok(())
}
