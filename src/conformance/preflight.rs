//! The first connection with the peer, stage by stage: without it no other case can run.
//!
//! Entry: [`run`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::case::{Case, Outcome, Procedure, Verdict};
use super::connector::Connector;
use super::link::Link;
use super::linking::{BUSY_RETRY_INTERVAL, BUSY_TIMEOUT};
use super::observer::{MAX_TRIES, PeerFacts, Runner};
use super::options::Options;
use super::progress::{PeerInfo, Progress};
use super::script::{End, HELLO_2, HandshakeTrace, Script, describe};
use super::scripted_handshake::run_handshake;
use super::target::Target;
use crate::handshake::RejectCode;
use crate::net::{Address, Stage, StageError};
use crate::node::ProbeStep;

/// Creates the first link, reports its stages, and returns the peer's details and the link.
pub(crate) async fn run(
    options: &Options,
    runner: &Runner,
    connector: Option<&Arc<Connector>>,
    cases: &[&'static Case],
    report: &mut impl FnMut(Progress),
) -> Result<(PeerInfo, Link), (PeerInfo, String)> {
    let none = |why: String| (PeerInfo::default(), why);
    let connector = connector.ok_or_else(|| none("there is no way to it".to_owned()))?;
    match &options.target {
        Target::Dial(address) => dialled(options, address, runner, connector, cases, report).await,
        Target::Listen(_) => taken(options, runner, connector, cases, report).await,
    }
}

async fn dialled(
    options: &Options,
    address: &Address,
    runner: &Runner,
    connector: &Connector,
    cases: &[&'static Case],
    report: &mut impl FnMut(Progress),
) -> Result<(PeerInfo, Link), (PeerInfo, String)> {
    let until = Instant::now() + BUSY_TIMEOUT;
    let mut tries = 1;
    let (probed, steps) = loop {
        let mut steps = Vec::new();
        let probed = options.probe.dial(address, |step| steps.push(step)).await;
        let is_busy = |step: &ProbeStep| matches!(&step.result, Err(e) if e.code == Some(RejectCode::Busy.name()));
        if steps.iter().any(is_busy) && Instant::now() < until {
            sleep(BUSY_RETRY_INTERVAL).await;
        } else if tries < MAX_TRIES && steps.iter().any(is_worth_another) {
            tries += 1;
        } else {
            break (probed, steps);
        }
    };
    for case in cases {
        report(Progress::Verdict(of_steps(case, &steps)));
    }
    let mut tested = PeerInfo::default();
    match probed {
        Ok(probed) => {
            tested.peer_id = Some(probed.peer_id);
            tested.agent = Some(probed.agent);
        }
        Err(error) => return Err((tested, error.to_string())),
    }
    match runner.link(connector).await {
        Ok(link) => Ok((tested, known(runner, link))),
        Err(why) => Err((tested, why)),
    }
}

/// Whether the peer answered before the failure. All other cases need this link, so a machine that stalled for a moment
/// gets another attempt.
fn is_worth_another(step: &ProbeStep) -> bool {
    step.result.is_err() && step.stage > Stage::Tcp
}

fn known(runner: &Runner, link: Link) -> Link {
    if let Some(peer) = link.peer.clone() {
        // The facts are set once.
        let _ = runner.facts.set(PeerFacts { peer });
    }
    link
}

/// Returns the result of one case from the steps of a probe.
fn of_steps(case: &'static Case, steps: &[ProbeStep]) -> Verdict {
    let Procedure::Stages(stages) = &case.procedure else {
        return Verdict::not_run(case, "it is no stage".to_owned());
    };
    let mine = || steps.iter().filter(|step| stages.contains(&step.stage));
    let failed = mine().find_map(|step| step.result.as_ref().err());
    let took = mine().map(|step| step.took).sum();
    match (failed, mine().next_back()) {
        (Some(StageError { code, reason, .. }), _) => {
            let code = code.map(|code| format!("{code}: ")).unwrap_or_default();
            Verdict {
                case,
                outcome: Outcome::Failed,
                actual: format!("{code}{reason}"),
                took,
            }
        }
        (None, Some(_)) => passed(case, took, "as it must be".to_owned()),
        (None, None) => Verdict::not_run(case, "an earlier stage failed".to_owned()),
    }
}

fn passed(case: &'static Case, took: Duration, actual: String) -> Verdict {
    Verdict {
        case,
        outcome: Outcome::Passed,
        actual,
        took,
    }
}

/// Waits for the peer to dial: the stages up to yamux have passed once the connection is there.
async fn taken(
    options: &Options,
    runner: &Runner,
    connector: &Connector,
    cases: &[&'static Case],
    report: &mut impl FnMut(Progress),
) -> Result<(PeerInfo, Link), (PeerInfo, String)> {
    let begin = Instant::now();
    let mut tries = 1;
    let (raw, conn, up, trace) = loop {
        let (raw, mut conn) = match connector.connect(options.identity.clone()).await {
            Ok(connected) => connected,
            Err(why) => {
                for case in cases {
                    report(Progress::Verdict(Verdict::not_run(case, why.clone())));
                }
                return Err((PeerInfo::default(), why));
            }
        };
        let up = begin.elapsed();
        let trace = run_handshake(
            &mut conn,
            connector.role(),
            Script::honest(runner.link_config.party(&raw)),
        )
        .await;
        if trace.end == End::Passed || tries == MAX_TRIES {
            break (raw, conn, up, trace);
        }
        tries += 1;
    };
    let tested = PeerInfo {
        peer_id: Some(conn.peer),
        ..PeerInfo::default()
    };
    for case in cases {
        report(Progress::Verdict(of_handshake(case, &trace, up)));
    }
    if trace.end != End::Passed {
        return Err((tested, describe(&trace.end)));
    }
    match runner.link_config.linked(raw, conn, trace).await {
        Ok(link) => Ok((tested, known(runner, link))),
        Err(why) => Err((tested, why)),
    }
}

/// Returns the result of one case from a handshake on a connection that was established after `up`.
fn of_handshake(case: &'static Case, trace: &HandshakeTrace, up: Duration) -> Verdict {
    let Procedure::Stages(stages) = &case.procedure else {
        return Verdict::not_run(case, "it is no stage".to_owned());
    };
    let failed = trace.end != End::Passed;
    let in_round_1 = trace.frames.len() <= HELLO_2;
    match stages.last() {
        Some(Stage::Handshake2) if failed && in_round_1 => {
            Verdict::not_run(case, "an earlier stage failed".to_owned())
        }
        Some(Stage::Handshake1) if failed && in_round_1 => failed_with(case, trace, up),
        Some(Stage::Handshake2) if failed => failed_with(case, trace, up),
        _ => passed(case, up, "the peer dialled".to_owned()),
    }
}

fn failed_with(case: &'static Case, trace: &HandshakeTrace, took: Duration) -> Verdict {
    Verdict {
        case,
        outcome: Outcome::Failed,
        actual: describe(&trace.end),
        took,
    }
}
