//! Machines of their own for tests: a network, a hosts file and a list of name servers that are not this machine's.
//! They are Linux namespaces, which take root.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::program_support::{Program, diatribe, parse, text};

/// A network namespace and a mount namespace, held by a process that does nothing else.
pub(crate) struct Machine {
    holder: Child,
    folder: TempDir,
}

impl Machine {
    /// A machine with only loopback and no name server, after `setup` has run there in a shell.
    pub(crate) fn new(setup: &str) -> Machine {
        Machine::hold(
            &["--net", "--mount"],
            &format!("ip link set lo up && {setup}"),
        )
    }

    /// A machine with no name server, on the network of this one.
    pub(crate) fn new_on_this_network() -> Machine {
        Machine::hold(&["--mount"], "true")
    }

    fn hold(unshared: &[&str], setup: &str) -> Machine {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in [("resolv.conf", ""), ("hosts", "127.0.0.1 localhost\n")] {
            std::fs::write(folder.path().join(name), content).expect("a file");
        }
        let script = "mount --bind \"$1/resolv.conf\" /etc/resolv.conf && mount --bind \"$1/hosts\" /etc/hosts && \
                      eval \"$2\" && echo ready && exec sleep 1000";
        let mut holder = Command::new("unshare")
            .args(unshared)
            .args(["sh", "-c", script, "sh"])
            .arg(folder.path())
            .arg(setup)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare (util-linux) is there, and this is root");
        let mut said = String::new();
        let stdout = holder.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut said).expect("a line");
        assert_eq!(said, "ready\n", "the machine cannot be set up: {setup}");
        Machine { holder, folder }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.holder.id()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds a line to the hosts file.
    pub(crate) fn add_host(&self, line: &str) {
        let hosts = std::fs::read_to_string(self.file("hosts")).expect("a file");
        std::fs::write(self.file("hosts"), format!("{hosts}{line}\n")).expect("a file");
    }

    /// Names the name server that is to be asked from now on.
    pub(crate) fn set_name_server(&self, ip: &str) {
        let line = format!("nameserver {ip}\n");
        std::fs::write(self.file("resolv.conf"), line).expect("a file");
    }

    /// Runs a shell script there.
    pub(crate) fn sh(&self, script: &str) {
        let status = self.enter().args(["sh", "-c", script]).status();
        assert!(status.expect("nsenter is there").success(), "{script}");
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target"]);
        command.arg(self.pid().to_string()).arg("--");
        command
    }

    /// The program there.
    pub(crate) fn diatribe(&self, args: &[&str]) -> Command {
        let program = diatribe(args);
        let mut command = self.enter();
        command.arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// A node there that is online, with a data directory below this machine's.
    pub(crate) fn node(&self, name: &str, args: &[&str]) -> Program {
        let data = self.file(name);
        let data = data.to_str().expect("a path in UTF-8");
        let fixed = ["node", "--json", "--exempt-loopback", "--data-dir", data];
        let mut program = Program::spawn(self.diatribe(&[&fixed, args].concat()));
        program.await_online();
        program
    }

    /// The lines of a check there.
    pub(crate) fn check(&self, args: &[&str]) -> Vec<Value> {
        let data = self.file("check");
        let data = data.to_str().expect("a path in UTF-8");
        let fixed = ["check", "--json", "--data-dir", data];
        let output = self.diatribe(&[&fixed, args].concat()).output();
        let output = output.expect("the program runs");
        text(&output.stdout).lines().map(parse).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
