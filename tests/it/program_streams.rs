//! The program with a stdout or stderr that cannot be written: a failed log line never stops a node, and a command with
//! a lost answer has failed.

use std::net::TcpStream;
use std::process::Command;

use serde_json::json;

use crate::program_support::{Program, complaint, diatribe, folder, run, text};

/// `command` with the redirections that `redirect` names, as a shell understands them.
fn redirected(command: &Command, redirect: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec \"$@\" {redirect}"));
    shell.arg("sh").arg(command.get_program());
    shell.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

#[cfg(target_os = "linux")]
#[test]
fn a_node_whose_stderr_is_full_goes_on_after_it_had_much_to_complain_of() {
    for redirect in ["2>/dev/full", "2>&-"] {
        let (_folder, path) = folder();
        let mut command = diatribe(&["node", "--json", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(&path).env("RUST_LOG", "trace");
        let mut a = Program::spawn(redirected(&command, redirect));
        a.await_online();
        // More than the caps for one source let in: some are refused, which is warned of.
        let strangers: Vec<TcpStream> = (0..14)
            .map(|_| TcpStream::connect(a.socket()).expect("the port is open"))
            .collect();
        drop(strangers);
        let mut b = Program::node(&["--dial", &a.address()]);
        b.next("link_up");
        a.next("link_up");
        b.say("still there?");
        assert_eq!(a.texts(1), ["still there?"], "{redirect}");
        a.say("yes");
        assert_eq!(b.texts(1), ["yes"], "{redirect}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_command_whose_answer_cannot_be_written_fails_and_says_so() {
    let (_folder, path) = folder();
    run(&["key", "show", "--data-dir", &path]);
    let commands: &[&[&str]] = &[
        &["id", "--data-dir", &path],
        &["id", "--json", "--data-dir", &path],
        &["key", "show", "--data-dir", &path],
        &["key", "passphrase"],
        &["log", "show", "--help"],
        &["completions", "bash"],
        &["conformance", "--list"],
        &["--version"],
        &["demo", "--nodes", "3"],
    ];
    for args in commands {
        let output = redirected(&diatribe(args), ">/dev/full")
            .output()
            .expect("the program runs");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
    let output = redirected(&diatribe(commands[0]), ">/dev/full")
        .output()
        .expect("the program runs");
    let said = text(&output.stderr);
    assert!(said.contains("stdout cannot be written to"), "{said}");
}

#[test]
fn a_misspelt_variable_is_named_with_the_one_it_may_be() {
    let (_folder, path) = folder();
    let output = diatribe(&["id", "--data-dir", &path])
        .env("DIATRIBE_TRSUT", "x")
        .output()
        .expect("the program runs");
    let said = text(&output.stderr);
    assert!(
        said.contains("DIATRIBE_TRSUT is not known") && said.contains("DIATRIBE_TRUST?"),
        "{said}"
    );
    assert!(output.status.success(), "{said}");
}

#[test]
fn an_allow_list_in_the_environment_that_names_nobody_is_refused() {
    for value in ["", " , "] {
        let (_folder, path) = folder();
        let output = diatribe(&["node", "--listen", "127.0.0.1:0", "--data-dir", &path])
            .env("DIATRIBE_TRUST", value)
            .output()
            .expect("the program runs");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("would let everybody in"), "{said}");
    }
    // One that is typed and empty is no PeerId.
    let (_folder, path) = folder();
    let said = complaint(&["node", "--trust", "", "--data-dir", &path], 2);
    assert!(said.contains("no PeerId"), "{said}");
}

#[test]
fn a_passphrase_file_with_a_byte_order_mark_and_empty_lines_is_the_same_identity() {
    let (folder, path) = folder();
    let phrase = crate::program_support::PASSPHRASE;
    let ids: Vec<String> = [format!("{phrase}\n"), format!("\u{feff}{phrase}\r\n\r\n")]
        .iter()
        .map(|content| {
            let file = crate::program_support::file(&folder, "passphrase", content);
            crate::program_support::answer(&["id", "--passphrase-file", &file, "--data-dir", &path])
        })
        .collect();
    assert_eq!(json!(ids[0]), json!(ids[1]));
}
