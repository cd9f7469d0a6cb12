//! stdout: one thread writes the node's events and the answers to its input.
//!
//! Entry types: [`Output`], [`Record`]. The rules kept here: lines are written whole; the buffer is flushed before the
//! thread waits; backpressure from a slow reader is bounded by the node's queue of events: the rest is read from the
//! log, and lines that are lost are counted in a line of their own.

mod json;
mod people;
mod results;

use std::future::poll_fn;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::{FutureExt, StreamExt};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};

use crate::model::RoomName;
use crate::node::{BroadcastReceipt, Event, Events, Message};

pub(crate) use json::{JsonLines, MAX_MILLIS};
pub(crate) use people::{CHAT, People, SHORT, count, describe_crowding, short};
pub(crate) use results::{CaseEnd, Check, CheckStage, ConformanceEnd, DemoEnd, DemoNode, Id};

/// Maximum number of queued answers; beyond it their senders wait (backpressure).
const MAX_WAITING: usize = 1024;
/// Approximate size of a write: large enough that the system calls cost little, small enough that a reader soon has
/// something to do.
const MAX_WRITE_BYTES: usize = 64 * 1024;

/// Error of the first [`print`] that failed.
static PRINT_ERROR: OnceLock<io::Error> = OnceLock::new();

/// An output line that is not an event of the node.
#[derive(Debug)]
pub(crate) enum Record {
    /// The node is online.
    Online {
        peer_id: PeerId,
        addresses: Vec<Multiaddr>,
        rooms: Vec<RoomName>,
    },
    /// An event was sent.
    Sent {
        room: RoomName,
        sent: BroadcastReceipt,
    },
    /// A line or command failed.
    Error {
        reason: String,
        room: Option<RoomName>,
    },
    /// Events of the log from before the start.
    Past(Vec<Message>),
    /// An answer to a typed command.
    Notice(String),
}

/// Renders records and events.
pub(crate) trait Render {
    fn record(&mut self, record: &Record, out: &mut Vec<u8>);
    fn event(&mut self, event: &Event, out: &mut Vec<u8>);
}

/// Queue to the output thread.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    records: mpsc::Sender<Record>,
    is_over: Arc<AtomicBool>,
}

/// Result of the output thread: all written, or a write error.
pub(crate) type Ended = oneshot::Receiver<io::Result<()>>;

/// Ends the output thread early.
#[derive(Debug)]
pub(crate) struct EndOutput(Arc<AtomicBool>);

impl EndOutput {
    /// Makes the thread write the number of events that it leaves out, and end, after its current write.
    pub(crate) fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Output {
    /// Starts the thread. It ends when the node has and every `Output` is dropped.
    pub(crate) fn start(
        json: bool,
        events: Events,
        first: Vec<Record>,
    ) -> io::Result<(Output, Ended)> {
        let (records, waiting) = mpsc::channel(MAX_WAITING);
        let (ended, end) = oneshot::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let sources = Sources {
            events: Some(events),
            records: Some(waiting),
            events_first: false,
            is_over: Arc::clone(&is_over),
        };
        let write = move || {
            let result = match json {
                true => write_all(JsonLines::default(), first, sources),
                false => write_all(People::new(on_terminal()), first, sources),
            };
            // Nobody asks any more when the program is ending.
            let _ = ended.send(result);
        };
        std::thread::Builder::new()
            .name("output".into())
            .spawn(write)?;
        Ok((Output { records, is_over }, end))
    }

    /// Returns the handle that ends the thread before everything is written.
    pub(crate) fn end(&self) -> EndOutput {
        EndOutput(Arc::clone(&self.is_over))
    }

    /// Writes `record`; waits while the queue is full. After the end, records are dropped.
    pub(crate) async fn tell(&self, record: Record) {
        let _ = self.records.send(record).await;
    }

    /// Writes an answer to a typed command.
    pub(crate) async fn notice(&self, text: impl Into<String>) {
        self.tell(Record::Notice(text.into())).await;
    }

    /// Writes an error.
    pub(crate) async fn error(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.tell(Record::Error { reason, room: None }).await;
    }
}

/// Returns whether colours are wanted: NO_COLOR is not set.
pub(crate) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Returns whether stdout is a terminal that shows colours.
pub(crate) fn on_terminal() -> bool {
    colours() && io::stdout().is_terminal()
}

/// Writes one error as a JSON line, when there is no node.
pub(crate) fn print_error(reason: &str) {
    let record = Record::Error {
        reason: reason.to_owned(),
        room: None,
    };
    let mut line = Vec::new();
    JsonLines::default().record(&record, &mut line);
    print(&line);
}

/// Writes whole lines to stdout, where no thread does. An error is kept for [`take_error`].
pub(crate) fn print(lines: &[u8]) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(lines).and_then(|()| stdout.flush()) {
        // The first error names the cause; later ones repeat it.
        PRINT_ERROR.get_or_init(|| error);
    }
}

/// Returns the error of a [`print`] that failed. A reader that closed the pipe has read enough: that is no failure.
pub(crate) fn take_error() -> Option<String> {
    PRINT_ERROR.get().and_then(not_written)
}

/// Returns the text for a write to stdout that failed with `error`; none when the reader closed the pipe.
pub(crate) fn not_written(error: &io::Error) -> Option<String> {
    (error.kind() != io::ErrorKind::BrokenPipe)
        .then(|| format!("stdout cannot be written to: {error}"))
}

enum Next {
    Record(Record),
    Event(Event),
}

fn write_all(mut render: impl Render, first: Vec<Record>, mut sources: Sources) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let mut out = Vec::with_capacity(2 * MAX_WRITE_BYTES);
    for record in first {
        render.record(&record, &mut out);
    }
    loop {
        if sources.is_over.load(Ordering::Relaxed) {
            sources.leave_out(&mut render, &mut out);
            return put(&mut stdout, &mut out);
        }
        // Everything that is ready goes into one write; before the thread waits, all is written.
        while out.len() < MAX_WRITE_BYTES {
            match sources.next().now_or_never() {
                Some(Some(next)) => next.render(&mut render, &mut out),
                Some(None) => return put(&mut stdout, &mut out),
                None => break,
            }
        }
        if !out.is_empty() {
            put(&mut stdout, &mut out)?;
            continue;
        }
        match futures::executor::block_on(sources.next()) {
            Some(next) => next.render(&mut render, &mut out),
            None => return Ok(()),
        }
    }
}

fn put(stdout: &mut impl Write, out: &mut Vec<u8>) -> io::Result<()> {
    stdout.write_all(out)?;
    out.clear();
    // One very long line must not keep its memory for good.
    out.shrink_to(4 * MAX_WRITE_BYTES);
    stdout.flush()
}

impl Next {
    fn render(&self, render: &mut impl Render, out: &mut Vec<u8>) {
        match self {
            Next::Record(record) => render.record(record, out),
            Next::Event(event) => render.event(event, out),
        }
    }
}

/// The sources of lines. They take turns at being first, so that neither starves the other.
struct Sources {
    events: Option<Events>,
    records: Option<mpsc::Receiver<Record>>,
    events_first: bool,
    /// Set when everything that is not yet written is to be left out.
    is_over: Arc<AtomicBool>,
}

impl Sources {
    /// Renders the answers that wait, and how many events are left out.
    fn leave_out(&mut self, render: &mut impl Render, out: &mut Vec<u8>) {
        let mut records = self.records.take();
        for record in std::iter::from_fn(|| records.as_mut()?.try_recv().ok()) {
            render.record(&record, out);
        }
        let events = self.events.as_ref().map_or(0, Events::unread);
        if events > 0 {
            let author = None;
            render.event(&Event::Missed { author, events }, out);
        }
    }

    /// Returns the next record or event; none when both sources have ended.
    async fn next(&mut self) -> Option<Next> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        self.events_first = !self.events_first;
        let found = if self.events_first {
            self.poll_event(cx).or_else(|| self.poll_record(cx))
        } else {
            self.poll_record(cx).or_else(|| self.poll_event(cx))
        };
        match found {
            Some(next) => Poll::Ready(Some(next)),
            None if self.events.is_none() && self.records.is_none() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        match self.events.as_mut()?.poll_next_unpin(cx) {
            Poll::Ready(Some(event)) => Some(Next::Event(event)),
            Poll::Ready(None) => {
                self.events = None;
                None
            }
            Poll::Pending => None,
        }
    }

    fn poll_record(&mut self, cx: &mut Context<'_>) -> Option<Next> {
        match self.records.as_mut()?.poll_recv(cx) {
            Poll::Ready(Some(record)) => Some(Next::Record(record)),
            Poll::Ready(None) => {
                self.records = None;
                None
            }
            Poll::Pending => None,
        }
    }
}

/// Returns the text that reports events lost by a slow reader.
fn missed(author: Option<&PeerId>, events: u64) -> String {
    let whose = match author {
        Some(author) => format!("{events} messages of {author}"),
        None => format!("{events} events"),
    };
    format!(
        "{whose} were not written here: stdout was not read quickly enough, and they were removed from the log, or the \
         node ended, before their turn; read faster, let the log keep more, and see `diatribe log show` for what it has"
    )
}
