//! Reads stdin in lines on a thread of its own.
//!
//! Entry function: [`read`]. The rules it keeps: a line takes at most [`MAX_LINE`] bytes of memory; a longer one is
//! skipped to its end, and a line that the terminal has cut is refused.

use std::io::{self, BufRead, ErrorKind};

use tokio::sync::mpsc;

use crate::gossip::MAX_EVENT_DATA;

/// Maximum size of a line in bytes, 1.5 MiB: the largest event in base64, and 64 KiB for the rest. Text that needs many
/// escapes can be larger; as base64 it fits.
const MAX_LINE: usize = MAX_EVENT_DATA / 2 * 3 + 64 * 1024;
/// Maximum number of chunks in the queue; the lines of one read form a chunk.
const MAX_WAITING: usize = 4;
/// Bytes of a line that a terminal of Linux delivers in canonical mode, without the newline. It drops further input,
/// and informs neither the program nor the person (termios(3)).
const MAX_TERMINAL_LINE: usize = 4095;

/// The reason for the end of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A person typed /quit or Ctrl-D.
    Quit,
    /// The input ended.
    Closed,
}

/// A line of input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Without its newline.
    Text(Vec<u8>),
    /// Longer than [`MAX_LINE`].
    TooLong,
    /// As long as a terminal delivers at most: more may have been typed or pasted.
    Cut,
    /// Reading failed.
    Failed(String),
}

impl Line {
    /// Returns the line, or [`Line::Cut`] when it has the terminal's maximum length and `is_canonical` confirms
    /// that a terminal delivered it.
    fn checked(self, is_canonical: &impl Fn() -> bool) -> Line {
        match self {
            Line::Text(text) if text.len() == MAX_TERMINAL_LINE && is_canonical() => Line::Cut,
            line => line,
        }
    }

    /// Returns the error text of a line that is not [`Line::Text`].
    pub(crate) fn trouble(&self) -> String {
        match self {
            Line::Text(_) => String::new(),
            Line::TooLong => format!(
                "the line has more than {MAX_LINE} bytes and was passed over: an event has at most \
                 {MAX_EVENT_DATA} bytes of data"
            ),
            Line::Cut => format!(
                "the line was not sent: a terminal hands over {MAX_TERMINAL_LINE} bytes of a line and drops the rest, and this \
                 one is that long; type it in shorter lines, or give it to `diatribe node --json` through a pipe"
            ),
            Line::Failed(reason) => format!("stdin cannot be read: {reason}"),
        }
    }
}

/// Starts to read. The channel closes at the end of the input.
pub(crate) fn read() -> io::Result<mpsc::Receiver<Vec<Line>>> {
    let (lines, waiting) = mpsc::channel(MAX_WAITING);
    // The thread is left behind when the program ends: a read from a terminal cannot be ended.
    std::thread::Builder::new()
        .name("input".into())
        .spawn(move || {
            let mut cutter = Cutter::default();
            let mut stdin = io::stdin().lock();
            loop {
                let (chunk, end) = match stdin.fill_buf() {
                    Ok([]) => (cutter.finish(), true),
                    Ok(bytes) => {
                        let (chunk, len) = (cutter.cut(bytes), bytes.len());
                        stdin.consume(len);
                        (chunk, false)
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => (vec![Line::Failed(error.to_string())], true),
                };
                let chunk: Vec<Line> = chunk
                    .into_iter()
                    .map(|line| line.checked(&stdin_is_canonical))
                    .collect();
                let gone = !chunk.is_empty() && lines.blocking_send(chunk).is_err();
                if end || gone {
                    return;
                }
            }
        })?;
    Ok(waiting)
}

/// Returns whether stdin is a terminal in canonical mode.
#[cfg(target_os = "linux")]
fn stdin_is_canonical() -> bool {
    use rustix::termios::{LocalModes, tcgetattr};
    tcgetattr(io::stdin()).is_ok_and(|mode| mode.local_modes.contains(LocalModes::ICANON))
}

/// On other systems the maximum length differs.
#[cfg(not(target_os = "linux"))]
fn stdin_is_canonical() -> bool {
    false
}

/// Splits chunks of bytes into lines.
#[derive(Debug, Default)]
struct Cutter {
    begun: Vec<u8>,
    passing_over: bool,
}

impl Cutter {
    /// Adds `bytes`. Returns the lines that they complete.
    fn cut(&mut self, mut bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.add(&bytes[..end]);
            bytes = &bytes[end + 1..];
            lines.push(self.line());
        }
        self.add(bytes);
        lines
    }

    /// Returns the text after the last newline, if there is any.
    fn finish(&mut self) -> Vec<Line> {
        match self.begun.is_empty() && !self.passing_over {
            true => Vec::new(),
            false => vec![self.line()],
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        if self.passing_over || self.begun.len() + bytes.len() > MAX_LINE {
            self.passing_over = true;
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }

    fn line(&mut self) -> Line {
        if std::mem::take(&mut self.passing_over) {
            return Line::TooLong;
        }
        let mut line = std::mem::take(&mut self.begun);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Line::Text(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> Line {
        Line::Text(line.into())
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let mut cutter = Cutter::default();
        assert_eq!(cutter.cut(b"one\r\ntw"), [text("one")]);
        assert_eq!(cutter.cut(b"o\n\nthree"), [text("two"), text("")]);
        assert_eq!(cutter.finish(), [text("three")]);
        assert_eq!(cutter.finish(), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_the_next_is_read() {
        let mut cutter = Cutter::default();
        let piece = vec![b'a'; 1 << 16];
        for _ in 0..100 {
            assert_eq!(cutter.cut(&piece), []);
            assert!(cutter.begun.capacity() <= 2 * MAX_LINE);
        }
        assert_eq!(cutter.cut(b"a\nnext\n"), [Line::TooLong, text("next")]);
    }

    #[test]
    fn a_line_that_a_terminal_may_have_cut_is_told_from_one_of_a_pipe() {
        let line = |bytes: usize| Line::Text(vec![b'a'; bytes]);
        let longest = MAX_TERMINAL_LINE;
        assert_eq!(line(longest).checked(&|| true), Line::Cut);
        assert_eq!(line(longest).checked(&|| false), line(longest));
        assert_eq!(line(longest - 1).checked(&|| true), line(longest - 1));
        assert_eq!(line(longest + 1).checked(&|| true), line(longest + 1));
    }

    #[test]
    fn the_largest_event_fits_in_base64() {
        assert!(MAX_EVENT_DATA.div_ceil(3) * 4 + 4096 < MAX_LINE);
    }
}
