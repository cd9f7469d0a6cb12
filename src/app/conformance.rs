//! `diatribe conformance`: the contract, case by case, against a peer that somebody has written.
//!
//! Entry function: [`run`]. The rule it keeps: the exit code is 0 only if every case that was asked
//! for has passed, or is optional and absent.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;

use super::config::{ConformanceConfig, ConformanceTarget};
use super::escape::{Escaped, Quoted};
use super::failure::Failure;
use super::identity;
use super::output::{self, CaseEnd, ConformanceEnd, JsonLines, People};
use crate::conformance::{self, Case, Mode, Options, Outcome, PeerInfo, Progress, Target, Verdict};
use crate::node::Probe;

/// Runs the cases, or lists them.
pub(crate) fn run(config: ConformanceConfig) -> Result<ExitCode, Failure> {
    let mode = config.target.as_ref().map(ConformanceTarget::mode);
    let cases = chosen(&config.cases, mode)?;
    let mut report = Report {
        people: People::new(output::on_terminal()),
        json: config.json.then(JsonLines::default),
        begin: Instant::now(),
        counts: [0; 4],
    };
    let Some(target) = config.target else {
        report.list(&cases);
        return Ok(ExitCode::SUCCESS);
    };
    let identity = identity::open(&config.identity)?;
    let mut probe = Probe::new(identity.clone());
    if let Some(key) = config.network.key.clone() {
        probe = probe.network_key(key);
    }
    for authority in config.network.authorities {
        probe = probe.tls_ca(authority);
    }
    let asked = cases.len();
    let options = Options {
        room: config.room,
        identity,
        network: config.network.key,
        probe,
        cases,
        target: match target {
            ConformanceTarget::Dial(address) => Target::Dial(address),
            ConformanceTarget::Listen(addresses) => Target::Listen(addresses),
        },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("the program cannot start: {e}")))?;
    let peer_info = runtime.block_on(conformance::run(options, |progress| {
        report.on_progress(&progress)
    }));
    runtime.shutdown_background();
    let peer_info = peer_info.map_err(Failure::new)?;
    Ok(match report.end(mode, &peer_info, asked) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Returns the cases of these names, or all that are possible in this direction.
fn chosen(names: &[String], mode: Option<Mode>) -> Result<Vec<&'static Case>, Failure> {
    let fits = |case: &&Case| mode.is_none_or(|mode| case.only.is_none_or(|only| only == mode));
    if names.is_empty() {
        return Ok(conformance::all().filter(fits).collect());
    }
    let mut chosen = Vec::new();
    for name in names {
        let case = conformance::all().find(|case| case.name == name);
        let case = case.ok_or_else(|| {
            Failure::usage(format!(
                "there is no case {name:?}: `diatribe conformance --list` has their names"
            ))
        })?;
        if !fits(&case) {
            let way = match case.only {
                Some(Mode::Dial) => "when the kit dials: give the peer's address",
                _ => "when the peer dials: use --listen",
            };
            return Err(Failure::usage(format!(
                "the case {name} can be run only {way}"
            )));
        }
        if !chosen.iter().any(|known: &&Case| known.name == case.name) {
            chosen.push(case);
        }
    }
    Ok(chosen)
}

struct Report {
    people: People,
    /// Renderer for programs; none: the output is for people.
    json: Option<JsonLines>,
    begin: Instant,
    /// Number of verdicts by outcome.
    counts: [usize; 4],
}

impl Report {
    fn list(&mut self, cases: &[&'static Case]) {
        let mut out = String::new();
        for case in cases {
            let only = match case.only {
                None => "",
                Some(Mode::Dial) => " (when the kit dials)",
                Some(Mode::Listen) => " (when the peer dials)",
            };
            out += &format!(
                "{:<8} {:<40} {:<24} {}{only}\n",
                case.kind.name(),
                case.name,
                case.spec,
                case.expected
            );
        }
        output::print(out.as_bytes());
    }

    fn on_progress(&mut self, progress: &Progress) {
        match progress {
            Progress::Listening(address) => self.listening(address),
            Progress::Verdict(verdict) => self.verdict(verdict),
        }
    }

    fn listening(&mut self, address: &Multiaddr) {
        let mut out = Vec::new();
        match &mut self.json {
            Some(json) => json.listening(address, &mut out),
            None => out = format!("let the peer dial {address}\n").into_bytes(),
        }
        output::print(&out);
    }

    fn verdict(&mut self, verdict: &Verdict) {
        self.counts[index(verdict.outcome)] += 1;
        let Verdict {
            case,
            outcome,
            actual,
            took,
        } = verdict;
        let mut out = Vec::new();
        match &mut self.json {
            Some(json) => json.case(
                &CaseEnd {
                    name: case.name,
                    kind: case.kind.name(),
                    spec: case.spec,
                    expected: case.expected,
                    outcome: outcome.name(),
                    came: actual,
                    ms: millis(*took),
                },
                &mut out,
            ),
            None => out = self.line(verdict).into_bytes(),
        }
        output::print(&out);
    }

    fn line(&self, verdict: &Verdict) -> String {
        let Verdict {
            case,
            outcome,
            actual,
            took,
        } = verdict;
        let mark = match outcome {
            Outcome::Passed => self.people.good("ok"),
            Outcome::Absent => self.people.warning("--"),
            Outcome::Failed => self.people.bad("no"),
            Outcome::NotRun => self.people.bad("??"),
        };
        let took = format!("{:.1} s", took.as_secs_f64());
        let spec = self.people.dim(&format!("{:<24}", case.spec));
        let line = format!("  {mark}  {:<40} {spec} {took:>7}  ", case.name);
        match outcome {
            Outcome::Passed | Outcome::Absent => format!("{line}{}\n", Escaped(actual)),
            Outcome::Failed => format!(
                "{line}\n      expected: {}\n      came:     {}\n",
                case.expected,
                Escaped(actual)
            ),
            Outcome::NotRun => format!("{line}not run: {}\n", Escaped(actual)),
        }
    }

    /// Prints the result. Returns whether every case has passed or is optional and absent.
    fn end(&mut self, mode: Option<Mode>, peer_info: &PeerInfo, asked: usize) -> bool {
        let [passed, absent, failed, told_not_run] = self.counts;
        // A case without a verdict did not run.
        let not_run = told_not_run + asked.saturating_sub(self.counts.iter().sum());
        let ok = failed == 0 && not_run == 0 && asked > 0;
        let mut out = Vec::new();
        match &mut self.json {
            Some(json) => json.conformance(
                &ConformanceEnd {
                    ok,
                    mode: match mode {
                        Some(Mode::Listen) => "listen",
                        _ => "dial",
                    },
                    passed,
                    absent,
                    failed,
                    not_run,
                    ms: millis(self.begin.elapsed()),
                    peer_id: peer_info.peer_id.map(|id| id.to_string()),
                    agent: peer_info.agent.as_deref(),
                },
                &mut out,
            ),
            None => {
                let agent = peer_info.agent.as_deref().unwrap_or("the peer");
                let counts = format!(
                    "{passed} passed, {failed} failed, {not_run} not run, {absent} optional and absent"
                );
                let counts = match ok {
                    true => self.people.good(&counts),
                    false => self.people.bad(&counts),
                };
                let took = self.begin.elapsed().as_secs_f64();
                out = format!("{}: {counts}, in {took:.1} s\n", Quoted(agent)).into_bytes();
            }
        }
        output::print(&out);
        ok
    }
}

fn index(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Passed => 0,
        Outcome::Absent => 1,
        Outcome::Failed => 2,
        Outcome::NotRun => 3,
    }
}

fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}
