//! Messages are stored: `diatribe log`, and the part of the log that a user sees at the start of a node.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::program_support::{
    Program, answer, complaint, diatribe, file, folder, parse, run, text,
};

const LOG: &str = "log.sqlite3";

/// Starts a node on `folder` that is linked with another, has sent "from me" and has received "from you".
pub(crate) fn talk(folder: &str) -> (Program, Program) {
    let mut other = Program::node(&[]);
    let mut own = Program::node_in(&["--data-dir", folder, "--dial", &other.address()]);
    own.next("link_up");
    other.next("link_up");
    own.say("from me");
    other.next("message");
    other.say("from you");
    own.next("message");
    (own, other)
}

pub(crate) fn end(program: Program) {
    // Killed: acknowledged messages are in the log all the same.
    drop(program);
}

pub(crate) fn json_lines(args: &[&str]) -> Vec<Value> {
    answer(args).lines().map(parse).collect()
}

#[test]
fn the_log_is_read_while_the_node_runs_and_own_events_are_shown_as_own() {
    let (_dir, path) = folder();
    let (own, other) = talk(&path);
    let shown = answer(&["log", "show", "--data-dir", &path]);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 2, "{shown}");
    assert!(lines[0].ends_with("[lobby] you: from me"), "{shown}");
    assert!(lines[1].ends_with(": from you"), "{shown}");

    let json = |more: &[&str]| {
        let args = [&["log", "show", "--json", "--data-dir", &path], more].concat();
        json_lines(&args)
            .iter()
            .map(|line| line["text"].as_str().expect("text").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(json(&[]), ["from me", "from you"]);
    assert_eq!(json(&["--last", "1"]), ["from you"]);
    assert_eq!(json(&["--author", &own.id()]), ["from me"]);
    assert_eq!(
        json(&["--author", &other.id(), "--since", "2h"]),
        ["from you"]
    );
    assert_eq!(json(&["--since", "2999-01-01"]), [""; 0]);
    assert_eq!(json(&["--room", "lobby"]), ["from me", "from you"]);
    assert_eq!(json(&["--room", "annex"]), [""; 0]);
}

#[test]
fn a_question_that_makes_no_sense_is_wrong_usage() {
    let (_dir, path) = folder();
    let asked = |more: [&str; 2]| {
        complaint(
            &[&["log", "show", "--data-dir", &path][..], &more].concat(),
            2,
        )
    };
    assert!(asked(["--since", "yesterday"]).contains("3d"));
    assert!(asked(["--author", "alice"]).contains("PeerId"));
    assert!(asked(["--room", "a/b"]).contains("--room"));
    let error = complaint(&["log", "show", "--data-dir", &path], 1);
    assert!(error.contains("there is no log"), "{error}");
    let error = complaint(&["node", "--data-dir", &path, "--keep-bytes", "2X"], 2);
    assert!(error.contains("500M"), "{error}");
}

#[test]
fn people_see_the_last_lines_when_their_node_starts_and_programs_do_not() {
    let (_dir, path) = folder();
    let (own, other) = talk(&path);
    end(own);
    let started = |more: &[&str]| {
        let mut command = diatribe(&["node", "--listen", "127.0.0.1:0", "--data-dir", &path]);
        let mut child = command
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        use std::io::Write;
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(b"/status\n/quit\n").expect("it reads");
        let mut said = Vec::new();
        while let Some(Ok(line)) = lines.next() {
            said.push(line);
        }
        child.wait().expect("it ends");
        said.join("\n")
    };
    let said = started(&[]);
    assert!(said.contains("[lobby] you: from me"), "{said}");
    assert!(said.contains(": from you"), "{said}");
    assert!(said.contains("lobby: 2 messages stored"), "{said}");
    let said = started(&["--last", "1"]);
    assert!(
        !said.contains("from me") && said.contains("from you"),
        "{said}"
    );

    let mut program = Program::node_in(&["--data-dir", &path, "--last", "1"]);
    assert_eq!(program.texts(1), ["from you"]);
    end(program);
    // After the next link nothing is delivered twice, and the first message is a new one.
    let mut program = Program::node_in(&["--data-dir", &path, "--dial", &other.address()]);
    assert_eq!(program.next("checked")["repaired"], 0);
    let mut other = other;
    other.say("new");
    assert_eq!(program.texts(1), ["new"]);
}

#[test]
fn with_ephemeral_nothing_is_written_of_what_was_said() {
    let (dir, path) = folder();
    let mut other = Program::node(&[]);
    let mut own = Program::node_in(&[
        "--data-dir",
        &path,
        "--ephemeral",
        "--dial",
        &other.address(),
    ]);
    own.next("link_up");
    other.say("secret");
    assert_eq!(own.texts(1), ["secret"]);
    assert!(!dir.path().join(LOG).exists());
}

#[test]
fn a_second_node_on_the_data_directory_is_refused_by_name() {
    let (_dir, path) = folder();
    let _own = Program::node_in(&["--data-dir", &path]);
    let second = ["node", "--listen", "127.0.0.1:0", "--data-dir", &path];
    assert!(complaint(&second, 1).contains("another node (process"));
    assert!(
        complaint(&["log", "repair", "--data-dir", &path], 1).contains("another node (process")
    );
}

#[test]
fn what_is_exported_is_imported_elsewhere_once() {
    let (dir, path) = folder();
    let (_own, _other) = talk(&path);
    let export = dir.path().join("export.jsonl");
    let export = export.to_str().expect("a path");
    assert!(answer(&["log", "export", export, "--data-dir", &path]).contains("holds 2 batches"));
    let again = complaint(&["log", "export", export, "--data-dir", &path], 1);
    assert!(again.contains("--force"), "{again}");

    let (_second, second) = folder();
    let import = ["log", "import", export, "--data-dir", &second];
    assert!(answer(&import).starts_with("2 batches were taken in, 0"));
    assert!(answer(&import).starts_with("0 batches were taken in, 2"));
    let show = |path: &str| {
        let said = json_lines(&["log", "show", "--json", "--data-dir", path]);
        let key = |line: &Value| {
            (
                line["id"].clone(),
                line["seq"].clone(),
                line["text"].clone(),
            )
        };
        said.iter().map(key).collect::<Vec<_>>()
    };
    assert_eq!(show(&path), show(&second));

    // A line that was changed is refused, by its number.
    let lines = std::fs::read_to_string(export).expect("the export");
    let forged = file(
        &dir,
        "forged",
        &lines.replace("\"envelope\":\"", "\"envelope\":\"AAAA"),
    );
    let error = complaint(&["log", "import", &forged, "--data-dir", &second], 1);
    assert!(error.contains("line 1"), "{error}");
}

/// A new network key in `folder`.
fn network_key(folder: &tempfile::TempDir, name: &str) -> String {
    let key = folder.path().join(name);
    let key = key.to_str().expect("a path").to_owned();
    answer(&["key", "network", &key]);
    key
}

#[test]
fn what_was_said_in_one_network_is_not_taken_into_the_log_of_another() {
    let (dir, path) = folder();
    end(talk(&path).0);
    let export = dir.path().join("export.jsonl");
    let export = export.to_str().expect("a path");
    answer(&["log", "export", export, "--data-dir", &path]);
    let key = network_key(&dir, "network.key");

    // A new log belongs to the network that is named, and keeps to it without its name.
    let (_private, private) = folder();
    for named in [&["--network-key", &key][..], &[]] {
        let args = [&["log", "import", export, "--data-dir", &private], named].concat();
        let out = run(&args);
        assert_eq!(out.status.code(), Some(1));
        let told = text(&out.stdout);
        assert!(told.starts_with("0 batches were taken in"), "{told}");
        assert!(told.contains("2 were refused"), "{told}");
        let error = text(&out.stderr);
        assert!(
            error.contains("line 1, was said in the open network"),
            "{error}"
        );
        assert!(error.contains("in the private network"), "{error}");
        assert!(error.contains("--data-dir"), "{error}");
    }
    assert_eq!(
        json_lines(&["log", "show", "--json", "--data-dir", &private]).len(),
        0
    );
    // Nor is it taken for a message of that network when the export claims so.
    let lines = std::fs::read_to_string(export).expect("the export");
    let open = "\"network\":\"".to_owned() + &"0".repeat(64);
    assert!(lines.contains(&open), "{lines}");
    let claims = file(&dir, "claims", &lines.replace(&open, "\"network\":\"00"));
    let error = complaint(&["log", "import", &claims, "--data-dir", &private], 1);
    assert!(error.contains("the first is in line 1"), "{error}");
}

#[test]
fn a_node_and_an_import_refuse_the_log_of_another_network_and_say_what_to_do() {
    let (dir, path) = folder();
    end(talk(&path).0);
    let (key, other) = (network_key(&dir, "a.key"), network_key(&dir, "b.key"));
    let node = |path: &str, key: &[&str]| {
        let args = ["node", "--listen", "127.0.0.1:0", "--data-dir", path];
        complaint(&[&args[..], key].concat(), 1)
    };
    let error = node(&path, &["--network-key", &key]);
    assert!(error.contains("belongs to the open network"), "{error}");
    assert!(error.contains("leave --network-key away"), "{error}");
    let import = [
        "log",
        "import",
        "-",
        "--data-dir",
        &path,
        "--network-key",
        &key,
    ];
    assert!(complaint(&import, 1).contains("belongs to the open network"));

    let (_private, private) = folder();
    drop(Program::node_in(&[
        "--data-dir",
        &private,
        "--network-key",
        &key,
    ]));
    for given in [&[][..], &["--network-key", &other]] {
        let error = node(&private, given);
        assert!(error.contains("belongs to the private network"), "{error}");
        assert!(
            error.contains("the --network-key that it was made with"),
            "{error}"
        );
    }
    drop(Program::node_in(&[
        "--data-dir",
        &private,
        "--network-key",
        &key,
    ]));
}

#[test]
fn a_private_log_is_read_repaired_and_exported_into_another_of_its_network() {
    let (dir, path) = folder();
    let key = network_key(&dir, "network.key");
    let with_key = ["--network-key", &key];
    let mut other = Program::node(&with_key);
    let args = ["--data-dir", &path, "--dial", &other.address()];
    let mut own = Program::node_in(&[&args[..], &with_key].concat());
    own.next("link_up");
    own.say("among us");
    other.next("message");
    end(own);
    let texts = |path: &str| -> Vec<String> {
        let lines = json_lines(&["log", "show", "--json", "--data-dir", path]);
        lines.iter().map(|line| line["text"].to_string()).collect()
    };
    assert_eq!(texts(&path), ["\"among us\""]);
    assert!(
        answer(&["log", "check", "--data-dir", &path]).contains("1 batches read and found whole")
    );
    assert!(answer(&["log", "repair", "--data-dir", &path]).contains("1 batches were saved"));
    assert_eq!(texts(&path), ["\"among us\""]);
    let export = dir.path().join("export.jsonl");
    let export = export.to_str().expect("a path");
    answer(&["log", "export", export, "--data-dir", &path]);
    let (_copy, copy) = folder();
    let import = ["log", "import", export, "--data-dir", &copy];
    assert!(answer(&[&import[..], &with_key].concat()).starts_with("1 batches were taken in"));
    assert_eq!(texts(&copy), ["\"among us\""]);
}

#[test]
fn a_damaged_log_is_named_left_alone_and_repaired() {
    let (dir, path) = folder();
    let (own, other) = talk(&path);
    end(own);
    let log = dir.path().join(LOG);
    // All into one file, then garbage over a page in the middle.
    let conn = rusqlite::Connection::open(&log).expect("the log");
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .expect("a checkpoint");
    drop(conn);
    assert!(answer(&["log", "check", "--data-dir", &path]).contains("2 batches read"));
    let mut bytes = std::fs::read(&log).expect("the log");
    bytes[100..4096].fill(0x5a);
    std::fs::write(&log, &bytes).expect("written");

    let error = complaint(&["node", "--listen", "127.0.0.1:0", "--data-dir", &path], 1);
    assert!(
        error.contains("damaged") && error.contains("log repair"),
        "{error}"
    );
    assert_eq!(std::fs::read(&log).expect("the log"), bytes);
    complaint(&["log", "check", "--data-dir", &path], 1);
    let told = answer(&["log", "repair", "--data-dir", &path]);
    assert!(told.contains("the old file is kept"), "{told}");
    assert!(answer(&["log", "check", "--data-dir", &path]).contains("found whole"));
    // The node gets the lost messages back from a neighbour.
    let _again = Program::node_in(&["--data-dir", &path, "--dial", &other.address()]);
    let mut texts = Vec::new();
    for _ in 0..100 {
        let shown = json_lines(&["log", "show", "--json", "--data-dir", &path]);
        texts = shown.iter().map(|line| line["text"].to_string()).collect();
        if texts.len() == 2 {
            break;
        }
        // Another process writes the log, and reports no event of its own that it gets back: it can only be polled.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(texts.len(), 2, "{texts:?}");
}

#[test]
fn a_log_of_a_newer_program_is_not_touched() {
    let (dir, path) = folder();
    end(talk(&path).0);
    let conn = rusqlite::Connection::open(dir.path().join(LOG)).expect("the log");
    conn.pragma_update(None, "user_version", 99)
        .expect("a number");
    drop(conn);
    let start = [
        "node",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        &path,
    ];
    let output = run(&start);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("schema 99"));
    // Programs find it on stdout too.
    let last = text(&output.stdout);
    assert_eq!(parse(last.lines().last().expect("a line"))["type"], "error");
}

#[cfg(unix)]
#[test]
fn after_a_clean_stop_the_log_is_one_file_that_can_be_copied() {
    let (_dir, path) = folder();
    let (mut own, _other) = talk(&path);
    own.signal(rustix::process::Signal::TERM);
    own.ends_within(std::time::Duration::from_secs(5));
    let (_copy, copy) = folder();
    std::fs::copy(Path::new(&path).join(LOG), Path::new(&copy).join(LOG)).expect("a copy");
    let shown = json_lines(&["log", "show", "--json", "--data-dir", &copy]);
    assert_eq!(shown.len(), 2, "{shown:?}");
}

#[test]
fn files_of_a_log_whose_own_file_is_missing_or_empty_are_named_and_left_as_they_are() {
    for make_empty in [false, true] {
        let (_dir, path) = folder();
        let (own, _other) = talk(&path);
        end(own);
        let main = Path::new(&path).join(LOG);
        std::fs::remove_file(&main).expect("it is there");
        if make_empty {
            std::fs::write(&main, "").expect("a file");
        }
        let wal = Path::new(&path).join("log.sqlite3-wal");
        let before = std::fs::read(&wal).expect("a WAL, as the process was killed");
        let said = complaint(&["node", "--listen", "127.0.0.1:0", "--data-dir", &path], 1);
        assert!(
            said.contains("is missing or empty") && said.contains("log.sqlite3-"),
            "{said}"
        );
        assert_eq!(std::fs::read(&wal).expect("still there"), before);
        assert_eq!(main.exists(), make_empty);
    }
}
