//! The conformance run: a preflight, then all cases on several connectors at a time.
//!
//! Entry: [`run`]. The rule it keeps: a case that could not be run is reported as not run, never as passed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::case::{Case, CaseContext, Procedure, Verdict};
use super::cases;
use super::connector::Connector;
use super::link::Link;
use super::link_config::LinkConfig;
use super::observer::Runner;
use super::options::Options;
use super::preflight;
use super::progress::{PeerInfo, Progress};
use super::target::Mode;
use super::worker::Worker;

/// Runs the cases and reports each as it ends. Must be called inside a Tokio runtime.
///
/// # Errors
///
/// If an address to listen on is not one, or cannot be bound. A peer that does not answer is no error: its cases are reported
/// as failed or not run.
pub async fn run(options: Options, mut report: impl FnMut(Progress)) -> Result<PeerInfo, String> {
    let mode = options.target.mode();
    let listening = |address| report(Progress::Listening(address));
    let (connectors, _proxy) = Connector::all(&options.target, &options.probe, listening).await?;
    let (observing, working) = match (mode, &connectors[..]) {
        // With a single port there is none to spare for an observer.
        (Mode::Listen, [only]) => (None, vec![only.clone()]),
        (_, [first, others @ ..]) => (Some(first.clone()), others.to_vec()),
        (_, []) => return Err("there is nothing to listen on".to_owned()),
    };
    let link_config = LinkConfig {
        room: options.room.clone(),
        network: options.network.clone(),
    };
    let runner = Arc::new(Runner::new(link_config, observing));
    let (stages, rest): (Vec<_>, Vec<_>) = options
        .cases
        .iter()
        .copied()
        .filter(|case| case.only.is_none_or(|only| only == mode))
        .partition(|case| matches!(case.procedure, Procedure::Stages(_)));
    match preflight::run(&options, &runner, working.first(), &stages, &mut report).await {
        Ok((peer_info, link)) => {
            run_cases(rest, &runner, working, link, &mut report).await;
            Ok(peer_info)
        }
        Err((peer_info, why)) => {
            for case in rest {
                let verdict = Verdict::not_run(case, format!("there is no link: {why}"));
                report(Progress::Verdict(verdict));
            }
            Ok(peer_info)
        }
    }
}

/// Runs `cases` with one worker for each connector. The first worker starts with `link`.
async fn run_cases(
    cases: Vec<&'static Case>,
    runner: &Arc<Runner>,
    connectors: Vec<Arc<Connector>>,
    link: Link,
    report: &mut impl FnMut(Progress),
) {
    let observed = runner.clone();
    // If this fails, the cases that need the observer report it.
    tokio::spawn(async move { observed.observer().await.map(drop) });
    let mut queue = VecDeque::from(cases);
    // Cases that wait for time-outs begin first.
    queue
        .make_contiguous()
        .sort_by_key(|case| case.spec != cases::SLOW);
    let queue = Arc::new(Mutex::new(queue));
    let (verdicts, mut ended) = mpsc::unbounded_channel();
    let mut spare = Some(link);
    let workers: Vec<_> = connectors
        .into_iter()
        .map(|connector| {
            let worker = Worker {
                ctx: CaseContext {
                    runner: runner.clone(),
                    connector,
                },
                queue: queue.clone(),
                spare: spare.take(),
                verdicts: verdicts.clone(),
            };
            tokio::spawn(worker.run())
        })
        .collect();
    drop(verdicts);
    while let Some(verdict) = ended.recv().await {
        report(Progress::Verdict(verdict));
    }
    for worker in workers {
        // A worker that panicked leaves its cases to the others.
        let _ = worker.await;
    }
    let left = std::mem::take(&mut *queue.lock().unwrap_or_else(PoisonError::into_inner));
    for case in left {
        let verdict = Verdict::not_run(case, "the kit ended before".to_owned());
        report(Progress::Verdict(verdict));
    }
}
