//! The log's writing thread: group commit of queued appends, flush of the write buffer, retention and checkpoints.
//!
//! Entry type: [`WriteLoop`]. The rule it keeps: appends are stored and answered in the order in which they were
//! queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::checkpoint::Checkpoints;
use super::command::{Append, Command, Notice, ReadJob};
use super::error::LogError;
use super::log::Log;
use super::retention::{MAX_REMOVED_AT_ONCE, MAX_REMOVED_BYTES_AT_ONCE};
use crate::clock::UnixClock;
use crate::model::Record;

/// Maximum size of a group commit in KiB, so that acknowledgements keep flowing under load.
const MAX_COMMIT_KIB: u32 = 4 << 10;

/// Returns the maximum size of a group commit in KiB for a log with this bound: a sixteenth of it, so that a small log
/// does not exceed its bound by a multiple before the next check.
fn max_commit_kib(keep_bytes: u64) -> u32 {
    let kib = u32::try_from(keep_bytes >> 14).unwrap_or(u32::MAX);
    kib.clamp(MIN_COMMIT_KIB, MAX_COMMIT_KIB)
}

/// Minimum of that size in KiB: smaller commits cost more for each batch.
const MIN_COMMIT_KIB: u32 = 256;

/// Check retention and WAL size only every this many batches or KiB; each check costs several statements, and the log
/// may exceed its bounds by this much.
const BOUNDS_CHECK_BATCHES: usize = 64;
const BOUNDS_CHECK_KIB: u32 = 1 << 10;

/// Additional transactions of removals in one check, for when larger batches replace small ones.
const EXTRA_ROUNDS: usize = 16;

/// Idle delay after which the writer runs a checkpoint.
const IDLE_DELAY: Duration = Duration::from_secs(1);

/// Interval from the first entry of the write buffer to its flush; readers of the file wait up to this long. A longer
/// one lets more batches share a page: it bounds the bytes written at a few messages a second.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// Interval after which a failed flush is retried, unless an append retries it earlier.
const FLUSH_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// State of the writing thread.
pub(super) struct WriteLoop {
    pub(super) log: Log,
    pub(super) clock: UnixClock,
    pub(super) notify: Box<dyn FnMut(Notice) + Send>,
    pub(super) checkpoints: Option<Checkpoints>,
    /// Queue of the reading thread; none for a log in memory.
    pub(super) reads: Option<Sender<(ReadJob, bool)>>,
    pub(super) queued: Arc<AtomicUsize>,
    /// Time of the next flush of the write buffer.
    pub(super) flush_at: Option<Instant>,
    /// Batches and KiB stored since the last check of the bounds.
    pub(super) since_last_bounds_check: (usize, u32),
    /// Whether nothing was stored since the last checkpoint of an idle period.
    pub(super) is_idle: bool,
}

impl WriteLoop {
    pub(super) fn run(mut self, queue: &Receiver<Command>) {
        let mut next = None;
        let max_kib = max_commit_kib(self.log.policy().bytes);
        while let Some(command) = next.take().or_else(|| self.wait(queue)) {
            match command {
                Command::Append(append) => {
                    let (group, other) = collect_group(append, queue, max_kib);
                    next = other;
                    self.commit_group(group);
                }
                Command::ScheduleFlush => {
                    self.is_idle = false;
                    self.schedule_flush();
                }
                Command::Prune => while self.prune_once() {},
                Command::Read(job) => {
                    let is_whole = self.flush();
                    match &self.reads {
                        Some(reads) => drop(reads.send((job, is_whole))),
                        None => job(&self.log.reader(), is_whole),
                    }
                }
            }
        }
        if let Err(error) = self.with_recovery(Log::close) {
            tracing::warn!(%error, "the log could not be put into one file at its end; the next start does that");
        }
    }

    /// Waits for the next command; meanwhile runs the flush when it is due and a checkpoint when the log becomes idle.
    fn wait(&mut self, queue: &Receiver<Command>) -> Option<Command> {
        loop {
            let time = match self.flush_at {
                Some(at) => at.saturating_duration_since(Instant::now()),
                None if !self.is_idle => IDLE_DELAY,
                None => return queue.recv().ok(),
            };
            match queue.recv_timeout(time) {
                Ok(command) => return Some(command),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.flush_at.is_some() => {
                    self.flush();
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.is_idle = true;
                    self.maybe_checkpoint(false);
                }
            }
        }
    }

    /// Stores a group of appends, then flushes or checks the bounds if one of them is due.
    fn commit_group(&mut self, group: Vec<Append>) {
        let stored: usize = group.iter().map(|append| append.records.len()).sum();
        let kib = group.iter().map(|append| append.kib).sum();
        self.is_idle = false;
        self.store(group);
        self.since_last_bounds_check.0 += stored;
        self.since_last_bounds_check.1 = self.since_last_bounds_check.1.saturating_add(kib);
        match self.flush_at {
            Some(at) if at <= Instant::now() => {
                self.flush();
            }
            // Meanwhile stored batches must not carry the log far over its bound.
            Some(_) if self.since_last_bounds_check.1 >= BOUNDS_CHECK_KIB => self.enforce_bounds(),
            Some(_) => {}
            None => self.enforce_bounds(),
        }
    }

    fn store(&mut self, group: Vec<Append>) {
        let unix = self.clock.read();
        let all: Vec<&Record> = group.iter().flat_map(|append| &append.records).collect();
        let stored = self.with_recovery(|log| log.append_buffered(unix, &all));
        let appends = group.len();
        match stored {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for append in group {
                    let count = append.records.len();
                    (append.done)(Ok(outcomes.by_ref().take(count).collect()));
                    drop(append.room);
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for append in group {
                    (append.done)(Err(Arc::clone(&error)));
                }
            }
        }
        self.limit_wal();
        self.schedule_flush();
        // Last, so that a batch stored by a caller's own thread is not acknowledged before these.
        self.queued.fetch_sub(appends, Ordering::AcqRel);
    }

    /// Flushes the write buffer. Returns whether that succeeded.
    fn flush(&mut self) -> bool {
        match self.with_recovery(Log::flush) {
            Ok(()) => {
                self.flush_at = None;
                self.limit_wal();
                self.schedule_flush();
                self.enforce_bounds();
                true
            }
            Err(error) => {
                (self.notify)(Notice::NotCommitted(error));
                self.flush_at = Some(Instant::now() + FLUSH_RETRY_INTERVAL);
                false
            }
        }
    }

    /// Runs `act`, and once more if it failed for a reason that recovery could remove: a full disk or displaced files.
    fn with_recovery<T>(
        &mut self,
        act: impl Fn(&mut Log) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let done = act(&mut self.log);
        let is_recovered = match &done {
            Err(LogError::Full { .. }) => match &mut self.checkpoints {
                Some(checkpoints) => checkpoints.relieve(&self.log),
                None => false,
            },
            Err(LogError::Displaced { .. }) => {
                let remade = self.log.recreate()?;
                (self.notify)(Notice::Recreated(remade));
                true
            }
            _ => false,
        };
        match is_recovered {
            true => act(&mut self.log),
            false => done,
        }
    }

    fn limit_wal(&mut self) {
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.limit_wal(&self.log);
        }
    }

    fn maybe_checkpoint(&mut self, in_bulk: bool) {
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.maybe_checkpoint(&self.log, in_bulk);
        }
    }

    fn schedule_flush(&mut self) {
        if !self.log.has_uncommitted() {
            self.flush_at = None;
        } else if self.flush_at.is_none() {
            self.flush_at = Some(Instant::now() + FLUSH_INTERVAL);
        }
    }

    /// Enforces the bounds if enough was stored since the last check.
    fn enforce_bounds(&mut self) {
        let (batches, bytes) = self.log.write_buffer().lock().take_accepted();
        self.since_last_bounds_check.0 += batches;
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        self.since_last_bounds_check.1 = self.since_last_bounds_check.1.saturating_add(kib);
        let (batches, kib) = self.since_last_bounds_check;
        if batches < BOUNDS_CHECK_BATCHES && kib < BOUNDS_CHECK_KIB {
            return;
        }
        let (stored, kib) = std::mem::take(&mut self.since_last_bounds_check);
        let in_bulk = kib >= BOUNDS_CHECK_KIB;
        // Removes as much as was stored, in number and in bytes, and more, so that the bound holds under any load.
        let rounds_needed =
            (stored / MAX_REMOVED_AT_ONCE).max(kib as usize / (MAX_REMOVED_BYTES_AT_ONCE >> 10));
        let rounds = rounds_needed + EXTRA_ROUNDS;
        for _ in 0..=rounds {
            if !self.prune_once() {
                break;
            }
        }
        self.maybe_checkpoint(in_bulk);
    }

    /// Removes a bounded number of batches if the log is over its bounds. Returns whether there may be more.
    fn prune_once(&mut self) -> bool {
        let unix = self.clock.read();
        match self.with_recovery(|log| log.prune(unix)) {
            Ok(pruned) => {
                self.limit_wal();
                let more = !pruned.is_empty();
                pruned
                    .into_iter()
                    .map(Notice::Pruned)
                    .for_each(&mut self.notify);
                more
            }
            Err(error) => {
                tracing::warn!(%error, "the oldest batches could not be removed");
                false
            }
        }
    }
}

/// Takes the appends that are queued behind `first`, up to `max_kib` in total. Returns them, and the first other command.
fn collect_group(
    first: Append,
    queue: &Receiver<Command>,
    max_kib: u32,
) -> (Vec<Append>, Option<Command>) {
    let mut total = first.kib;
    let mut group = vec![first];
    while total < max_kib {
        match queue.try_recv() {
            Ok(Command::Append(append)) => {
                total += append.kib;
                group.push(append);
            }
            Ok(other) => return (group, Some(other)),
            Err(_) => break,
        }
    }
    (group, None)
}
