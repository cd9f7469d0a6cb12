//! The program with a terminal as its stdin.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

use crate::cluster::EVENT_TIMEOUT;
use crate::program_support::{Program, diatribe, folder};

/// A node for a person at a terminal.
struct AtTerminal {
    child: Child,
    keyboard: File,
    lines: Receiver<String>,
    _folder: TempDir,
}

impl AtTerminal {
    fn dialling(address: &str) -> AtTerminal {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudoterminal");
        grantpt(&controller).expect("it is ours");
        unlockpt(&controller).expect("it is ours");
        let name = ptsname(&controller, Vec::new()).expect("it has a name");
        let name = name.into_string().expect("a path");
        let mut terminal = OpenOptions::new();
        let terminal = terminal.read(true).write(true).open(name);
        let (folder, path) = folder();
        let mut command = diatribe(&["node", "--exempt-loopback", "--listen", "127.0.0.1:0"]);
        command.args(["--data-dir", &path, "--dial", address]);
        let mut child = command
            .stdin(Stdio::from(terminal.expect("it can be opened")))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let (out, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            let _ = lines.map(|line| out.send(line)).find(Result::is_err);
        });
        AtTerminal {
            child,
            keyboard: File::from(controller),
            lines,
            _folder: folder,
        }
    }

    fn awaits(&self, text: &str) -> String {
        let mut passed = Vec::new();
        loop {
            let line = self.lines.recv_timeout(EVENT_TIMEOUT);
            let line = line.unwrap_or_else(|error| panic!("no {text:?}: {error}; {passed:#?}"));
            if line.contains(text) {
                return line;
            }
            passed.push(line);
        }
    }

    fn types(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").expect("the terminal takes it");
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_line_that_the_terminal_cuts_is_refused_and_not_sent_and_what_fits_is() {
    let mut other = Program::node(&[]);
    let mut person = AtTerminal::dialling(&other.address());
    person.awaits("linked");
    let fits = "x".repeat(4094);
    person.types(&fits);
    assert_eq!(other.texts(1), [fits]);
    for bytes in [4095, 4096, 9000] {
        person.types(&"x".repeat(bytes));
        let refused = person.awaits("was not sent");
        assert!(refused.contains("shorter lines"), "{refused}");
    }
    person.types("next");
    assert_eq!(other.texts(1), ["next"]);
}
