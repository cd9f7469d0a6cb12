//! Moving the WAL into the log's file: when, and by whom.
//!
//! Entry type: [`Checkpoints`]. The rule it keeps: it is done in the background for as long as that keeps
//! up, so that no commit waits for it; past a bound the writer does it, and what comes waits.

use std::fs::File;
use std::ops::RangeInclusive;
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

/// How often the background tries to move the last of them. Only when none is left does the WAL begin
/// anew, and the writer may add some at any time.
const WAL_TRIES: u32 = 8;

/// Bytes in the WAL past which they are moved into the file when there is less room on the disk than a WAL may take.
const MAX_WAL_WHEN_TIGHT: i64 = 1 << 20;

/// How long after the disk was full it counts as nearly full: a quota is not seen in what the system calls free.
const TIGHT_FOR: Duration = Duration::from_secs(60);

/// How soon room is sought in the WAL again when that has failed: each time, all that is in it is written to the disk.
const RELIEF_INTERVAL: Duration = Duration::from_secs(1);

/// How far the WAL of a log may grow, in bytes. A log that keeps little has a small WAL: all its files together stay
/// below what it keeps and a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WalBounds {
    /// Bytes past which they are moved into the file, in the background. The disk is busy then, and a commit may wait
    /// for it: the fewer, the shorter (measured). A number out of this range, so that nodes which hear the same do not
    /// all do it at once.
    due: RangeInclusive<i64>,
    /// The same while batches come as fast as they can: what is moved more often costs a fifth of the throughput
    /// (measured), and a wait is not felt.
    due_in_bulk: i64,
    /// Bytes past which the writer does that itself before it stores anything else, so that the WAL has a bound however
    /// fast batches come; they wait meanwhile.
    pub(super) most: i64,
    /// What the file is cut back to when it begins anew after a burst. Cutting stops commits for some ten milliseconds
    /// (measured), so that it must not happen at ordinary rates.
    pub(super) at_rest: i64,
}

impl WalBounds {
    /// Of a log that keeps so many bytes: at most an eighth of them, but 8 MiB at least and 128 MiB at most.
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

/// How the writer has the WAL moved into the file.
pub(super) struct Checkpoints {
    due: SyncSender<()>,
    bounds: WalBounds,
    /// So many bytes make it due, next time, unless batches come in bulk.
    at: i64,
    /// Whoever moves pages holds this: SQLite lets only one do it, and turns others away.
    turn: Arc<Mutex<()>>,
    /// When the WAL could last not be cut because the disk was full.
    full_at: Option<Instant>,
    /// When it could last not be cut because a reader was in the way.
    blocked_at: Option<Instant>,
    /// Bytes in the WAL when the writer last moved them itself, and a reader kept it from beginning anew.
    seen: i64,
}

impl Checkpoints {
    /// For the log at `path`, and what a thread of its own runs.
    pub(super) fn new(
        path: PathBuf,
        keep: RetentionPolicy,
        unsynced: Unsynced,
        generation: Arc<AtomicU64>,
    ) -> (Checkpoints, impl FnOnce() + Send) {
        let (sender, due) = mpsc::sync_channel(1);
        let turn = Arc::new(Mutex::new(()));
        let bounds = WalBounds::of(keep.bytes);
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
            // Opened when it is first needed: a node that has nothing to do needs none.
            let mut conn = None;
            let mut opened_at = 0;
            for () in due {
                // A log that was made anew has other files.
                let now_at = generation.load(Ordering::Acquire);
                if std::mem::replace(&mut opened_at, now_at) != now_at {
                    conn = None;
                }
                // Whoever has to know that it has reached the disk waits.
                let mut finished = unsynced.lock().unwrap_or_else(PoisonError::into_inner);
                match finished.as_ref().map(File::sync_data) {
                    Some(Err(error)) => tracing::debug!(%error, "large messages were not synced"),
                    _ => *finished = None,
                }
                drop(finished);
                let opened = match conn.take() {
                    Some(conn) => Ok(conn),
                    None => schema::open_to_checkpoint(&path, &keep),
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

    /// Has the WAL of `log` moved when it is time, which is later while batches come `in_bulk`.
    pub(super) fn maybe_checkpoint(&mut self, log: &Log, in_bulk: bool) {
        let Ok(wal) = log.wal() else { return };
        self.seen = self.seen.min(wal.bytes);
        if wal.left > 0 && wal.bytes - self.seen > self.bounds.most {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = log.checkpoint() {
                tracing::warn!(%error, "the WAL could not be moved into the log");
            }
            // A reader that stays keeps it from beginning anew: then this is not tried each time.
            self.seen = wal.bytes;
            return;
        }
        let due = match in_bulk {
            true => self.bounds.due_in_bulk,
            false => self.at,
        };
        if wal.left >= due || log.has_unsynced() {
            // When one is due already, that will do.
            let _ = self.due.try_send(());
            self.at = rand::random_range(self.bounds.due.clone());
        }
    }

    /// After a commit: keeps the WAL within its bound, and, where it could fill the disk, far below.
    pub(super) fn limit_wal(&mut self, log: &Log) {
        let bytes = i64::try_from(log.wal_file_bytes()).unwrap_or(i64::MAX);
        if bytes > self.bounds.most {
            self.maybe_checkpoint(log, true);
        } else if bytes > MAX_WAL_WHEN_TIGHT && self.is_tight(log) {
            self.relieve(log);
        }
    }

    /// Whether the WAL could fill the disk before it is moved into the file, which then cannot grow: nothing could be
    /// stored any more, however much of the WAL is written twice.
    fn is_tight(&self, log: &Log) -> bool {
        let was_full = self.full_at.is_some_and(|at| at.elapsed() < TIGHT_FOR);
        was_full || free_bytes(log.path()).is_some_and(|free| free < self.bounds.most as u64)
    }

    /// The disk is full, or nearly so. Moves what the WAL of `log` holds into the file, which needs less room there, and
    /// cuts the WAL to nothing; not again within [`RELIEF_INTERVAL`] when that has failed, unless there is room by now.
    /// Returns whether it was done.
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

/// The background's part.
fn checkpoint(conn: &rusqlite::Connection, turn: &Mutex<()>, least: i64) -> rusqlite::Result<()> {
    // It may have been the large envelopes alone that were due.
    if schema::wal(conn)?.left < least {
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
