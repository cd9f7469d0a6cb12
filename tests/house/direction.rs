//! Imports go down only, in no circle, and rules know nothing of the outside.

use std::collections::BTreeSet;

use crate::imports::Graph;
use crate::source::{Source, sources};

/// Each module of the crate, and the others that it may import: from the ground up.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("clock", &[]),
    ("identity", &[]),
    ("rate_limit", &["clock"]),
    ("wire", &["model"]),
    ("handshake", GROUND),
    ("gate", GROUND),
    ("overlay", GROUND),
    ("gossip", GROUND),
    ("members", GROUND),
    ("store", GROUND),
    ("sync", GROUND),
    ("net", PROTOCOLS),
    ("node", NODE),
    ("conformance", CONFORMANCE),
    ("app", APP),
    ("main", &["app"]),
];

const GROUND: &[&str] = &["model", "clock", "identity", "rate_limit", "wire"];

const PROTOCOLS: &[&str] = &[
    "model",
    "clock",
    "identity",
    "rate_limit",
    "wire",
    "handshake",
    "gate",
    "overlay",
    "gossip",
    "members",
    "store",
    "sync",
];

const NODE: &[&str] = &[
    "model",
    "clock",
    "identity",
    "rate_limit",
    "wire",
    "handshake",
    "gate",
    "overlay",
    "gossip",
    "members",
    "store",
    "sync",
    "net",
];

/// The kit speaks to peers from outside: it knows messages, not the state behind them.
const CONFORMANCE: &[&str] = &[
    "model",
    "clock",
    "identity",
    "rate_limit",
    "wire",
    "handshake",
    "gossip",
    "net",
    "node",
];

const APP: &[&str] = &[
    "model",
    "clock",
    "identity",
    "rate_limit",
    "wire",
    "handshake",
    "gate",
    "overlay",
    "gossip",
    "members",
    "store",
    "sync",
    "net",
    "node",
    "conformance",
];

#[test]
fn imports_go_down_only() {
    let sources = sources();
    let graph = Graph::new(&sources);
    let mut wrong = Vec::new();
    for (from, targets) in graph.edges() {
        for to in targets {
            let (upper, lower) = (top(from), top(to));
            let may = MAY_USE.iter().find(|(module, _)| *module == upper);
            if upper == "lib" || upper == lower || lower == "lib" && upper == "app" {
                continue;
            }
            if !may.is_some_and(|(_, may)| may.contains(&lower)) {
                wrong.push(format!("{from} imports from {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_has_its_place() {
    let sources = sources();
    let modules: BTreeSet<&str> = sources.iter().map(|source| top(&source.path)).collect();
    let known: BTreeSet<&str> = MAY_USE
        .iter()
        .map(|(module, _)| *module)
        .chain(["lib"])
        .collect();
    assert_eq!(modules, known);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = sources();
    let graph = Graph::new(&sources);
    let cycles = graph.cycles();
    assert!(cycles.is_empty(), "{} circles: {cycles:#?}", cycles.len());
}

#[test]
fn the_crate_has_no_second_name() {
    for Source { path, code, .. } in sources() {
        let aliased = code.contains("use crate as ") || code.contains("extern crate self");
        assert!(
            !aliased,
            "{path} gives the crate another name, which hides its imports"
        );
    }
}

fn top(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap_or(path);
    path.split('/')
        .next()
        .unwrap_or(path)
        .trim_end_matches(".rs")
}
