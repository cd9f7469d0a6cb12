//! stderr: one thread writes log lines and messages.
//!
//! Entry functions: [`writer`], [`say`], [`flush`]. The rule it keeps: a message neither ends nor delays the program.
//! stderr may be closed, on a full disk, or a pipe that nobody reads: lines are then lost, and counted.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Maximum number of lines in the queue. Further ones are lost, because logging must not block.
const MAX_WAITING: usize = 1024;
/// Timeout for the last lines at the end of the program.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);

/// Queue to the thread; none when it could not be started.
static THREAD: OnceLock<Option<SyncSender<Job>>> = OnceLock::new();
/// Number of lines lost since the last one that was written.
static LOST: AtomicU64 = AtomicU64::new(0);

enum Job {
    Line(Vec<u8>),
    /// All lines before this one are written when its sender is dropped.
    Flush(SyncSender<()>),
}

/// Returns the writer for tracing. Writing never fails and never blocks.
pub(crate) fn writer() -> Lines {
    Lines
}

/// Writes a line.
pub(crate) fn say(text: &str) {
    send(format!("{text}\n").into_bytes());
}

/// Waits for the lines that were written before, at most [`FLUSH_TIMEOUT`].
pub(crate) fn flush() {
    let (sender, written) = mpsc::sync_channel(0);
    if let Some(thread) = thread()
        && thread.try_send(Job::Flush(sender)).is_ok()
    {
        // The thread signals by dropping its end, which makes this an error.
        let _ = written.recv_timeout(FLUSH_TIMEOUT);
    }
}

fn thread() -> Option<&'static SyncSender<Job>> {
    THREAD
        .get_or_init(|| {
            let (sender, jobs) = mpsc::sync_channel(MAX_WAITING);
            std::thread::Builder::new()
                .name("stderr".into())
                .spawn(move || write_all(&jobs, &mut io::stderr()))
                .ok()
                .map(|_| sender)
        })
        .as_ref()
}

fn send(line: Vec<u8>) {
    let is_taken = thread().is_some_and(|thread| thread.try_send(Job::Line(line)).is_ok());
    if !is_taken {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

fn write_all(jobs: &Receiver<Job>, stderr: &mut impl Write) {
    for job in jobs {
        let line = match job {
            Job::Line(line) => line,
            Job::Flush(written) => {
                drop(written);
                continue;
            }
        };
        let lost = LOST.swap(0, Ordering::Relaxed);
        let notice = match lost {
            0 => String::new(),
            lost => format!("{lost} lines were not written here: stderr was full or not read\n"),
        };
        let written = stderr
            .write_all(notice.as_bytes())
            .and_then(|()| stderr.write_all(&line))
            .and_then(|()| stderr.flush());
        if written.is_err() {
            LOST.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

/// Creates a [`Line`] for each log event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines;

/// Collects one line, and queues it when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Line(Vec<u8>);

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line::default()
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            send(std::mem::take(&mut self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails `failures` times, then takes everything.
    struct Disk {
        failures: usize,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted_and_the_next_ones_written() {
        let (sender, jobs) = mpsc::sync_channel(8);
        for line in ["one\n", "two\n", "three\n"] {
            sender
                .send(Job::Line(line.into()))
                .expect("a place in the queue");
        }
        drop(sender);
        let mut disk = Disk {
            failures: 2,
            written: Vec::new(),
        };
        write_all(&jobs, &mut disk);
        let written = String::from_utf8(disk.written).expect("text");
        assert_eq!(
            written,
            "2 lines were not written here: stderr was full or not read\nthree\n"
        );
    }
}
