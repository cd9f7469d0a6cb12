//! `diatribe check`: dials an address once and reports each stage.
//!
//! Entry function: [`run`]. The rule it keeps: every failure names its cause and the remedy, and makes the exit code 1.

use std::process::ExitCode;
use std::time::Duration;

use super::config::CheckConfig;
use super::escape::{Escaped, Quoted};
use super::failure::Failure;
use super::identity;
use super::output::{self, Check, CheckStage, JsonLines, MAX_MILLIS, People};
use crate::net::{Address, Stage, StageError};
use crate::node::{ClockReport, Probe, ProbeStep, Probed};

/// Dials each address.
pub(crate) fn run(config: CheckConfig) -> Result<ExitCode, Failure> {
    let identity = identity::open(&config.identity)?;
    let mut probe = Probe::new(identity);
    if let Some(key) = config.network.key {
        probe = probe.network_key(key);
    }
    for authority in config.network.authorities {
        probe = probe.tls_ca(authority);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("the program cannot start: {e}")))?;
    let mut all = true;
    for address in &config.addresses {
        all &= runtime.block_on(check(&probe, address, config.json));
    }
    runtime.shutdown_background();
    Ok(match all {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

async fn check(probe: &Probe, address: &Address, json: bool) -> bool {
    let mut report = Report {
        address,
        people: People::new(output::on_terminal()),
        json: json.then(JsonLines::default),
        took: Duration::ZERO,
    };
    report.begin();
    let result = probe.dial(address, |step| report.step(&step)).await;
    report.end(&result);
    result.is_ok()
}

struct Report<'a> {
    address: &'a Address,
    people: People,
    /// None: for people.
    json: Option<JsonLines>,
    took: Duration,
}

impl Report<'_> {
    fn begin(&mut self) {
        if self.json.is_none() {
            output::print(format!("{}\n", self.address).as_bytes());
        }
    }

    fn step(&mut self, step: &ProbeStep) {
        let mut out = Vec::new();
        let error = step.result.as_ref().err();
        // Identify runs beside the handshake, which is longer.
        if step.stage != Stage::Identify || error.is_some() {
            self.took += step.took;
        }
        match &mut self.json {
            Some(json) => json.stage(
                &CheckStage {
                    address: self.address.to_string(),
                    stage: step.stage.name(),
                    ok: error.is_none(),
                    ms: millis(step.took),
                    reason: error.map(|e| &*e.reason),
                    code: error.and_then(|e| e.code),
                },
                &mut out,
            ),
            None => out.extend(self.line(step).into_bytes()),
        }
        output::print(&out);
    }

    fn line(&self, step: &ProbeStep) -> String {
        let name = title(step.stage, self.address);
        let took = format!("{:.1} ms", millis(step.took));
        match &step.result {
            Ok(()) => format!("  {}  {name:<20} {took:>10}\n", self.people.good("ok")),
            Err(error) => {
                let code = error.code.map(|c| format!(" [{c}]")).unwrap_or_default();
                format!(
                    "  {}  {name:<20} {took:>10}{code}\n      {}\n",
                    self.people.bad("no"),
                    Escaped(&error.reason)
                )
            }
        }
    }

    /// Returns a warning about the peer's clock when it differs too much.
    fn clock(&self, probed: &Probed) -> String {
        match ClockReport::of_peer(probed.peer_id, probed.clock_offset_ms) {
            Some(report) => format!("{}\n", self.people.warning(&format!("! {report}"))),
            None => String::new(),
        }
    }

    fn end(&mut self, result: &Result<Probed, StageError>) {
        let mut out = Vec::new();
        match &mut self.json {
            Some(json) => {
                let error = result.as_ref().err();
                let probed = result.as_ref().ok();
                let check = Check {
                    address: self.address.to_string(),
                    ok: result.is_ok(),
                    ms: millis(self.took),
                    peer_id: probed.map(|p| p.peer_id.to_string()),
                    agent: probed.map(|p| &*p.agent),
                    can_dial_back: probed.and_then(|p| p.can_dial_back),
                    clock_ahead_ms: probed
                        .map(|p| p.clock_offset_ms.clamp(-MAX_MILLIS, MAX_MILLIS)),
                    stage: error.map(|e| e.stage.name()),
                    code: error.and_then(|e| e.code),
                    reason: error.map(|e| &*e.reason),
                };
                json.check(&check, &mut out);
            }
            None => {
                let text = match result {
                    Ok(probed) => format!(
                        "{} answers ({}) and accepts a link\n{}{}",
                        probed.peer_id,
                        Quoted(&probed.agent),
                        dial_back(probed),
                        self.clock(probed)
                    ),
                    Err(error) => format!(
                        "no link: the connection fails at {}\n",
                        title(error.stage, self.address)
                    ),
                };
                out.extend(text.into_bytes());
            }
        }
        output::print(&out);
    }
}

/// Returns whether the peer can dial this machine, in a sentence, where that is known.
fn dial_back(probed: &Probed) -> &'static str {
    match probed.can_dial_back {
        Some(false) => {
            "it cannot dial this machine, which has a private address behind a router: that is enough to take part; to accept \
             connections as well, forward a port to this machine and name it with --announce\n"
        }
        Some(true) => "it can dial this machine as well, if a node listens here\n",
        None => "",
    }
}

/// A stage as people read it.
fn title(stage: Stage, address: &Address) -> &'static str {
    match stage {
        Stage::Websocket if address.is_secure() => "tls and websocket",
        Stage::Handshake1 => "handshake round 1",
        Stage::Handshake2 => "handshake round 2",
        stage => stage.name(),
    }
}

fn millis(took: Duration) -> f64 {
    // Microseconds are as exact as it gets.
    (took.as_secs_f64() * 1e6).round() / 1e3
}
