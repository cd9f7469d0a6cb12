//! `diatribe bench`: it measures with real nodes, compares sets, and is not content with less.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Stdio};

use serde_json::Value;

use crate::program_support::{complaint, diatribe, run, text};

/// The exact keys of a run's JSON object.
const NAMES: [&str; 14] = [
    "delivered",
    "expected",
    "lost",
    "duplicated",
    "deliveries_per_s",
    "mb_per_s",
    "cpu_us_per_delivery",
    "copies",
    "p50_us",
    "p99_us",
    "max_us",
    "peak_rss_bytes",
    "total_rss_bytes",
    "others_cpu_percent",
];
/// A run that has not ended when it is disturbed.
const LONG: [&str; 9] = [
    "bench",
    "--processes",
    "--ephemeral",
    "--nodes",
    "3",
    "--rate",
    "20",
    "--count",
    "100000",
];

/// Measures; the objects of the runs.
fn figures(args: &[&str]) -> Vec<Value> {
    let output = run(&[&["bench", "--json"], args].concat());
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{args:?}: {out}{err}");
    // A carriage return is for terminals alone.
    assert!(!err.contains('\r'), "{err:?}");
    out.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn number(figures: &Value, name: &str) -> f64 {
    figures[name]
        .as_f64()
        .unwrap_or_else(|| panic!("no {name}: {figures}"))
}

/// Checks that every event arrived once at every node but its publisher.
fn assert_whole(figures: &Value, deliveries: u64) {
    let names: BTreeSet<&str> = figures
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(names, BTreeSet::from(NAMES));
    for (name, expected) in [
        ("delivered", deliveries),
        ("expected", deliveries),
        ("lost", 0),
        ("duplicated", 0),
    ] {
        assert_eq!(figures[name], expected, "{name}: {figures}");
    }
    let [p50, p99, max] = ["p50_us", "p99_us", "max_us"].map(|name| number(figures, name));
    assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{figures}");
    // Each batch is sent over a link at least once.
    assert!(number(figures, "copies") >= 1.0, "{figures}");
    assert!(number(figures, "deliveries_per_s") > 0.0, "{figures}");
}

#[test]
fn nodes_in_one_process_deliver_every_event_and_every_figure_is_there() {
    let runs = figures(&["--nodes", "4", "--count", "2000", "--runs", "2"]);
    assert_eq!(runs.len(), 2);
    for run in &runs {
        assert_whole(run, 2000 * 3);
    }
}

#[test]
fn nodes_that_are_processes_do_too_in_several_rooms_by_several_publishers() {
    let args = "--processes --nodes 4 --count 2001 --rooms 3 --publishers 4 --size 1000";
    let args: Vec<&str> = args.split(' ').collect();
    let runs = figures(&args);
    assert_whole(&runs[0], 2001 * 3);
    if cfg!(target_os = "linux") {
        let [peak, total] =
            ["peak_rss_bytes", "total_rss_bytes"].map(|name| number(&runs[0], name));
        // Each of them has the program in memory.
        assert!(
            peak < total && total <= 4.0 * peak,
            "the largest of 4 has {peak}, all {total}"
        );
        assert!(number(&runs[0], "cpu_us_per_delivery") > 0.0);
    }
}

#[test]
fn links_drawn_by_hand_logs_in_memory_and_a_steady_rate_work_in_processes() {
    let args = "--processes --fixed-links --links 2 --ephemeral --nodes 5 --count 100 --rate 100";
    let args: Vec<&str> = args.split(' ').collect();
    let runs = figures(&[&args[..], &["--runs", "2"]].concat());
    assert_eq!(runs.len(), 2);
    for run in &runs {
        assert_whole(run, 100 * 4);
        // A hundred a second for one second: not faster than they were sent.
        assert!(number(run, "deliveries_per_s") <= 450.0, "{run}");
    }
}

#[test]
fn people_read_a_table_of_minimum_median_and_maximum() {
    let output = run(&["bench", "--nodes", "2", "--count", "50", "--runs", "3"]);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}");
    let words = |line: &str| -> Vec<String> { line.split_whitespace().map(Into::into).collect() };
    let lines: Vec<Vec<String>> = out.lines().map(words).collect();
    assert_eq!(lines[0], ["minimum", "median", "maximum"]);
    assert_eq!(lines[1], ["delivered", "50", "50", "50"]);
    assert_eq!(lines.len(), 1 + NAMES.len());
}

/// A bench of processes under way: itself, and the ids of its nodes.
#[cfg(unix)]
struct Running {
    bench: Child,
    stderr: BufReader<ChildStderr>,
    nodes: Vec<rustix::process::Pid>,
}

#[cfg(unix)]
impl Running {
    /// Starts a run and reads its output until its nodes send.
    fn start() -> Running {
        let mut command = diatribe(&LONG);
        command.env("RUST_LOG", "diatribe=info");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut bench = command.spawn().expect("it starts");
        let stderr = BufReader::new(bench.stderr.take().expect("a pipe"));
        let mut running = Running {
            bench,
            stderr,
            nodes: Vec::new(),
        };
        running.listen();
        running
    }

    fn listen(&mut self) {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).expect("a line");
            assert!(read > 0, "it ended before its nodes sent");
            if line.contains("the events are sent") {
                return assert_eq!(self.nodes.len(), 3);
            }
            if let Some((_, id)) = line.split_once("(process ") {
                let id = id.split(')').next().and_then(|id| id.parse().ok());
                let id = id.and_then(rustix::process::Pid::from_raw).expect("an id");
                self.nodes.push(id);
            }
        }
    }

    /// Waits until none of its nodes is there any more.
    fn nodes_end(&self) {
        let begun = std::time::Instant::now();
        for node in &self.nodes {
            while rustix::process::test_kill_process(*node).is_ok() && !is_dead(*node) {
                assert!(
                    begun.elapsed() < crate::cluster::EVENT_TIMEOUT,
                    "{node:?} is left behind"
                );
                // The nodes are another process's children: their end can only be polled.
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// Whether only its exit code is left, because nobody has asked for it.
#[cfg(unix)]
fn is_dead(node: rustix::process::Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", node.as_raw_nonzero())).is_ok_and(|stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, r)| r.starts_with(" Z"))
    })
}

#[cfg(unix)]
impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.bench.kill();
        let _ = self.bench.wait();
    }
}

#[cfg(unix)]
#[test]
fn a_node_that_is_killed_fails_the_run_by_name_and_none_is_left_behind() {
    let mut running = Running::start();
    let victim = running.nodes[1];
    rustix::process::kill_process(victim, rustix::process::Signal::KILL).expect("it runs");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut running.stderr, &mut said).expect("text");
    let mut out = String::new();
    let stdout = running.bench.stdout.as_mut().expect("a pipe");
    std::io::Read::read_to_string(stdout, &mut out).expect("text");
    let status = running.bench.wait().expect("a child");
    assert_eq!((status.code(), out.as_str()), (Some(1), ""), "{said}");
    let name = format!("error: node 2 (process {}) ended", victim.as_raw_nonzero());
    assert!(said.contains(&name), "{said}");
    assert!(said.contains("the run does not count"), "{said}");
    running.nodes_end();
}

#[cfg(unix)]
#[test]
fn nodes_end_when_the_bench_is_killed() {
    let mut running = Running::start();
    running.bench.kill().expect("it runs");
    running.bench.wait().expect("a child");
    running.nodes_end();
}

#[test]
fn an_idle_node_is_looked_at() {
    let output = run(&[
        "bench",
        "idle",
        "--json",
        "--links",
        "2",
        "--seconds",
        "1",
        "--starts",
        "2",
    ]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    let figures: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&figures["links"], &figures["seconds"]),
        (&2.into(), &1.into())
    );
    assert!(number(&figures, "start_ms") > 0.0);
    if cfg!(target_os = "linux") {
        assert!(number(&figures, "rss_bytes") > 1e6, "{figures}");
        assert!(number(&figures, "cpu_percent") < 100.0, "{figures}");
    }
}

#[test]
fn the_parts_are_measured_alone() {
    for (part, names) in [
        ("links", ["links", "p50_us", "cpu_us_per_link"]),
        ("log", ["batches", "batches_per_s", "cpu_us_per_batch"]),
        ("sync", ["batches", "lost", "batches_per_s"]),
    ] {
        let output = run(&["bench", part, "--json", "--count", "20"]);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{part}: {out}{err}");
        let figures: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(figures[names[0]], 20, "{figures}");
        for name in names {
            number(&figures, name);
        }
    }
}

#[test]
fn what_cannot_be_measured_is_refused_with_what_to_give_instead() {
    for (args, named) in [
        (["--nodes", "1"], "--nodes is 1"),
        (["--nodes", "0"], "--nodes"),
        (["--publishers", "9"], "--publishers is 9"),
        (["--links", "1"], "--links 2"),
        (["--rooms", "33"], "--rooms 32"),
        (["--size", "15"], "16 to 1048576"),
        (["--size", "1048577"], "16 to 1048576"),
        (["--rate", "fast"], "or max"),
        (["--rate", "0"], "from 1"),
        (["--count", "0"], "--count"),
        (["--runs", "0"], "--runs"),
    ] {
        let said = complaint(&[&["bench"], &args[..]].concat(), 2);
        assert!(said.contains(named), "{args:?}: {said}");
    }
    let said = complaint(&["bench", "idle", "--links", "65"], 2);
    assert!(said.contains("--links"), "{said}");
}
