//! The log on a disk of its own that is full or read-only. Mounting takes root: these tests are ignored, and run with
//! `cargo test --test it namespace -- --ignored`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program_log::{end, json_lines, talk};
use crate::program_support::{Program, answer, complaint, folder, run, text};

/// A tmpfs on a folder, unmounted at the end of the test.
struct Mount(PathBuf);

fn mount(args: &[&str], at: &Path) {
    let status = Command::new("mount").args(args).arg(at).status();
    let status = status.expect("mount (util-linux) is installed");
    assert!(status.success(), "mount {args:?} {at:?}: this needs root");
}

impl Mount {
    fn tmpfs(folder: &Path, options: &str) -> Mount {
        mount(&["-t", "tmpfs", "-o", options, "tmpfs"], folder);
        Mount(folder.to_owned())
    }

    fn remount(&self, options: &str) {
        mount(&["-o", &format!("remount,{options}")], &self.0);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
#[ignore = "needs root to mount: run with --ignored on Linux"]
fn a_full_disk_is_named_and_nothing_that_was_acknowledged_is_lost() {
    let (dir, path) = folder();
    let _mount = Mount::tmpfs(dir.path(), "size=4m,mode=700");
    let mut other = Program::node(&["--ephemeral"]);
    let mut own = Program::node_in(&["--data-dir", &path, "--dial", &other.address()]);
    own.next("link_up");
    other.next("link_up");
    let mut sent = 0;
    let error = loop {
        own.line(&serde_json::json!({ "text": "x".repeat(200_000) }).to_string());
        let answer = own.next_of(&["sent", "error"]);
        if answer["type"] == "error" {
            break answer["reason"].to_string();
        }
        sent += 1;
        assert!(sent < 100, "the disk is never full");
    };
    assert!(error.contains("no space is left"), "{error}");
    // Before the end: messages still in flight to the only neighbour end with the process.
    assert_eq!(other.texts(sent).len(), sent);
    end(own);
    let kept = json_lines(&["log", "show", "--json", "--data-dir", &path]).len();
    assert_eq!(kept, sent);
}

#[test]
#[ignore = "needs root to mount: run with --ignored on Linux"]
fn a_read_only_data_directory_is_named() {
    let (dir, path) = folder();
    let mount = Mount::tmpfs(dir.path(), "size=8m,mode=700");
    end(talk(&path).0);
    mount.remount("ro");
    // After the kill the last lines are in the journal beside the log: they cannot be merged, and the program says so.
    let shown = run(&["log", "show", "--data-dir", &path]);
    let (out, err) = (text(&shown.stdout), text(&shown.stderr));
    assert!(
        out.contains("from you") || err.contains("log.sqlite3-tail"),
        "{out}{err}"
    );
    mount.remount("rw");
    assert!(answer(&["log", "show", "--data-dir", &path]).contains("from you"));
    mount.remount("ro");
    let error = complaint(&["node", "--listen", "127.0.0.1:0", "--data-dir", &path], 1);
    assert!(
        error.to_lowercase().contains("read-only") || error.contains("cannot be"),
        "{error}"
    );
    // The log can still be read.
    let shown = answer(&["log", "show", "--data-dir", &path]);
    assert!(shown.contains("from you"), "{shown}");
}
