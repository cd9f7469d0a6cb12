//! A child process as its parent has it.
//!
//! Entry type: [`Process`]. The rule it keeps: it does not outlive this value.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(unix)]
use rustix::process::{Pid, Signal};

use super::super::super::failure::Failure;

/// How often it is looked whether a process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A running child.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts this program with `args`. Each line that it writes goes to `hear`, and in the end None.
    pub(crate) fn start(
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        mut hear: impl FnMut(Option<String>) + Send + 'static,
    ) -> Result<Process, Failure> {
        let failed = |e| Failure::new(format!("this program cannot be started again: {e}"));
        let mut command = Command::new(env::current_exe().map_err(failed)?);
        command.args(args);
        // Variables for the parent do not apply to the node.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("DIATRIBE_") {
                command.env_remove(name);
            }
        }
        // Ctrl-C is for the parent alone, which ends its children itself.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let process = Process { child, stdin };
        thread::Builder::new()
            .spawn(move || {
                let lines = stdout.map(|stdout| BufReader::new(stdout).lines());
                for line in lines.into_iter().flatten().map_while(Result::ok) {
                    hear(Some(line));
                }
                hear(None);
            })
            .map_err(|e| Failure::new(format!("a child process cannot be heard: {e}")))?;
        Ok(process)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its stdin.
    pub(crate) fn say(&mut self, line: &str) -> std::io::Result<()> {
        match &mut self.stdin {
            Some(stdin) => writeln!(stdin, "{line}"),
            None => Ok(()),
        }
    }

    /// Closes the child's stdin.
    pub(crate) fn end_stdin(&mut self) {
        self.stdin = None;
    }

    /// Asks it to end.
    pub(crate) fn terminate(&mut self) {
        #[cfg(unix)]
        if let Some(id) = i32::try_from(self.id()).ok().and_then(Pid::from_raw) {
            // It has not been waited for: the id is still its own.
            let _ = rustix::process::kill_process(id, Signal::TERM);
        }
        #[cfg(not(unix))]
        let _ = self.child.kill();
    }

    /// How it ended, if it does within `limit`.
    pub(crate) async fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let begun = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if begun.elapsed() < limit => tokio::time::sleep(POLL_INTERVAL).await,
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
