//! The log on threads of its own: appends are queued, and each commit takes all that has queued.
//!
//! Entry type: [`Writer`]. The rules it keeps: `done` hears of a batch only when the log has it for good;
//! the queue is bounded, and whoever finds it full waits or is told, nothing is dropped; reading and
//! moving the WAL into the file do not hold up a commit.
//!
//! With nothing queued a small batch does not change threads: it goes into the log's front, and from there
//! into the tables half a second later. At a low rate two threads that wake each other cost more than the
//! whole rest of storing.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::checkpoint::Checkpoints;
use super::error::LogError;
use super::front::{self, TAIL_AT_ONCE};
use super::log::{Keep, Log};
use super::prune::{PRUNED_AT_ONCE, PRUNED_BYTES_AT_ONCE, Pruned};
use super::read::Reader;
use super::record::{Outcome, Record, Verified};
use super::schema;
use crate::clock::UnixClock;

/// The most that may wait for its commit, in KiB: some hundred milliseconds of a disk's work.
const QUEUE_KIB: u32 = 32 << 10;

/// What a commit takes at most, in KiB, so that acknowledgements keep coming under load.
const COMMIT_KIB: u32 = 4 << 10;

/// Batches, and bytes of them, that are stored before it is looked whether the log is over its bounds and
/// how far the WAL has grown. Each look takes several statements, and the bounds hold but for this much.
const LOOK_AFTER_BATCHES: usize = 64;
const LOOK_AFTER_KIB: u32 = 1 << 10;

/// When nothing has been stored for so long, it is seen to what such a time has left.
const QUIET: Duration = Duration::from_secs(1);

/// How long small batches are only in the log's tail, and readers of the file wait for them. The longer, the
/// more of them share a page: this bounds what is written at a few messages a second.
const FLUSH_AFTER: Duration = Duration::from_millis(500);

/// How soon a commit of them that failed is tried again, if nothing is stored meanwhile.
const FLUSH_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What the log says of an append: an outcome for each batch, or why none of them is stored.
pub type Appended = Result<Vec<Outcome>, Arc<LogError>>;

/// The queue is full: nothing was taken. Wait, or use [`Writer::append_when_room`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log's queue is full")]
pub struct QueueFull;

type Done = Box<dyn FnOnce(Appended) + Send>;
/// Told too whether the reader sees everything that was acknowledged: not while the disk is full, for example.
type ReadJob = Box<dyn FnOnce(&Reader<'_>, bool) + Send>;

enum Command {
    Append {
        records: Vec<Record>,
        kib: u32,
        room: OwnedSemaphorePermit,
        done: Done,
    },
    /// There is something in the front.
    Mind,
    Prune,
    Read(ReadJob),
}

/// A log on threads of its own. Dropping it stores what has queued and closes the log.
pub struct Writer {
    commands: Option<Sender<Command>>,
    /// Where reads go; the writer's own thread for a log in memory.
    reads: Option<Sender<(ReadJob, bool)>>,
    clock: UnixClock,
    keep: Keep,
    front: front::Shared,
    /// Whether anything is acknowledged that the reading thread would not see.
    is_behind: Arc<AtomicBool>,
    /// Appends that have queued, or are being stored.
    queued: Arc<AtomicUsize>,
    room: Arc<Semaphore>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts the threads of `log`. `pruned` hears of each room whose oldest batches were removed.
    pub fn start(
        log: Log,
        clock: impl Into<UnixClock>,
        pruned: impl FnMut(Pruned) + Send + 'static,
    ) -> Result<Writer, LogError> {
        Writer::start_watched(log, clock, pruned, |_, _| {})
    }

    /// Starts the threads of `log` as [`Writer::start`] does. `on_panic` is given the name of each thread that panics, and
    /// what it panicked with: without that thread the log answers nobody any more.
    pub fn start_watched(
        log: Log,
        clock: impl Into<UnixClock>,
        pruned: impl FnMut(Pruned) + Send + 'static,
        on_panic: impl Fn(&'static str, &(dyn Any + Send)) + Send + Sync + 'static,
    ) -> Result<Writer, LogError> {
        let clock: UnixClock = clock.into();
        let path = log.path().to_owned();
        let on_panic = Arc::new(on_panic);
        let spawn = |name: &'static str, work: Box<dyn FnOnce() + Send>| {
            let on_panic = Arc::clone(&on_panic);
            let watched = move || {
                if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                    on_panic(name, &*panic);
                }
            };
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(watched)
                .map_err(|error| LogError::from_io(&path, error))
        };
        let mut threads = Vec::new();
        let mut reads = None;
        let mut checkpoints = None;
        if !log.is_ephemeral() {
            let conn = schema::open_to_read(&path)?;
            let (sender, jobs) = mpsc::channel::<(ReadJob, bool)>();
            let of = path.clone();
            threads.push(spawn(
                "log-reader",
                Box::new(move || {
                    for job in jobs {
                        let (job, is_whole) = job;
                        job(&Reader::new(&conn, &of), is_whole);
                    }
                }),
            )?);
            reads = Some(sender);

            let (due, background) = Checkpoints::new(path.clone(), log.keep().sync, log.unsynced());
            checkpoints = Some(due);
            threads.push(spawn("log-checkpoint", Box::new(background))?);
        }
        let (commands, queue) = mpsc::channel();
        let front = log.front();
        let is_behind = front.lock().is_behind();
        let queued = Arc::new(AtomicUsize::new(0));
        let keep = *log.keep();
        let work = Work {
            log,
            clock: clock.clone(),
            pruned: Box::new(pruned),
            checkpoints,
            reads: reads.clone(),
            queued: Arc::clone(&queued),
            flush_at: None,
            unlooked: (0, 0),
            is_quiet: true,
        };
        threads.push(spawn("log-writer", Box::new(move || work.run(&queue)))?);
        let room = Arc::new(Semaphore::new(QUEUE_KIB as usize));
        Ok(Writer {
            commands: Some(commands),
            reads,
            clock,
            keep,
            front,
            is_behind,
            queued,
            room,
            threads,
        })
    }

    /// Queues `batches`; `done` is called on the log's thread when they are stored, or are not.
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
        self.queue(Command::Append {
            records,
            kib,
            room,
            done: Box::new(done),
        });
        Ok(())
    }

    /// Stores small batches at once when nothing is queued and nothing can be in their way. Otherwise waits for
    /// room in the queue, then does as [`Writer::append`]: what a caller hands over first is stored first, and
    /// heard of first.
    pub async fn append_in_turn<C: Verified>(
        &self,
        batches: &[C],
        done: impl FnOnce(Appended) + Send + 'static,
    ) {
        let records: Vec<Record> = batches.iter().map(Verified::record).collect();
        if self.is_stored_at_once(&records) {
            return done(Ok(vec![Outcome::New { follows: true }; records.len()]));
        }
        let kib = kib_of(&records);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await;
        let done = Box::new(done);
        match room {
            Ok(room) => self.queue(Command::Append {
                records,
                kib,
                room,
                done,
            }),
            Err(_) => done(Err(Arc::new(LogError::Closed))),
        }
    }

    fn is_stored_at_once(&self, records: &[Record]) -> bool {
        let bytes: usize = records.iter().map(|record| record.bytes.len()).sum();
        if bytes > TAIL_AT_ONCE || self.queued.load(Ordering::Acquire) > 0 {
            return false;
        }
        // Whoever has it is about to commit, which may take a while.
        let Some(mut front) = self.front.try_lock() else {
            return false;
        };
        let unix = self.clock.read();
        let oldest_ms = self.keep.oldest_ms(unix);
        let is_first = front.kept().is_empty();
        let is_stored = front.take_next(unix.now, oldest_ms, records);
        drop(front);
        if is_stored && is_first {
            self.queue(Command::Mind);
        }
        is_stored
    }

    /// Waits for room in the queue, then for the commit.
    pub async fn append_when_room<C: Verified>(&self, batches: &[C]) -> Appended {
        let (sender, receiver) = oneshot::channel();
        self.append_in_turn(batches, |appended| {
            // Nobody waits any more: stored it is all the same.
            let _ = sender.send(appended);
        })
        .await;
        receiver
            .await
            .unwrap_or_else(|_| Err(Arc::new(LogError::Closed)))
    }

    /// Runs `job` on the log's reading thread. It sees everything that was acknowledged before, unless that cannot be
    /// committed at the moment.
    pub fn read(&self, job: impl FnOnce(&Reader<'_>) + Send + 'static) {
        self.queue_read(Box::new(|reader, _| job(reader)));
    }

    fn queue_read(&self, job: ReadJob) {
        match &self.reads {
            // A reader that is gone drops the job: whoever waits for its answer sees that.
            Some(reads) if !self.is_behind.load(Ordering::Acquire) => {
                drop(reads.send((job, true)));
            }
            // The writer commits first, or reads itself.
            _ => self.queue(Command::Read(job)),
        }
    }

    /// Returns what `job` reads; none when there is something that was acknowledged before and that it would not see,
    /// because it cannot be committed at the moment. What is missing in an answer is not in the log.
    ///
    /// # Errors
    ///
    /// [`LogError::Closed`] when the log is closed, and what `job` returns.
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

    /// What `job` reads.
    pub async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Reader<'_>) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let (sender, receiver) = oneshot::channel();
        self.read(|reader| drop(sender.send(job(reader))));
        receiver.await.unwrap_or(Err(LogError::Closed))
    }

    /// Removes what is too old. Appends see to the size by themselves; age needs a call now and then.
    pub fn prune(&self) {
        self.queue(Command::Prune);
    }

    /// Whether anything has queued or is being stored.
    #[cfg(test)]
    pub(crate) fn is_busy(&self) -> bool {
        self.queued.load(Ordering::Acquire) > 0 || self.front.try_lock().is_none()
    }

    fn queue(&self, command: Command) {
        if let Command::Append { .. } = &command {
            self.queued.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(commands) = &self.commands
            && let Err(mpsc::SendError(Command::Append { done, .. })) = commands.send(command)
        {
            done(Err(Arc::new(LogError::Closed)));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.commands = None;
        self.reads = None;
        for thread in self.threads.drain(..).rev() {
            // A panic there was printed there.
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

/// What an append takes of the queue: at least a KiB, at most what a queue has.
fn kib_of(records: &[Record]) -> u32 {
    let bytes: usize = records.iter().map(|record| record.bytes.len() + 256).sum();
    u32::try_from(bytes.div_ceil(1024))
        .unwrap_or(QUEUE_KIB)
        .clamp(1, QUEUE_KIB)
}

/// The writing thread.
struct Work {
    log: Log,
    clock: UnixClock,
    pruned: Box<dyn FnMut(Pruned) + Send>,
    checkpoints: Option<Checkpoints>,
    /// The reading thread; none for a log in memory.
    reads: Option<Sender<(ReadJob, bool)>>,
    queued: Arc<AtomicUsize>,
    /// When what is in the log's front is to be committed.
    flush_at: Option<Instant>,
    /// Batches and KiB that were stored since it was looked how full the log is.
    unlooked: (usize, u32),
    /// Nothing was stored since it was looked, after a pause, how far the WAL has grown.
    is_quiet: bool,
}

impl Work {
    fn run(mut self, queue: &Receiver<Command>) {
        let mut next = None;
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
                    while total < COMMIT_KIB {
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
                    self.is_quiet = false;
                    self.store(group);
                    self.unlooked.0 += stored;
                    self.unlooked.1 = self.unlooked.1.saturating_add(total);
                    match self.flush_at {
                        Some(at) if at <= Instant::now() => {
                            self.flush();
                        }
                        Some(_) => {}
                        None => self.look(),
                    }
                }
                Command::Mind => {
                    self.is_quiet = false;
                    self.mind_the_front();
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
        if let Err(error) = self.log.close() {
            tracing::warn!(%error, "the log could not be put into one file at its end; the next start does that");
        }
    }

    /// The next command; meanwhile what is due is committed, and in a pause it is seen to the WAL.
    fn wait(&mut self, queue: &Receiver<Command>) -> Option<Command> {
        loop {
            let time = match self.flush_at {
                Some(at) => at.saturating_duration_since(Instant::now()),
                None if !self.is_quiet => QUIET,
                None => return queue.recv().ok(),
            };
            match queue.recv_timeout(time) {
                Ok(command) => return Some(command),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.flush_at.is_some() => {
                    self.flush();
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.is_quiet = true;
                    self.see_to_the_wal(false);
                }
            }
        }
    }

    fn store(&mut self, group: Vec<(Vec<Record>, OwnedSemaphorePermit, Done)>) {
        let unix = self.clock.read();
        let all: Vec<&Record> = group.iter().flat_map(|(records, ..)| records).collect();
        let stored = self.log.append_soon(unix, &all);
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
        self.mind_the_front();
        // Only now: what comes after them is not to be heard of before.
        self.queued.fetch_sub(appends, Ordering::AcqRel);
    }

    /// Commits what is in the log's tail; whether it could.
    fn flush(&mut self) -> bool {
        match self.log.flush() {
            Ok(()) => {
                self.flush_at = None;
                self.mind_the_front();
                self.look();
                true
            }
            Err(error) => {
                tracing::warn!(%error, "what the log has put off could not be committed: it is tried again");
                self.flush_at = Some(Instant::now() + FLUSH_AGAIN_AFTER);
                false
            }
        }
    }

    fn see_to_the_wal(&mut self, in_bulk: bool) {
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.see_to_the_wal(&self.log, in_bulk);
        }
    }

    fn mind_the_front(&mut self) {
        if !self.log.has_uncommitted() {
            self.flush_at = None;
        } else if self.flush_at.is_none() {
            self.flush_at = Some(Instant::now() + FLUSH_AFTER);
        }
    }

    /// Sees to the bounds when enough has been stored since that was done last.
    fn look(&mut self) {
        let (batches, bytes) = self.log.front().lock().taken();
        self.unlooked.0 += batches;
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        self.unlooked.1 = self.unlooked.1.saturating_add(kib);
        let (batches, kib) = self.unlooked;
        if batches < LOOK_AFTER_BATCHES && kib < LOOK_AFTER_KIB {
            return;
        }
        let (stored, kib) = std::mem::take(&mut self.unlooked);
        let in_bulk = kib >= LOOK_AFTER_KIB;
        // As many go as came, so that the bound holds under any load.
        let rounds = (stored / PRUNED_AT_ONCE).max(kib as usize / (PRUNED_BYTES_AT_ONCE >> 10));
        for _ in 0..=rounds {
            if !self.prune_once() {
                break;
            }
        }
        self.see_to_the_wal(in_bulk);
    }

    /// Removes some of the oldest, when it is time; whether there may be more.
    fn prune_once(&mut self) -> bool {
        match self.log.prune(self.clock.read()) {
            Ok(pruned) => {
                let more = !pruned.is_empty();
                pruned.into_iter().for_each(&mut self.pruned);
                more
            }
            Err(error) => {
                tracing::warn!(%error, "the oldest batches could not be removed");
                false
            }
        }
    }
}
