//! The thread that writes the log: what has queued is stored together, and what was put off is committed.
//!
//! Entry type: [`WriteLoop`]. The rule it keeps: appends are stored and answered in the order in which they queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::checkpoint::Checkpoints;
use super::error::LogError;
use super::log::Log;
use super::read::Reader;
use super::recreate::Recreated;
use super::retention::{PRUNED_AT_ONCE, PRUNED_BYTES_AT_ONCE, Pruned};
use super::writer::Appended;
use crate::clock::UnixClock;
use crate::model::Record;

/// What a commit takes at most, in KiB, so that acknowledgements keep coming under load.
const COMMIT_KIB: u32 = 4 << 10;

/// The same in a log that keeps so many bytes: a sixteenth of them, so that a small log is not over its bound by a
/// multiple before it is looked at.
fn commit_kib(keep_bytes: u64) -> u32 {
    let kib = u32::try_from(keep_bytes >> 14).unwrap_or(u32::MAX);
    kib.clamp(MIN_COMMIT_KIB, COMMIT_KIB)
}

/// A commit of less costs more for each batch.
const MIN_COMMIT_KIB: u32 = 256;

/// Batches, and bytes of them, that are stored before it is looked whether the log is over its bounds and
/// how far the WAL has grown. Each look takes several statements, and the bounds hold but for this much.
const BOUNDS_CHECK_BATCHES: usize = 64;
const BOUNDS_CHECK_KIB: u32 = 1 << 10;

/// Transactions in which batches are removed in addition, when larger ones have taken the place of small ones.
const EXTRA_ROUNDS: usize = 16;

/// When nothing has been stored for so long, it is seen to what such a time has left.
const IDLE_DELAY: Duration = Duration::from_secs(1);

/// How long small batches are only in the log's journal, and readers of the file wait for them. The longer, the
/// more of them share a page: this bounds what is written at a few messages a second.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// How soon a commit of them that failed is tried again, if nothing is stored meanwhile.
const FLUSH_RETRY_INTERVAL: Duration = Duration::from_secs(5);

pub(super) type Done = Box<dyn FnOnce(Appended) + Send>;
/// Told too whether the reader sees everything that was acknowledged: not while the disk is full, for example.
pub(super) type ReadJob = Box<dyn FnOnce(&Reader<'_>, bool) + Send>;

pub(super) enum Command {
    Append {
        records: Vec<Record>,
        kib: u32,
        room: OwnedSemaphorePermit,
        done: Done,
    },
    /// There is something in the front.
    ScheduleFlush,
    Prune,
    Read(ReadJob),
}

/// What the log does by itself, and somebody has to know.
#[derive(Debug)]
pub enum Notice {
    /// Batches of a room were removed, or less of it is taken than before.
    Pruned(Pruned),
    /// Its files had been removed, renamed or replaced, and it was made anew where they were. What is held of its rooms
    /// may be less than before: read them again.
    Recreated(Recreated),
    /// Batches that were acknowledged cannot be committed: they are in memory, or in the log's journal, and it is tried again.
    NotCommitted(LogError),
}

/// The writing thread.
pub(super) struct WriteLoop {
    pub(super) log: Log,
    pub(super) clock: UnixClock,
    pub(super) notify: Box<dyn FnMut(Notice) + Send>,
    pub(super) checkpoints: Option<Checkpoints>,
    /// The reading thread; none for a log in memory.
    pub(super) reads: Option<Sender<(ReadJob, bool)>>,
    pub(super) queued: Arc<AtomicUsize>,
    /// When what is in the log's front is to be committed.
    pub(super) flush_at: Option<Instant>,
    /// Batches and KiB that were stored since it was looked how full the log is.
    pub(super) since_last_bounds_check: (usize, u32),
    /// Nothing was stored since it was looked, after a pause, how far the WAL has grown.
    pub(super) is_idle: bool,
}

impl WriteLoop {
    pub(super) fn run(mut self, queue: &Receiver<Command>) {
        let mut next = None;
        let most = commit_kib(self.log.keep().bytes);
        while let Some(command) = next.take().or_else(|| self.wait(queue)) {
            match command {
                Command::Append {
                    records,
                    kib,
                    room,
                    done,
                } => {
                    let mut group = vec![(records, room, done)];
                    let mut total = kib;
                    while total < most {
                        match queue.try_recv() {
                            Ok(Command::Append {
                                records,
                                kib,
                                room,
                                done,
                            }) => {
                                total += kib;
                                group.push((records, room, done));
                            }
                            Ok(other) => {
                                next = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    let stored: usize = group.iter().map(|(records, _, _)| records.len()).sum();
                    self.is_idle = false;
                    self.store(group);
                    self.since_last_bounds_check.0 += stored;
                    self.since_last_bounds_check.1 =
                        self.since_last_bounds_check.1.saturating_add(total);
                    match self.flush_at {
                        Some(at) if at <= Instant::now() => {
                            self.flush();
                        }
                        // What came meanwhile must not take the log far past its bound.
                        Some(_) if self.since_last_bounds_check.1 >= BOUNDS_CHECK_KIB => {
                            self.enforce_bounds()
                        }
                        Some(_) => {}
                        None => self.enforce_bounds(),
                    }
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

    /// The next command; meanwhile what is due is committed, and in a pause it is seen to the WAL.
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

    fn store(&mut self, group: Vec<(Vec<Record>, OwnedSemaphorePermit, Done)>) {
        let unix = self.clock.read();
        let all: Vec<&Record> = group.iter().flat_map(|(records, ..)| records).collect();
        let stored = self.with_recovery(|log| log.append_soon(unix, &all));
        let appends = group.len();
        match stored {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for (records, room, done) in group {
                    done(Ok(outcomes.by_ref().take(records.len()).collect()));
                    drop(room);
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for (_, _, done) in group {
                    done(Err(Arc::clone(&error)));
                }
            }
        }
        self.limit_wal();
        self.schedule_flush();
        // Only now: what comes after them is not to be heard of before.
        self.queued.fetch_sub(appends, Ordering::AcqRel);
    }

    /// Commits what is in the log's journal; whether it could.
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

    /// Does `act`, and once more when it failed for a reason that could be removed.
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

    /// Sees to the bounds when enough has been stored since that was done last.
    fn enforce_bounds(&mut self) {
        let (batches, bytes) = self.log.write_buffer().lock().taken();
        self.since_last_bounds_check.0 += batches;
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        self.since_last_bounds_check.1 = self.since_last_bounds_check.1.saturating_add(kib);
        let (batches, kib) = self.since_last_bounds_check;
        if batches < BOUNDS_CHECK_BATCHES && kib < BOUNDS_CHECK_KIB {
            return;
        }
        let (stored, kib) = std::mem::take(&mut self.since_last_bounds_check);
        let in_bulk = kib >= BOUNDS_CHECK_KIB;
        // As many go as came, and what they take more than those before them, so that the bound holds under any load.
        let came = (stored / PRUNED_AT_ONCE).max(kib as usize / (PRUNED_BYTES_AT_ONCE >> 10));
        let rounds = came + EXTRA_ROUNDS;
        for _ in 0..=rounds {
            if !self.prune_once() {
                break;
            }
        }
        self.maybe_checkpoint(in_bulk);
    }

    /// Removes some of the oldest, when it is time; whether there may be more.
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
