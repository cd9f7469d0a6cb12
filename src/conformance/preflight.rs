//! The first connection with the peer, stage by stage: without it nothing else can be run.
//!
//! Entry: [`run`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::case::{Case, Facts, How, Outcome, Verdict};
use super::connector::Way;
use super::link::{BUSY, BUSY_PAUSE, Link, told};
use super::runner::{Kit, Options, TRIES, Target, Tested, Told, not_run};
use super::scripted_handshake::{End, HELLO_2, Plan, shake};
use crate::handshake::RejectCode;
use crate::net::{Address, Stage, StageError};
use crate::node::ProbeStep;

/// Makes the first link and tells its stages; who was found, and a link that is up.
pub(crate) async fn run(
    options: &Options,
    kit: &Kit,
    way: Option<&Arc<Way>>,
    cases: &[&'static Case],
    tell: &mut impl FnMut(Told),
) -> Result<(Tested, Link), (Tested, String)> {
    let none = |why: String| (Tested::default(), why);
    let way = way.ok_or_else(|| none("there is no way to it".to_owned()))?;
    match &options.target {
        Target::Dial(address) => dialled(options, address, kit, way, cases, tell).await,
        Target::Listen(_) => taken(options, kit, way, cases, tell).await,
    }
}

async fn dialled(
    options: &Options,
    address: &Address,
    kit: &Kit,
    way: &Way,
    cases: &[&'static Case],
    tell: &mut impl FnMut(Told),
) -> Result<(Tested, Link), (Tested, String)> {
    let until = Instant::now() + BUSY;
    let mut tries = 1;
    let (probed, steps) = loop {
        let mut steps = Vec::new();
        let probed = options.probe.dial(address, |step| steps.push(step)).await;
        let is_busy = |step: &ProbeStep| matches!(&step.result, Err(e) if e.code == Some(RejectCode::Busy.name()));
        if steps.iter().any(is_busy) && Instant::now() < until {
            sleep(BUSY_PAUSE).await;
        } else if tries < TRIES && steps.iter().any(is_worth_another) {
            tries += 1;
        } else {
            break (probed, steps);
        }
    };
    for case in cases {
        tell(Told::Verdict(of_steps(case, &steps)));
    }
    let mut tested = Tested::default();
    match probed {
        Ok(probed) => {
            tested.peer_id = Some(probed.peer_id);
            tested.agent = Some(probed.agent);
        }
        Err(error) => return Err((tested, error.to_string())),
    }
    match kit.link(way).await {
        Ok(link) => Ok((tested, known(kit, link))),
        Err(why) => Err((tested, why)),
    }
}

/// Somebody answered and it went wrong afterwards: all other cases hang on this link, which a machine
/// that stood still for a moment is not to take from them.
fn is_worth_another(step: &ProbeStep) -> bool {
    step.result.is_err() && step.stage > Stage::Tcp
}

fn known(kit: &Kit, link: Link) -> Link {
    if let Some(peer) = link.peer.clone() {
        // It is set once.
        let _ = kit.facts.set(Facts { peer });
    }
    link
}

/// What a probe has shown of one case.
fn of_steps(case: &'static Case, steps: &[ProbeStep]) -> Verdict {
    let How::Stage(stages) = &case.how else {
        return not_run(case, "it is no stage".to_owned());
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
                came: format!("{code}{reason}"),
                took,
            }
        }
        (None, Some(_)) => passed(case, took, "as it must be".to_owned()),
        (None, None) => not_run(case, "an earlier stage failed".to_owned()),
    }
}

fn passed(case: &'static Case, took: Duration, came: String) -> Verdict {
    Verdict {
        case,
        outcome: Outcome::Passed,
        came,
        took,
    }
}

/// The peer dials us: what it takes to come up to yamux is there when the connection is.
async fn taken(
    options: &Options,
    kit: &Kit,
    way: &Way,
    cases: &[&'static Case],
    tell: &mut impl FnMut(Told),
) -> Result<(Tested, Link), (Tested, String)> {
    let begin = Instant::now();
    let mut tries = 1;
    let (raw, conn, up, shaken) = loop {
        let (raw, mut conn) = match way.connect(options.identity.clone()).await {
            Ok(connected) => connected,
            Err(why) => {
                for case in cases {
                    tell(Told::Verdict(not_run(case, why.clone())));
                }
                return Err((Tested::default(), why));
            }
        };
        let up = begin.elapsed();
        let shaken = shake(&mut conn, way.role(), Plan::honest(kit.common.party(&raw))).await;
        if shaken.end == End::Passed || tries == TRIES {
            break (raw, conn, up, shaken);
        }
        tries += 1;
    };
    let tested = Tested {
        peer_id: Some(conn.peer),
        ..Tested::default()
    };
    for case in cases {
        let How::Stage(stages) = &case.how else {
            continue;
        };
        let failed = shaken.end != End::Passed;
        let in_round_1 = shaken.frames.len() <= HELLO_2;
        let verdict = match stages.last() {
            Some(Stage::Handshake1) if failed && in_round_1 => Err(Outcome::Failed),
            Some(Stage::Handshake2) if failed && in_round_1 => Err(Outcome::NotRun),
            Some(Stage::Handshake2) if failed => Err(Outcome::Failed),
            _ => Ok(()),
        };
        tell(Told::Verdict(match verdict {
            Ok(()) => passed(case, up, "the peer dialled".to_owned()),
            Err(Outcome::NotRun) => not_run(case, "an earlier stage failed".to_owned()),
            Err(outcome) => Verdict {
                case,
                outcome,
                came: told(&shaken.end),
                took: up,
            },
        }));
    }
    if shaken.end != End::Passed {
        return Err((tested, told(&shaken.end)));
    }
    match kit.common.linked(raw, conn, shaken).await {
        Ok(link) => Ok((tested, known(kit, link))),
        Err(why) => Err((tested, why)),
    }
}
