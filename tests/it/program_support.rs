//! Helpers of the tests that run the real program: start it, type, read its output.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use jsonschema::Validator;
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::EVENT_TIMEOUT;

/// Enough guesses for anyone's taste.
pub(crate) const PASSPHRASE: &str = "violet harbour seldom trumpets a quiet meridian";

/// A running `diatribe node --json`. It is killed when the test is over.
pub(crate) struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    online: Option<Value>,
    stderr: Option<std::thread::JoinHandle<String>>,
    _folder: Option<TempDir>,
}

/// The program with these arguments and nothing of the environment's DIATRIBE_ variables.
pub(crate) fn diatribe(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diatribe"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("DIATRIBE_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    diatribe(args).output().expect("the program runs")
}

/// Runs a command that must succeed, and returns its stdout.
pub(crate) fn answer(args: &[&str]) -> String {
    let output = run(args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{args:?}: {out}{err}");
    out.trim_end().to_owned()
}

/// Runs a command that must fail with this exit code, and returns its stderr.
pub(crate) fn complaint(args: &[&str], code: i32) -> String {
    let output = run(args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {out}{err}");
    err
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder for one test, as a path in text.
pub(crate) fn folder() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a path in UTF-8").to_owned();
    (folder, path)
}

/// A file that only its owner reads, as a path in text.
pub(crate) fn file(folder: &TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("a file");
    own(&path);
    path.to_str().expect("a path in UTF-8").to_owned()
}

#[cfg(unix)]
fn own(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
}

#[cfg(not(unix))]
fn own(_: &Path) {}

/// Parses a line and checks it against the schema.
pub(crate) fn parse(line: &str) -> Value {
    static SCHEMA: OnceLock<Validator> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let text = include_str!("../../proto/output.schema.json");
        let schema = serde_json::from_str(text).expect("the schema is JSON");
        jsonschema::validator_for(&schema).expect("the schema is one")
    });
    let value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let errors: Vec<String> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{line}: {errors:?}");
    value
}

impl Program {
    /// A node on a free port of loopback, with a data directory of its own, that is online.
    pub(crate) fn node(args: &[&str]) -> Program {
        let (folder, path) = folder();
        let mut all = vec!["--data-dir", &path];
        all.extend(args);
        let mut program = Program::node_in(&all);
        program._folder = Some(folder);
        program
    }

    /// Starts a node that is online, as [`Program::node`] does, with a data directory from `args`.
    pub(crate) fn node_in(args: &[&str]) -> Program {
        let fixed = [
            "node",
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--exempt-loopback",
        ];
        let mut command = diatribe(&fixed);
        command.args(args);
        let mut program = Program::spawn(command);
        program.await_online();
        program
    }

    /// Waits until it is online.
    pub(crate) fn await_online(&mut self) {
        self.online = Some(self.next("online"));
    }

    /// Starts `command`, with pipes for everything.
    pub(crate) fn spawn(mut command: Command) -> Program {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (out, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if out.send(line).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().expect("a pipe");
        let stderr = std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.read_to_end(&mut said);
            text(&said)
        });
        Program {
            stdin: child.stdin.take(),
            child,
            lines,
            online: None,
            stderr: Some(stderr),
            _folder: None,
        }
    }

    /// Where it can be dialled, /p2p/ included.
    pub(crate) fn address(&self) -> String {
        let online = self.online.as_ref().expect("it is online");
        online["addresses"][0]
            .as_str()
            .expect("an address")
            .to_owned()
    }

    /// The address that has this in it.
    pub(crate) fn address_with(&self, part: &str) -> String {
        let online = self.online.as_ref().expect("it is online");
        let mut addresses = online["addresses"].as_array().expect("a list").iter();
        let found = addresses.find_map(|a| a.as_str().filter(|a| a.contains(part)));
        found
            .unwrap_or_else(|| panic!("no {part} in {online}"))
            .to_owned()
    }

    /// Its host and port alone.
    pub(crate) fn socket(&self) -> String {
        let address = self.address();
        let parts: Vec<&str> = address.split('/').collect();
        format!("{}:{}", parts[2], parts[4])
    }

    pub(crate) fn id(&self) -> String {
        let online = self.online.as_ref().expect("it is online");
        online["peer_id"].as_str().expect("an id").to_owned()
    }

    /// The next line of this type; others are passed over.
    pub(crate) fn next(&mut self, kind: &str) -> Value {
        self.next_of(&[kind])
    }

    /// The next line of one of these types; others are passed over.
    pub(crate) fn next_of(&mut self, kinds: &[&str]) -> Value {
        self.next_within(EVENT_TIMEOUT, kinds)
    }

    /// Returns the next line of one of these types, with another timeout.
    pub(crate) fn next_within(&mut self, patience: Duration, kinds: &[&str]) -> Value {
        let deadline = Instant::now() + patience;
        let mut passed = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let value = parse(&line);
                    if kinds.iter().any(|kind| value["type"] == *kind) {
                        return value;
                    }
                    passed.push(line);
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {kinds:?} came, only {passed:#?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!(
                        "it ended without {kinds:?}, after {passed:#?}: {}",
                        self.stderr()
                    )
                }
            }
        }
    }

    /// From now on sends each line to `to`, with the node's id, as soon as it arrives.
    pub(crate) fn hand_on(&mut self, to: Sender<(String, Value)>) {
        let (id, lines) = (self.id(), std::mem::replace(&mut self.lines, channel().1));
        std::thread::spawn(move || {
            for line in lines {
                if to.send((id.clone(), parse(&line))).is_err() {
                    return;
                }
            }
        });
    }

    /// Returns the lines written since the last call; after [`Program::kill`], up to the end.
    pub(crate) fn written(&mut self) -> Vec<Value> {
        let ended = matches!(self.child.try_wait(), Ok(Some(_)));
        let mut lines = Vec::new();
        while let Some(line) = match ended {
            true => self.lines.recv().ok(),
            false => self.lines.try_recv().ok(),
        } {
            // A process that was killed may leave half a line.
            match ended && serde_json::from_str::<Value>(&line).is_err() {
                true => {}
                false => lines.push(parse(&line)),
            }
        }
        lines
    }

    /// Kills it, at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child of ours");
    }

    /// The texts of the next `n` messages.
    pub(crate) fn texts(&mut self, n: usize) -> Vec<String> {
        let text = |message: Value| message["text"].as_str().expect("text").to_owned();
        (0..n).map(|_| text(self.next("message"))).collect()
    }

    /// Writes a line to its stdin.
    pub(crate) fn line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        writeln!(stdin, "{line}").expect("the program reads");
    }

    /// Says something, and returns the `sent` line.
    pub(crate) fn say(&mut self, text: &str) -> Value {
        self.line(&serde_json::json!({ "text": text }).to_string());
        self.next("sent")
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Its stdin, for a thread that writes much; [`Program::give_stdin`] brings it back.
    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("stdin is open")
    }

    pub(crate) fn give_stdin(&mut self, stdin: ChildStdin) {
        self.stdin = Some(stdin);
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        let process = rustix::process::Pid::from_raw(id).expect("a process id");
        rustix::process::kill_process(process, signal).expect("the process is there");
    }

    /// Waits at most `limit` for its end.
    pub(crate) fn ends_within(&mut self, limit: Duration) -> ExitStatus {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(since.elapsed() < limit, "it still runs after {limit:?}");
            // The standard library waits for a child with no time limit: it is polled.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that it wrote to stderr, once it has ended.
    pub(crate) fn stderr(&mut self) -> String {
        let _ = self.child.kill();
        let reader = self.stderr.take().expect("stderr is read once");
        reader.join().expect("the reader ends")
    }

    /// Two of them, linked: the second dialled the first.
    pub(crate) fn pair() -> (Program, Program) {
        let mut a = Program::node(&[]);
        let mut b = Program::node(&["--dial", &a.address()]);
        a.next("link_up");
        b.next("link_up");
        (a, b)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
