//! Checkpoints: decides when SQLite's WAL is moved into the log's file, and runs most of them in the background.
//!
//! Entry type: [`Checkpoints`]. The rule it keeps: a background thread runs checkpoints as long as it keeps up, so
//! that no commit waits for one; beyond a bound the writer runs it, and appends wait.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::blob_store::Unsynced;
use super::disk_space::free_bytes;
use super::error::LogError;
use super::log::Log;
use super::retention_policy::RetentionPolicy;
use super::schema;
use super::wal::{self, WalBounds};

/// Maximum number of passes of a background checkpoint. The WAL restarts only when all of it is moved, and the writer
/// may append to it at any time.
const MAX_WAL_PASSES: u32 = 8;

/// Size of the WAL that triggers a checkpoint while the disk has less free space than the WAL may take.
const MAX_WAL_WHEN_TIGHT: i64 = 1 << 20;

/// How long a disk counts as nearly full after a write failed: the free bytes that the system reports do not show a
/// quota.
const TIGHT_FOR: Duration = Duration::from_secs(60);

/// Minimum interval of failed attempts to free space by truncating the WAL: each writes all of it to the disk.
const RELIEF_INTERVAL: Duration = Duration::from_secs(1);

/// Schedule of checkpoints, owned by the writer.
pub(super) struct Checkpoints {
    due: SyncSender<()>,
    bounds: WalBounds,
    /// Size that triggers the next background checkpoint.
    at: i64,
    /// Held during a checkpoint: SQLite refuses a second one.
    turn: Arc<Mutex<()>>,
    /// Time of the last truncation that failed because the disk was full.
    full_at: Option<Instant>,
    /// Time of the last truncation that a reader prevented.
    blocked_at: Option<Instant>,
    /// Size of the WAL after the writer's last checkpoint that a reader kept from restarting it.
    seen: i64,
}

impl Checkpoints {
    /// Creates the schedule for the log at `path`, and the function that a background thread runs.
    pub(super) fn new(
        path: PathBuf,
        policy: RetentionPolicy,
        unsynced: Unsynced,
        generation: Arc<AtomicU64>,
    ) -> (Checkpoints, impl FnOnce() + Send) {
        let (sender, due) = mpsc::sync_channel(1);
        let turn = Arc::new(Mutex::new(()));
        let bounds = WalBounds::of(policy.bytes);
        let least = *bounds.due.start();
        let checkpoints = Checkpoints {
            due: sender,
            at: rand::random_range(bounds.due.clone()),
            bounds,
            turn: Arc::clone(&turn),
            full_at: None,
            blocked_at: None,
            seen: 0,
        };
        let background = move || {
            // Opened on first use: an idle node needs no connection.
            let mut conn = None;
            let mut opened_at = 0;
            for () in due {
                // A recreated log has other files.
                let now_at = generation.load(Ordering::Acquire);
                if std::mem::replace(&mut opened_at, now_at) != now_at {
                    conn = None;
                }
                // Others that need the file to be synced wait for this lock.
                let mut finished = unsynced.lock().unwrap_or_else(PoisonError::into_inner);
                match finished.as_ref().map(File::sync_data) {
                    Some(Err(error)) => tracing::debug!(%error, "large messages were not synced"),
                    _ => *finished = None,
                }
                drop(finished);
                let opened = match conn.take() {
                    Some(conn) => Ok(conn),
                    None => schema::open_to_checkpoint(&path, &policy),
                };
                let moved = opened.and_then(|opened| {
                    let conn = conn.insert(opened);
                    checkpoint(conn, &turn, least)
                        .map_err(|error| LogError::from_sqlite(&path, error))
                });
                if let Err(error) = moved {
                    // The writer meets the same failure and reports it.
                    tracing::debug!(%error, "the WAL could not be moved into the log");
                }
            }
        };
        (checkpoints, background)
    }

    /// Requests a background checkpoint if the WAL has grown enough, or runs one if the WAL is over its bound. While
    /// batches arrive `in_bulk` the trigger is higher.
    pub(super) fn maybe_checkpoint(&mut self, log: &Log, in_bulk: bool) {
        let Ok(wal) = log.wal() else { return };
        self.seen = self.seen.min(wal.bytes);
        if wal.left > 0 && wal.bytes - self.seen > self.bounds.most {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = log.checkpoint() {
                tracing::warn!(%error, "the WAL could not be moved into the log");
            }
            // A reader prevented the restart: do not try again until the WAL has grown as much again.
            self.seen = wal.bytes;
            return;
        }
        let due = match in_bulk {
            true => self.bounds.due_in_bulk,
            false => self.at,
        };
        if wal.left >= due || log.tables.has_unsynced() {
            // If a request is queued already, it suffices.
            let _ = self.due.try_send(());
            self.at = rand::random_range(self.bounds.due.clone());
        }
    }

    /// Runs after a commit: keeps the WAL within its bound, and small while it could fill the disk.
    pub(super) fn limit_wal(&mut self, log: &Log) {
        let bytes = i64::try_from(log.wal_file_bytes()).unwrap_or(i64::MAX);
        if bytes > self.bounds.most {
            self.maybe_checkpoint(log, true);
        } else if bytes > MAX_WAL_WHEN_TIGHT && self.is_tight(log) {
            self.relieve(log);
        }
    }

    /// Returns whether the WAL could fill the disk before it is moved into the file, which then could not grow either.
    fn is_tight(&self, log: &Log) -> bool {
        let was_full = self.full_at.is_some_and(|at| at.elapsed() < TIGHT_FOR);
        was_full || free_bytes(log.path()).is_some_and(|free| free < self.bounds.most as u64)
    }

    /// Frees space on a full or nearly full disk: moves the WAL of `log` into the file, which needs less space there,
    /// and truncates it. Not retried within [`RELIEF_INTERVAL`] after a failure, unless space was freed meanwhile.
    /// Returns whether it succeeded.
    pub(super) fn relieve(&mut self, log: &Log) -> bool {
        let is_recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < RELIEF_INTERVAL);
        let has_room =
            || free_bytes(log.path()).is_some_and(|free| free > MAX_WAL_WHEN_TIGHT as u64);
        if is_recent(self.blocked_at) || is_recent(self.full_at) && !has_room() {
            return false;
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match log.truncate_wal() {
            Ok(true) => {
                self.seen = 0;
                return true;
            }
            Ok(false) => self.blocked_at = Some(Instant::now()),
            Err(error) => {
                tracing::debug!(%error, "the WAL could not be moved into the log");
                self.full_at = Some(Instant::now());
            }
        }
        false
    }
}

/// Runs a background checkpoint.
fn checkpoint(conn: &rusqlite::Connection, turn: &Mutex<()>, least: i64) -> rusqlite::Result<()> {
    // Only the blob file may have been due.
    if wal::size(conn)?.left < least {
        return Ok(());
    }
    for _ in 0..MAX_WAL_PASSES {
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        wal::checkpoint(conn)?;
        if wal::size(conn)?.left == 0 {
            break;
        }
    }
    Ok(())
}
