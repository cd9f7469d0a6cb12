//! Files that decide something know no swarm, no runtime, no file and no wall clock: time, randomness and peers are their
//! arguments, effects their results. So they are tested by themselves, and run in the simulation.

use crate::source::{Source, sources};

/// Folders in which every file is pure, except those in [`OUTSIDE`].
const PURE_FOLDERS: &[&str] = &[
    "src/rate_limit.rs",
    "src/model/",
    "src/wire/",
    "src/handshake/",
    "src/gate/",
    "src/gossip/",
    "src/overlay/",
    "src/members/",
    "src/sync/",
];

/// Files in these folders whose job is the outside: libp2p's behaviours and handlers, streams, and randomness for keys.
const OUTSIDE: &[&str] = &[
    "src/wire/codec.rs",
    "src/handshake/behaviour.rs",
    "src/handshake/event.rs",
    "src/handshake/session.rs",
    "src/gate/behaviour.rs",
    "src/gate/gated_upgrade.rs",
    "src/gate/handler.rs",
    "src/gate/mod.rs",
    "src/gate/strict_negotiation.rs",
    "src/overlay/behaviour.rs",
    "src/overlay/behaviour/swarm.rs",
];

/// Rules in folders whose job is the outside.
const PURE_FILES: &[&str] = &[
    "src/store/author_history.rs",
    "src/store/quota.rs",
    "src/store/retention_policy.rs",
    "src/store/sequence_range.rs",
    "src/node/admission.rs",
    "src/node/clocks.rs",
    "src/node/clocks/report.rs",
    "src/node/crowding.rs",
    "src/node/event/backlog.rs",
    "src/node/event/bus.rs",
    "src/node/event/queue.rs",
    "src/node/event/rate_limit.rs",
    "src/node/event/resume.rs",
    "src/node/heads.rs",
    "src/node/ingest/confirm.rs",
    "src/node/ingest/confirmations.rs",
    "src/node/ingest/dates.rs",
    "src/node/ingest/dedup.rs",
    "src/node/ingest/delivery.rs",
    "src/node/ingest/recent.rs",
    "src/node/ingest/verify.rs",
    "src/node/outbox/batching.rs",
    "src/node/reorder_buffer.rs",
    "src/node/runner/gossip/forwards.rs",
    "src/net/address.rs",
    "src/net/address/parts.rs",
    "src/net/diagnosis.rs",
    "src/net/diagnosis/tls.rs",
    "src/net/slots.rs",
];

/// Names of what a pure file may not know.
const IMPURE: &[&str] = &[
    "tokio",
    "libp2p::swarm",
    "libp2p::Swarm",
    "futures_timer",
    "std::env",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "SysRng",
    "rand::rng",
];

#[test]
fn rules_know_no_swarm_no_runtime_no_file_and_no_clock() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let is_pure = PURE_FOLDERS.iter().any(|f| source.path.starts_with(f))
            && !OUTSIDE.contains(&source.path.as_str())
            || PURE_FILES.contains(&source.path.as_str());
        if let Some(impure) = first_impure(source).filter(|_| is_pure) {
            wrong.push(format!("{} names {impure}", source.path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_lists_of_this_test_name_files_that_are_there_and_exceptions_that_are_needed() {
    let sources = sources();
    let find = |path: &&&str| sources.iter().find(|source| source.path == ***path);
    let gone = PURE_FILES
        .iter()
        .chain(OUTSIDE)
        .filter(|path| find(path).is_none());
    assert_eq!(gone.collect::<Vec<_>>(), Vec::<&&str>::new(), "gone");
    let needless = OUTSIDE
        .iter()
        .filter(|path| find(path).is_some_and(|source| first_impure(source).is_none()));
    assert_eq!(
        needless.collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "pure by now"
    );
}

fn first_impure(source: &Source) -> Option<&'static str> {
    IMPURE
        .iter()
        .find(|name| source.code.contains(**name))
        .copied()
}
