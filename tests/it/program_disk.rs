//! The log's files under a running node: removed, renamed, replaced by others, or with their whole directory. Every
//! acknowledged event is in a log again, or every event is answered with an error.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::program_support::{Program, answer, folder, parse};

/// A change to a file, given its path and its name.
type Displace<'a> = &'a dyn Fn(&Path, &str);

/// Starts two linked nodes. The first has its data in `path` and has sent "before".
fn talking_in(path: &str) -> (Program, Program) {
    let mut other = Program::node(&[]);
    let mut own = Program::node_in(&["--data-dir", path, "--dial", &other.address()]);
    own.next("link_up");
    other.next("link_up");
    own.say("before");
    (own, other)
}

/// The files of the log in `path`, by name.
fn log_files(path: &str) -> Vec<String> {
    let files = fs::read_dir(path).expect("the folder");
    let names = files.map(|file| file.expect("a file").file_name());
    let names = names.map(|name| name.into_string().expect("a name in UTF-8"));
    names
        .filter(|name| name.starts_with("log.sqlite3"))
        .collect()
}

/// Returns the answer of `program` to `text`, and the other errors that it reports meanwhile.
fn answer_to(program: &mut Program, text: &str) -> (Value, Vec<String>) {
    program.line(&serde_json::json!({ "text": text }).to_string());
    let mut errors = Vec::new();
    loop {
        let line = program.next_of(&["sent", "error"]);
        // A line about an event of this node names its room.
        if line["type"] == "sent" || !line["room"].is_null() {
            return (line, errors);
        }
        errors.push(line["reason"].as_str().expect("a reason").to_owned());
    }
}

/// Waits until `program` has reported an error with this text, unless `told` already has it.
fn await_error(program: &mut Program, told: &[String], says: &str) {
    let mut told = told.to_vec();
    while !told.iter().any(|reason| reason.contains(says)) {
        let error = program.next("error");
        told.push(error["reason"].as_str().expect("a reason").to_owned());
    }
}

/// Ends `program` as a user does, and reads its log in `path`.
#[cfg(unix)]
fn texts_after_the_end(mut program: Program, path: &str) -> Vec<String> {
    program.signal(rustix::process::Signal::TERM);
    let ended = program.ends_within(crate::cluster::EVENT_TIMEOUT);
    assert!(ended.success(), "{ended}");
    let shown = answer(&["log", "show", "--json", "--data-dir", path]);
    let text = |line: &str| parse(line)["text"].as_str().expect("text").to_owned();
    shown.lines().map(text).collect()
}

#[cfg(unix)]
#[test]
fn a_log_that_is_removed_or_renamed_under_a_node_is_made_anew_with_all_that_it_held() {
    let remove = |path: &Path, _: &str| fs::remove_file(path).expect("a file of ours");
    let rename = |path: &Path, name: &str| {
        let away = path.with_file_name(format!("away-{name}"));
        fs::rename(path, away).expect("a file of ours");
    };
    let cases: [(&str, Displace<'_>); 3] = [
        ("log.sqlite3", &remove),
        ("log.sqlite3", &rename),
        ("log.sqlite3-wal", &remove),
    ];
    for (only_from, displace) in cases {
        let (dir, path) = folder();
        let (mut own, mut other) = talking_in(&path);
        for name in log_files(&path) {
            if name.starts_with(only_from) {
                displace(&dir.path().join(&name), &name);
            }
        }
        let (answered, told) = answer_to(&mut own, "after");
        assert_eq!(answered["type"], "sent", "{answered}");
        await_error(&mut own, &told, "the log was made anew there");
        other.say("from the other");
        own.next("message");
        let texts = texts_after_the_end(own, &path);
        assert_eq!(texts, ["before", "after", "from the other"], "{only_from}");
        assert!(answer(&["log", "check", "--data-dir", &path]).contains("3 batches read"));
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_was_put_in_the_place_of_the_log_is_kept_and_the_log_is_made_anew() {
    let (dir, path) = folder();
    let (mut own, _other) = talking_in(&path);
    let log = dir.path().join("log.sqlite3");
    fs::write(dir.path().join("mine"), "a text of mine").expect("a file");
    fs::rename(dir.path().join("mine"), &log).expect("a file");
    let (answered, told) = answer_to(&mut own, "after");
    assert_eq!(answered["type"], "sent", "{answered}");
    await_error(&mut own, &told, "log.sqlite3.set-aside-1");
    assert_eq!(texts_after_the_end(own, &path), ["before", "after"]);
    let kept = fs::read_to_string(dir.path().join("log.sqlite3.set-aside-1"));
    assert_eq!(kept.expect("it is kept"), "a text of mine");
}

#[cfg(unix)]
#[test]
fn without_its_directory_every_event_is_an_error_until_it_is_back_and_then_nothing_is_lost() {
    let remove = |path: &str| fs::remove_dir_all(path).expect("a folder of ours");
    let rename = |path: &str| fs::rename(path, format!("{path}-away")).expect("a folder");
    let cases: [&dyn Fn(&str); 2] = [&remove, &rename];
    for displace in cases {
        let (dir, _) = folder();
        let path = dir.path().join("data");
        let path = path.to_str().expect("a path in UTF-8").to_owned();
        let (mut own, _other) = talking_in(&path);
        displace(&path);
        // One may still be taken, into memory, before it is noticed.
        let mut acknowledged = vec!["before".to_owned()];
        let (first, told) = answer_to(&mut own, "first");
        if first["type"] == "sent" {
            acknowledged.push("first".to_owned());
        }
        await_error(&mut own, &told, "is gone");
        for n in 0..3 {
            let (refused, _) = answer_to(&mut own, &format!("refused {n}"));
            assert_eq!(refused["type"], "error", "{refused}");
            let reason = refused["reason"].to_string();
            assert!(reason.contains("mkdir -p"), "{reason}");
        }
        fs::create_dir(&path).expect("a folder");
        let (answered, told) = answer_to(&mut own, "back");
        assert_eq!(answered["type"], "sent", "{answered}");
        await_error(&mut own, &told, "the log was made anew there");
        acknowledged.push("back".to_owned());
        // The other node had heard the refused ones too, and may have handed them back.
        let texts = texts_after_the_end(own, &path);
        let is_there = |text: &String| texts.iter().filter(|other| *other == text).count() == 1;
        assert!(acknowledged.iter().all(is_there), "{texts:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_repair_says_how_much_is_lost_and_ends_with_1_if_anything_is() {
    let (dir, path) = folder();
    let (mut own, other) = talking_in(&path);
    own.say("after");
    own.signal(rustix::process::Signal::TERM);
    own.ends_within(crate::cluster::EVENT_TIMEOUT);
    drop(other);
    let log = dir.path().join("log.sqlite3");
    let conn = rusqlite::Connection::open(&log).expect("the log");
    let page_of = |table: &str| -> usize {
        let sql = "SELECT pageno FROM dbstat WHERE name = ?1";
        let page = conn.query_row(sql, [table], |row| row.get::<_, i64>(0));
        page.expect("a page") as usize
    };
    let (rows, index) = (page_of("batch"), page_of("batch_by_time"));
    drop(conn);
    let damage = |page: usize| {
        let mut bytes = fs::read(&log).expect("the log");
        bytes[(page - 1) * 32768..page * 32768].fill(0x5a);
        fs::write(&log, bytes).expect("written");
    };
    damage(index);
    let told = answer(&["log", "repair", "--data-dir", &path]);
    assert!(
        told.starts_with("2 batches were saved; the old file"),
        "{told}"
    );
    damage(rows);
    let output = crate::program_support::run(&["log", "repair", "--data-dir", &path]);
    let told = crate::program_support::text(&output.stdout);
    assert!(
        told.starts_with("0 batches were saved, 2 are lost"),
        "{told}"
    );
    assert_eq!(output.status.code(), Some(1), "{told}");
    let said = crate::program_support::text(&output.stderr);
    assert!(said.contains("neighbours"), "{said}");
}

#[test]
fn a_data_directory_that_is_a_file_is_named_as_one() {
    let (dir, _) = folder();
    let path = crate::program_support::file(&dir, "data", "a text of mine");
    for command in [&["node", "--listen", "127.0.0.1:0"][..], &["log", "show"]] {
        let args = [command, &["--data-dir", &path]].concat();
        let said = crate::program_support::complaint(&args, 2);
        assert!(said.contains("that is a file"), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn a_lock_that_another_program_holds_is_not_blamed_on_a_node() {
    let (dir, path) = folder();
    let mut lock = fs::File::create(dir.path().join("lock")).expect("a file");
    // As a node that has ended left it: no process has this id.
    std::io::Write::write_all(&mut lock, b"2147483647").expect("written");
    lock.try_lock().expect("it is free");
    let args = ["node", "--listen", "127.0.0.1:0", "--data-dir", &path];
    let said = crate::program_support::complaint(&args, 1);
    assert!(said.contains("another program holds the lock"), "{said}");
}
