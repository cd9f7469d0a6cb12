//! Handle of a log that runs on threads of its own: a bounded queue of appends with backpressure, and reads.
//!
//! Entry type: [`Writer`]. The rules it keeps: `done` is called after the batch is durable; a full queue makes the
//! caller wait or returns an error, and drops nothing; reads and checkpoints do not delay a commit.
//!
//! While the queue is empty, a small batch does not change threads: it goes into the write buffer, and half a second
//! later into the tables. At a low rate two threads that wake each other cost more than all the rest of storing.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::checkpoint::Checkpoints;
use super::command::{Append, Appended, Command, Notice, ReadJob};
use super::error::LogError;
use super::log::Log;
use super::read::Reader;
use super::retention_policy::RetentionPolicy;
use super::schema;
use super::write_buffer::{MAX_BUFFERED_BYTES, SharedWriteBuffer};
use super::write_loop::WriteLoop;
use crate::clock::UnixClock;
use crate::model::{Outcome, Record, Verified};

/// Maximum size of the queue in KiB: a few hundred milliseconds of a disk's work.
const MAX_QUEUE_KIB: u32 = 32 << 10;

/// The queue is full, and nothing was accepted. Wait, or use [`Writer::append_when_room`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log's queue is full")]
pub struct QueueFull;

/// A log on threads of its own. Dropping it stores the queued appends and closes the log.
pub struct Writer {
    commands: Option<Sender<Command>>,
    /// Queue of the reading thread; none for a log in memory, which the writing thread reads.
    reads: Option<Sender<(ReadJob, bool)>>,
    clock: UnixClock,
    policy: RetentionPolicy,
    buffer: SharedWriteBuffer,
    /// Whether an acknowledged batch is not visible to the reading thread yet.
    is_behind: Arc<AtomicBool>,
    /// Number of appends that are queued or being stored.
    queued: Arc<AtomicUsize>,
    room: Arc<Semaphore>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts the threads of `log`. `notify` is called with each change that the log makes on its own initiative.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be opened for reading or a thread cannot be started.
    pub fn start(
        log: Log,
        clock: impl Into<UnixClock>,
        notify: impl FnMut(Notice) + Send + 'static,
    ) -> Result<Writer, LogError> {
        Writer::start_watched(log, clock, notify, |_, _| {})
    }

    /// Starts the threads of `log` as [`Writer::start`] does. `on_panic` is called with the name of a thread that
    /// panics and its panic payload: without that thread the log answers no more.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be opened for reading or a thread cannot be started.
    pub fn start_watched(
        log: Log,
        clock: impl Into<UnixClock>,
        notify: impl FnMut(Notice) + Send + 'static,
        on_panic: impl Fn(&'static str, &(dyn Any + Send)) + Send + Sync + 'static,
    ) -> Result<Writer, LogError> {
        let clock: UnixClock = clock.into();
        let path = log.path().to_owned();
        let policy = *log.policy();
        let mut threads = Threads {
            path: &path,
            on_panic: Arc::new(on_panic),
            handles: Vec::new(),
        };
        let mut reads = None;
        let mut checkpoints = None;
        if !log.is_ephemeral() {
            let conn = schema::open_to_read(&path)?;
            let generation = Arc::clone(&log.generation);
            let (sender, jobs) = mpsc::channel::<(ReadJob, bool)>();
            let of = path.clone();
            threads.spawn("log-reader", move || read(&of, conn, &generation, jobs))?;
            reads = Some(sender);

            let generation = Arc::clone(&log.generation);
            let unsynced = log.tables.unsynced();
            let (due, background) = Checkpoints::new(path.clone(), policy, unsynced, generation);
            checkpoints = Some(due);
            threads.spawn("log-checkpoint", background)?;
        }
        let (commands, queue) = mpsc::channel();
        let buffer = log.write_buffer();
        let is_behind = buffer.lock().behind_flag();
        let queued = Arc::new(AtomicUsize::new(0));
        let write_loop = WriteLoop {
            log,
            clock: clock.clone(),
            notify: Box::new(notify),
            checkpoints,
            reads: reads.clone(),
            queued: Arc::clone(&queued),
            flush_at: None,
            since_last_bounds_check: (0, 0),
            is_idle: true,
        };
        threads.spawn("log-writer", move || write_loop.run(&queue))?;
        Ok(Writer {
            commands: Some(commands),
            reads,
            clock,
            policy,
            buffer,
            is_behind,
            queued,
            room: Arc::new(Semaphore::new(MAX_QUEUE_KIB as usize)),
            threads: threads.handles,
        })
    }

    /// Queues `batches`; `done` is called on the log's thread with the result.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] if the queue has no room for them; nothing is stored.
    pub fn append<C: Verified>(
        &self,
        batches: &[C],
        done: impl FnOnce(Appended) + Send + 'static,
    ) -> Result<(), QueueFull> {
        let records: Vec<Record> = batches.iter().map(Verified::record).collect();
        let kib = kib_of(&records);
        let room = Arc::clone(&self.room)
            .try_acquire_many_owned(kib)
            .map_err(|_| QueueFull)?;
        self.queue(Command::Append(Append {
            records,
            kib,
            room,
            done: Box::new(done),
        }));
        Ok(())
    }

    /// Stores small batches at once if the queue is empty and the write buffer accepts them. Otherwise waits for room
    /// in the queue, then queues them as [`Writer::append`] does. Batches are stored and acknowledged in the order of
    /// the calls.
    pub async fn append_in_turn<C: Verified>(
        &self,
        batches: &[C],
        done: impl FnOnce(Appended) + Send + 'static,
    ) {
        let records: Vec<Record> = batches.iter().map(Verified::record).collect();
        if self.try_store_now(&records) {
            return done(Ok(vec![Outcome::New { follows: true }; records.len()]));
        }
        let kib = kib_of(&records);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await;
        let done = Box::new(done);
        match room {
            Ok(room) => self.queue(Command::Append(Append {
                records,
                kib,
                room,
                done,
            })),
            Err(_) => done(Err(Arc::new(LogError::Closed))),
        }
    }

    fn try_store_now(&self, records: &[Record]) -> bool {
        let bytes: usize = records.iter().map(|record| record.bytes.len()).sum();
        if bytes > MAX_BUFFERED_BYTES || self.queued.load(Ordering::Acquire) > 0 {
            return false;
        }
        // Another thread holds the lock for a commit, which may take a while.
        let Some(mut buffer) = self.buffer.try_lock() else {
            return false;
        };
        let unix = self.clock.read();
        let oldest_ms = self.policy.oldest_ms(unix);
        let is_first = buffer.entries().is_empty();
        let is_stored = buffer.try_accept(unix.now, oldest_ms, records);
        drop(buffer);
        if is_stored && is_first {
            self.queue(Command::ScheduleFlush);
        }
        is_stored
    }

    /// Waits for room in the queue, then for the commit, and returns the result.
    pub async fn append_when_room<C: Verified>(&self, batches: &[C]) -> Appended {
        let (sender, receiver) = oneshot::channel();
        self.append_in_turn(batches, |appended| {
            // The caller no longer waits; the batches are stored all the same.
            let _ = sender.send(appended);
        })
        .await;
        receiver
            .await
            .unwrap_or_else(|_| Err(Arc::new(LogError::Closed)))
    }

    /// Runs `job` on the log's reading thread. It sees every batch acknowledged before the call, unless the flush of
    /// one fails at the moment.
    pub fn read(&self, job: impl FnOnce(&Reader<'_>) + Send + 'static) {
        self.queue_read(Box::new(|reader, _| job(reader)));
    }

    fn queue_read(&self, job: ReadJob) {
        match &self.reads {
            // If the reading thread has ended, the job is dropped, and its caller sees the closed channel.
            Some(reads) if !self.is_behind.load(Ordering::Acquire) => {
                drop(reads.send((job, true)));
            }
            // The writing thread flushes first; in memory it also reads.
            _ => self.queue(Command::Read(job)),
        }
    }

    /// Returns the result of `job`; none if an acknowledged batch cannot be flushed at the moment, so that the answer
    /// might lack it. A batch missing from an answer is not in the log.
    ///
    /// # Errors
    ///
    /// [`LogError::Closed`] if the log is closed, and the errors of `job`.
    pub async fn ask_whole<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Reader<'_>) -> Result<T, LogError> + Send + 'static,
    ) -> Result<Option<T>, LogError> {
        let (sender, receiver) = oneshot::channel();
        self.queue_read(Box::new(move |reader, is_whole| {
            drop(sender.send(is_whole.then(|| job(reader)).transpose()));
        }));
        receiver.await.unwrap_or(Err(LogError::Closed))
    }

    /// Returns the result of `job`, which runs on the log's reading thread.
    ///
    /// # Errors
    ///
    /// [`LogError::Closed`] if the log is closed, and the errors of `job`.
    pub async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Reader<'_>) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let (sender, receiver) = oneshot::channel();
        self.read(|reader| drop(sender.send(job(reader))));
        receiver.await.unwrap_or(Err(LogError::Closed))
    }

    /// Enforces retention. Appends enforce the size bound on their own; the age bound needs a call from time to time.
    pub fn prune(&self) {
        self.queue(Command::Prune);
    }

    /// Returns whether an append is queued or being stored.
    #[cfg(test)]
    pub(crate) fn is_busy(&self) -> bool {
        self.queued.load(Ordering::Acquire) > 0 || self.buffer.try_lock().is_none()
    }

    fn queue(&self, command: Command) {
        if let Command::Append(_) = &command {
            self.queued.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(commands) = &self.commands
            && let Err(mpsc::SendError(Command::Append(append))) = commands.send(command)
        {
            (append.done)(Err(Arc::new(LogError::Closed)));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.commands = None;
        self.reads = None;
        for thread in self.threads.drain(..).rev() {
            // The panic was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("room_kib", &self.room.available_permits())
            .finish()
    }
}

/// Starts the log's threads.
struct Threads<'a, P> {
    path: &'a Path,
    on_panic: Arc<P>,
    handles: Vec<JoinHandle<()>>,
}

impl<P: Fn(&'static str, &(dyn Any + Send)) + Send + Sync + 'static> Threads<'_, P> {
    /// Starts a thread that reports its panic.
    fn spawn(
        &mut self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), LogError> {
        let on_panic = Arc::clone(&self.on_panic);
        let watched = move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                on_panic(name, &*panic);
            }
        };
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(watched)
            .map_err(|error| LogError::from_io(self.path, error))?;
        self.handles.push(handle);
        Ok(())
    }
}

/// Runs the reading thread. After the log was recreated it opens the new files at the next read.
fn read(
    path: &Path,
    mut conn: Connection,
    generation: &AtomicU64,
    jobs: Receiver<(ReadJob, bool)>,
) {
    let mut opened_at = 0;
    for (job, is_whole) in jobs {
        let now_at = generation.load(Ordering::Acquire);
        if opened_at != now_at {
            match schema::open_to_read(path) {
                Ok(opened) => {
                    conn = opened;
                    opened_at = now_at;
                }
                // The old files, still open, answer as well until the next attempt.
                Err(error) => tracing::warn!(%error, "the log that was made anew cannot be read"),
            }
        }
        job(&Reader::new(&conn, path), is_whole);
    }
}

/// Returns the share of the queue that an append takes: at least 1 KiB, at most all of it.
fn kib_of(records: &[Record]) -> u32 {
    let bytes: usize = records.iter().map(|record| record.bytes.len() + 256).sum();
    u32::try_from(bytes.div_ceil(1024))
        .unwrap_or(MAX_QUEUE_KIB)
        .clamp(1, MAX_QUEUE_KIB)
}
