//! A progress bar on a terminal.
//!
//! Entry type: [`Progress`]. The rule it keeps: it writes nothing when stderr is not a terminal.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

/// How often the line changes.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);
/// The width of the bar.
const WIDTH: u64 = 40;

/// The line, until it is dropped.
pub(crate) struct Progress(Option<JoinHandle<()>>);

impl Progress {
    /// Shows how much of `all` there is.
    pub(crate) fn show(
        what: String,
        all: u64,
        done: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> Progress {
        if !stderr().is_terminal() {
            return Progress(None);
        }
        Progress(Some(tokio::spawn(async move {
            loop {
                let now = done().min(all);
                let filled = now * WIDTH / all.max(1);
                let bar: String = (0..WIDTH)
                    .map(|n| if n < filled { '#' } else { '.' })
                    .collect();
                // A closed stderr is no failure.
                let _ = write!(stderr(), "\r{what} [{bar}] {now}/{all}");
                tokio::time::sleep(REPORT_INTERVAL).await;
            }
        })))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            line.abort();
            // Takes the line away.
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
