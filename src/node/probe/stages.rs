//! The stages of a probe, reported in order, each with its own duration.
//!
//! Entry type: [`StageReporter`]. The rule it keeps: each stage is reported once, and none after a failure.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::report::ProbeStep;
use crate::net::stage::{Stage, StageError};
use crate::node::identify_report::explain_silence;
use crate::overlay::{Reach, reach_of};

/// The progress reported by the transport.
pub(super) type Passed = Arc<Mutex<TransportProgress>>;

/// The stages and addresses of the dial.
#[derive(Default)]
pub(super) struct TransportProgress {
    /// The successful stages, each with the time of its end.
    pub(super) stages: Vec<(Stage, Instant)>,
    /// The local and the remote address of the socket.
    pub(super) ends: Option<(IpAddr, IpAddr)>,
}

/// Returns whether a peer at `remote` can dial this machine, which it sees as `local` or as a router in between; none
/// when the addresses do not decide it.
fn can_dial_back(local: IpAddr, remote: IpAddr) -> Option<bool> {
    match (reach_of(local)?, reach_of(remote)?) {
        (Reach::Loopback, Reach::Loopback) => Some(true),
        // A router translates addresses in between, and accepts only connections it was configured for.
        (Reach::Private, Reach::Public) => Some(false),
        _ => None,
    }
}

/// Reports stages in order, each with its own duration.
pub(super) struct StageReporter<F> {
    tell: F,
    /// Whether the address requires TLS.
    secure: bool,
    since: Instant,
    passed: Passed,
    reported: usize,
    last: Option<Stage>,
}

impl<F: FnMut(ProbeStep)> StageReporter<F> {
    /// Creates the reporter of a dial that starts now. `secure`: the address requires TLS.
    pub(super) fn new(tell: F, secure: bool, passed: Passed) -> StageReporter<F> {
        StageReporter {
            tell,
            secure,
            since: Instant::now(),
            passed,
            reported: 0,
            last: None,
        }
    }

    /// Returns the start of the current stage.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Sets the start of the current stage.
    pub(super) fn set_since(&mut self, at: Instant) {
        self.since = at;
    }

    /// Returns whether the peer could dial this machine; none when the addresses do not decide it.
    pub(super) fn can_dial_back(&self) -> Option<bool> {
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let (local, remote) = passed.ends?;
        can_dial_back(local, remote)
    }

    /// Reports the transport's stages before `end` that have succeeded and are not reported yet.
    pub(super) fn report_passed(&mut self, end: Stage) {
        loop {
            let next = {
                let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
                passed.stages.get(self.reported).copied()
            };
            let Some((stage, at)) = next.filter(|(stage, _)| *stage < end) else {
                return;
            };
            self.reported += 1;
            let took = at.saturating_duration_since(self.since);
            self.since = at;
            self.pass(stage, took);
        }
    }

    /// Reports a stage that succeeded.
    pub(super) fn pass(&mut self, stage: Stage, took: Duration) {
        self.last = Some(stage);
        (self.tell)(ProbeStep {
            stage,
            took,
            result: Ok(()),
        });
    }

    /// Reports the failed stage, after the ones that succeeded before it. Returns the error to report to the caller.
    pub(super) fn fail(&mut self, mut error: StageError) -> StageError {
        self.report_passed(error.stage);
        // A timeout over several stages names the last of them, but the one after the last success took the time.
        if let (Some("TIMEOUT"), Some(last)) = (error.code, self.last) {
            error.stage = match last {
                Stage::Resolve => Stage::Tcp,
                Stage::Tcp => error.stage.min(Stage::Websocket),
                Stage::Websocket => error.stage.max(Stage::Noise),
                Stage::Noise => error.stage.max(Stage::Yamux),
                _ => error.stage,
            };
            error.reason = explain_silence(error.stage, self.secure, error.reason);
        }
        (self.tell)(ProbeStep {
            stage: error.stage,
            took: self.since.elapsed(),
            result: Err(error.clone()),
        });
        error
    }
}
