//! The program on a disk that is full: a small tmpfs in a mount namespace of its own, which takes root on Linux. These
//! tests are ignored by name, and run with `cargo test --test it namespace -- --ignored`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::program_support::{Program, diatribe, folder, parse, text};

/// The size of the disk in MiB.
const DISK_MIB: usize = 8;

/// The part of it that something else takes, and gives back.
const BALLAST_BYTES: usize = 2 << 20;

/// Number of events sent in a row: several times the size of the disk.
const EVENTS: usize = 6000;

/// A node that has a small disk of its own for its data directory.
struct OnSmallDisk {
    node: Program,
    path: String,
    _folder: tempfile::TempDir,
}

impl OnSmallDisk {
    /// Starts it with these arguments beside those of the log.
    fn start(args: &[&str]) -> OnSmallDisk {
        let (folder, path) = folder();
        let mut program = diatribe(&["node", "--json", "--listen", "127.0.0.1:0"]);
        program.args(["--exempt-loopback", "--data-dir", &path]);
        program.args(args);
        let mount = format!("mount -t tmpfs -o size={DISK_MIB}m,mode=0700 tmpfs {path}");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg(format!("{mount} && exec \"$@\"")).arg("sh");
        command.arg(program.get_program()).args(program.get_args());
        let mut node = Program::spawn(command);
        node.await_online();
        OnSmallDisk {
            node,
            path,
            _folder: folder,
        }
    }

    /// A file on the disk, as this process reaches it.
    fn file(&self, name: &str) -> PathBuf {
        let id = self.node.process_id();
        PathBuf::from(format!("/proc/{id}/root{}", self.path)).join(name)
    }

    /// Returns the texts in the log, read while the node runs.
    fn shown(&self) -> Vec<String> {
        let id = self.node.process_id().to_string();
        let program = diatribe(&["log", "show", "--json", "--data-dir", &self.path]);
        let output = Command::new("nsenter")
            .args(["--target", &id, "--mount"])
            .arg(program.get_program())
            .args(program.get_args())
            .output()
            .expect("nsenter is installed");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let shown = text(&output.stdout);
        let one = |line: &str| parse(line)["text"].as_str().expect("text").to_owned();
        shown.lines().map(one).collect()
    }

    /// Returns the answer to an event of this node, and skips other errors.
    fn answer(&mut self) -> Value {
        loop {
            let line = self.node.next_of(&["sent", "error"]);
            if line["type"] == "sent" || !line["room"].is_null() {
                return line;
            }
        }
    }
}

#[test]
#[ignore = "needs mount namespaces: run with --ignored as root on Linux"]
fn a_node_whose_disk_was_full_stores_again_by_itself_when_space_comes_back() {
    for sync in ["full", "normal"] {
        let mut other = Program::node(&[]);
        let args = ["--sync", sync, "--dial", &other.address()];
        let mut own = OnSmallDisk::start(&args);
        own.node.next("link_up");
        other.next("link_up");
        fs::write(own.file("ballast"), vec![1; BALLAST_BYTES]).expect("there is room");
        // More than the disk holds: each is stored, or answered with an error that says why.
        let filler = "x".repeat(3000);
        let mut stored = Vec::new();
        let mut input = own.node.take_stdin();
        let lines: Vec<String> = (0..EVENTS)
            .map(|n| json!({ "text": format!("{n} {filler}") }).to_string())
            .collect();
        let writing = std::thread::spawn(move || {
            for line in lines {
                writeln!(input, "{line}").expect("it reads");
            }
            input
        });
        let mut refused = 0;
        for n in 0..EVENTS {
            let answer = own.answer();
            match answer["type"] == "sent" {
                true => stored.push(format!("{n} {filler}")),
                false => {
                    refused += 1;
                    let reason = answer["reason"].to_string();
                    assert!(reason.contains("no space is left"), "{reason}");
                }
            }
        }
        own.node.give_stdin(writing.join().expect("all is written"));
        assert!(refused > 0, "the disk was never full");
        // The rest of the disk is filled as well, so that nothing fits any more.
        let mut rest = OpenOptions::new()
            .append(true)
            .open(own.file("ballast"))
            .expect("the file");
        while rest.write(&[1; 4096]).is_ok_and(|written| written > 0) {}
        drop(rest);
        fs::remove_file(own.file("ballast")).expect("the file");
        // Enough to fill the freed space several times, if the node did not reuse it.
        let mut said = 0;
        let deadline = std::time::Instant::now() + crate::cluster::EVENT_TIMEOUT;
        while said < 100 {
            let text = format!("again {said}");
            own.node.line(&json!({ "text": text }).to_string());
            if own.answer()["type"] == "sent" {
                said += 1;
                stored.push(text);
            }
            assert!(
                std::time::Instant::now() < deadline,
                "--sync {sync}: only {said} were stored since there was room"
            );
        }
        let shown = own.shown();
        let missing = stored.iter().filter(|text| !shown.contains(text)).count();
        assert_eq!(
            missing, 0,
            "--sync {sync}: said to be sent, and not in the log"
        );
    }
}

/// Starts the program after `setup` in a mount namespace of its own.
fn after(setup: &str, args: &[&str]) -> Command {
    let program = diatribe(args);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg(format!("{setup} && exec \"$@\"")).arg("sh");
    command.arg(program.get_program()).args(program.get_args());
    command
}

#[test]
#[ignore = "needs mount namespaces: run with --ignored as root on Linux"]
fn a_node_that_keeps_nothing_needs_no_writable_directory() {
    let (_folder, path) = folder();
    let setup = format!("mount -t tmpfs -o ro tmpfs {path}");
    for path in [path.clone(), format!("{path}/below")] {
        let args = ["node", "--json", "--ephemeral", "--listen", "127.0.0.1:0"];
        let args = [&args[..], &["--data-dir", &path]].concat();
        let mut node = Program::spawn(after(&setup, &args));
        node.await_online();
        node.signal(rustix::process::Signal::TERM);
        assert!(node.ends_within(crate::cluster::EVENT_TIMEOUT).success());
        assert!(node.stderr().contains("cannot be written"));
    }
}

#[test]
#[ignore = "needs mount namespaces: run with --ignored as root on Linux"]
fn a_node_that_finds_no_room_at_its_start_says_so_and_what_to_do() {
    let (_folder, path) = folder();
    let fill = format!("! dd if=/dev/zero of={path}/ballast bs=4096 2>/dev/null");
    let setup = format!("mount -t tmpfs -o size=1m,mode=0700 tmpfs {path} && {fill}");
    let args = ["node", "--listen", "127.0.0.1:0", "--data-dir", &path];
    let output = after(&setup, &args).output().expect("unshare is installed");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("space") && said.contains("free space"),
        "{said}"
    );
}
