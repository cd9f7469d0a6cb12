//! The direction of imports: down only, and the protocol folders never import one another.

use std::fs;
use std::path::{Path, PathBuf};

/// The ground floor.
const GROUND: &[&str] = &["model", "clock", "rate_limit", "identity", "wire"];

/// The protocol folders, none of which imports another.
const PROTOCOLS: &[&str] = &[
    "handshake",
    "gate",
    "overlay",
    "gossip",
    "members",
    "store",
    "sync",
];

/// The modules that each module of the crate may import.
const MAY_USE: &[(&str, &[&[&str]])] = &[
    ("model", &[]),
    ("clock", &[]),
    ("rate_limit", &[&["clock"]]),
    ("identity", &[]),
    ("wire", &[&["model"]]),
    ("handshake", &[GROUND]),
    ("gate", &[GROUND]),
    ("overlay", &[GROUND]),
    ("gossip", &[GROUND]),
    ("members", &[GROUND]),
    ("store", &[GROUND]),
    ("sync", &[GROUND]),
    ("net", &[GROUND, PROTOCOLS]),
    ("node", &[GROUND, PROTOCOLS, &["net"]]),
    (
        "conformance",
        &[GROUND, &["handshake", "gossip", "net", "node"]],
    ),
];

/// The names that a file of pure rules must not import.
const IMPURE: &[&str] = &[
    "tokio::",
    "libp2p::swarm",
    "libp2p::Swarm",
    "std::fs",
    "std::net::Tcp",
    "SystemTime::now",
    "Instant::now",
];

#[test]
fn imports_go_down_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        // Tests may import other protocols, to have something real behind a gate.
        if path
            .components()
            .any(|c| ["tests", "tests.rs"].contains(&c.as_os_str().to_str().unwrap_or("")))
        {
            continue;
        }
        let Some((module, may_use)) = MAY_USE.iter().find(|(m, _)| is_of(&path, m)) else {
            continue;
        };
        for named in named_modules(&text) {
            let known = MAY_USE.iter().any(|(m, _)| *m == named) || named == "app";
            if known && named != *module && !may_use.concat().contains(&named.as_str()) {
                wrong.push(format!("{} names crate::{named}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rules_and_messages_are_pure() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if !["state.rs", "message.rs"]
            .iter()
            .any(|name| path.ends_with(name))
        {
            continue;
        }
        let code = code_of(&text);
        for impure in IMPURE {
            if code.contains(impure) {
                wrong.push(format!("{} names {impure}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_source_file_begins_with_its_job() {
    for (path, text) in sources() {
        let generated = path.components().any(|c| c.as_os_str() == "generated");
        assert!(
            generated || text.starts_with("//!"),
            "{} has no header",
            path.display()
        );
    }
}

fn is_of(path: &Path, module: &str) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    path.starts_with(source.join(module)) || path == source.join(format!("{module}.rs"))
}

/// The modules named as `crate::name` in code, also inside braces.
fn named_modules(text: &str) -> Vec<String> {
    let code = code_of(text);
    let mut names = Vec::new();
    for part in code.split("crate::").skip(1) {
        let heads: Vec<&str> = match part.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or("").split(',').collect(),
            None => vec![part],
        };
        for head in heads {
            let name: String = head
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            names.push(name);
        }
    }
    names
}

/// The text without comments.
fn code_of(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join("\n")
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is text");
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    found
}
