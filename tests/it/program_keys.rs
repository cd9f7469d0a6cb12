//! Identities and keys from the command line.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::program_support::{
    PASSPHRASE, Program, answer, complaint, diatribe, file, folder, parse, run, text,
};

#[test]
fn the_same_passphrase_is_the_same_id_wherever_it_comes_from() {
    let (folder, data) = folder();
    let path = file(&folder, "passphrase", &format!("{PASSPHRASE}\n"));
    let id = answer(&["id", "--passphrase-file", &path, "--data-dir", &data]);
    let mut command = diatribe(&["id"]);
    command.env("DIATRIBE_PASSPHRASE", PASSPHRASE);
    assert_eq!(printed(command), id);
    let mut command = diatribe(&["id"]);
    command.env("DIATRIBE_PASSPHRASE_FILE", &path);
    assert_eq!(printed(command), id);
    let salted = answer(&[
        "id",
        "--passphrase-file",
        &path,
        "--salt",
        "s",
        "--data-dir",
        &data,
    ]);
    assert_ne!(salted, id);
}

#[test]
fn a_node_reads_its_passphrase_from_the_first_line_and_its_input_from_the_rest() {
    let (folder, data) = folder();
    let path = file(&folder, "passphrase", PASSPHRASE);
    let id = answer(&["id", "--passphrase-file", &path, "--data-dir", &data]);
    let mut command = diatribe(&[
        "node",
        "--json",
        "--listen",
        "127.0.0.1:0",
        "--passphrase-stdin",
    ]);
    command.args(["--data-dir", &data]);
    let mut a = Program::spawn(command);
    a.line(PASSPHRASE);
    a.line(r#"{"text": "hello"}"#);
    assert_eq!(a.next("online")["peer_id"], id);
    assert_eq!(a.next("error")["room"], "lobby");
}

#[test]
fn a_weak_passphrase_is_refused_with_the_way_out() {
    let (folder, data) = folder();
    let path = file(&folder, "passphrase", "letmein");
    let args = ["id", "--data-dir", &data, "--passphrase-file", &path];
    let error = complaint(&args, 1);
    assert!(error.contains("--allow-weak-passphrase"), "{error}");
    assert!(error.contains("diatribe key passphrase"), "{error}");
    let output = run(&[&args[..], &["--allow-weak-passphrase"]].concat());
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("weak"));
}

#[test]
fn the_kept_identity_stays_and_is_its_owners_alone() {
    let (folder, _) = folder();
    let data = folder.path().join("new");
    let data = data.to_str().expect("a path");
    let id = answer(&["id", "--data-dir", data]);
    assert_eq!(answer(&["id", "--data-dir", data]), id);
    let shown = parse(&answer(&["key", "show", "--json", "--data-dir", data]));
    assert_eq!(shown["peer_id"], *id);
    assert_eq!(Program::node_in(&["--data-dir", data]).id(), id);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &str| {
            std::fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode()
        };
        assert_eq!(mode(data) & 0o777, 0o700);
        let key = format!("{data}/identity.key");
        assert_eq!(mode(&key) & 0o777, 0o600);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("ours");
        assert!(complaint(&["id", "--data-dir", data], 1).contains("chmod 600"));
    }
}

#[test]
fn a_key_moves_to_another_folder_and_overwrites_none_unasked() {
    let (folder, data) = folder();
    let other = folder.path().join("other");
    let other = other.to_str().expect("a path");
    let copy = folder.path().join("copy");
    let copy = copy.to_str().expect("a path");
    let id = answer(&["id", "--data-dir", &data]);
    answer(&["key", "export", copy, "--data-dir", &data]);
    assert!(complaint(&["key", "export", copy, "--data-dir", &data], 1).contains("--force"));
    assert_ne!(answer(&["id", "--data-dir", other]), id);
    assert!(complaint(&["key", "import", copy, "--data-dir", other], 1).contains("--force"));
    answer(&["key", "import", copy, "--force", "--data-dir", other]);
    assert_eq!(answer(&["id", "--data-dir", other]), id);
}

#[test]
fn a_running_node_keeps_its_key() {
    let (folder, data) = folder();
    let copy = folder.path().join("copy");
    let copy = copy.to_str().expect("a path");
    answer(&["key", "export", copy, "--data-dir", &data]);
    let _node = Program::node_in(&["--data-dir", &data]);
    let error = complaint(&["key", "import", copy, "--force", "--data-dir", &data], 1);
    assert!(error.contains("another node"), "{error}");
}

#[test]
fn an_invented_passphrase_is_strong() {
    let (_folder, data) = folder();
    let passphrase = answer(&["key", "passphrase"]);
    assert_eq!(passphrase.split(' ').count(), 7);
    let mut child = diatribe(&["id", "--passphrase-stdin", "--data-dir", &data])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    writeln!(child.stdin.take().expect("a pipe"), "{passphrase}").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_prompt_without_a_terminal_says_what_to_use_instead() {
    let (_folder, data) = folder();
    let mut command = Command::new("setsid");
    command.args([
        "--wait",
        env!("CARGO_BIN_EXE_diatribe"),
        "id",
        "--passphrase",
    ]);
    let output = command
        .args(["--data-dir", &data])
        .stdin(Stdio::null())
        .output();
    let output = output.expect("setsid (util-linux) is installed");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("--passphrase-file"),
        "{}",
        text(&output.stderr)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_crash_writes_no_keys_to_the_disk() {
    use std::os::unix::process::ExitStatusExt;

    let (_folder, data) = folder();
    let mut command = Command::new("sh");
    let allowed = "ulimit -c unlimited; exec \"$@\"";
    command.args(["-c", allowed, "sh", env!("CARGO_BIN_EXE_diatribe")]);
    command.args(["node", "--json", "--listen", "127.0.0.1:0"]);
    command.args(["--data-dir", &data]).current_dir(&data);
    let mut node = Program::spawn(command);
    node.next("online");
    let lock = std::fs::read_to_string(format!("{data}/lock")).expect("a lock");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", lock.trim()));
    let limits = limits.expect("the process is there");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"]);
    node.signal(rustix::process::Signal::ABORT);
    let status = node.ends_within(crate::cluster::EVENT_TIMEOUT);
    assert!(
        status.signal().is_some() && !status.core_dumped(),
        "{status}"
    );
}

#[cfg(unix)]
#[test]
fn a_lock_is_for_this_user_alone_and_is_not_written_through_a_link() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let (folder, data) = folder();
    let (lock, mine) = (folder.path().join("lock"), folder.path().join("mine"));
    drop(Program::node_in(&["--data-dir", &data]));
    let mode = std::fs::metadata(&lock)
        .expect("a lock")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::remove_file(&lock).expect("it is there");
    std::fs::write(&mine, "what is mine").expect("a file");
    symlink(&mine, &lock).expect("a link");
    let said = complaint(&["node", "--data-dir", &data, "--listen", "127.0.0.1:0"], 1);
    assert!(said.contains("symbolic link"), "{said}");
    assert_eq!(
        std::fs::read_to_string(&mine).ok().as_deref(),
        Some("what is mine")
    );
}

#[test]
fn every_shell_gets_a_completion_script() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            answer(&["completions", shell]).contains("diatribe"),
            "{shell}"
        );
    }
}

fn printed(mut command: Command) -> String {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).trim_end().to_owned()
}

#[test]
fn a_network_key_that_was_typed_is_warned_of() {
    let (folder, data) = folder();
    let typed = file(&folder, "typed", "correct horse battery staple 123");
    let random = folder.path().join("random");
    let random = random.to_str().expect("a path");
    answer(&["key", "network", random]);
    let complaints = |key: &str| {
        let to = ["check", "--data-dir", &data, "--network-key", key];
        // Nothing listens there: the warning precedes the error.
        text(&run(&[&to[..], &["127.0.0.1:1"]].concat()).stderr).to_owned()
    };
    let said = complaints(&typed);
    assert!(said.contains("does not look random: it is text"), "{said}");
    assert!(said.contains("diatribe key network"), "{said}");
    assert!(!said.contains("correct horse"), "{said}");
    let said = complaints(random);
    assert!(!said.contains("does not look random"), "{said}");
}
