//! The definition of a case, and its outcome.
//!
//! Entry types: [`Case`], [`Outcome`]. The rule they keep: each case names the paragraph of `proto/README.md` that it
//! tests, and only [`Outcome::Passed`] counts as passed.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::connector::Connector;
use super::link::Link;
use super::observer::{PeerFacts, Runner};
use super::round::Party;
use super::script::Mutation;
use super::target::Mode;
use crate::handshake::RejectCode;

/// Whether the peer under test must accept or refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The case does what an honest peer does: the peer under test must accept it.
    Good,
    /// The case breaks a rule: the peer must refuse it, and no other peer may notice.
    Hostile,
}

impl Kind {
    /// Returns the word used in JSON lines.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Good => "good",
            Kind::Hostile => "hostile",
        }
    }
}

/// A test of one rule of the contract.
pub struct Case {
    /// The name that `--case` accepts.
    pub name: &'static str,
    /// Whether the peer under test must accept or refuse.
    pub kind: Kind,
    /// Chapter of `proto/README.md`, and the number of the check or rule.
    pub spec: &'static str,
    /// The expected result, for people.
    pub expected: &'static str,
    /// The only direction in which the case can run. None: it runs in both.
    pub only: Option<Mode>,
    pub(crate) procedure: Procedure,
}

impl Case {
    /// Creates a case that can run in both directions.
    pub(crate) const fn new(
        kind: Kind,
        name: &'static str,
        spec: &'static str,
        expected: &'static str,
        procedure: Procedure,
    ) -> Case {
        Case {
            name,
            kind,
            spec,
            expected,
            only: None,
            procedure,
        }
    }
}

/// How a case is run.
pub(crate) enum Procedure {
    /// The stages of the first connection, in this order. They are run before all other cases.
    Stages(&'static [crate::net::Stage]),
    /// A handshake with one mutated frame that the peer must refuse.
    MutatedHandshake(FrameKind, fn(&PeerFacts) -> Mutation, Expect),
    /// A handshake with one mutated frame that the peer must tolerate.
    HarmlessMutation(FrameKind, fn() -> Mutation),
    /// A message on a link, for which the peer must close it.
    Offence(fn(&mut Link) -> Result<Vec<u8>, String>),
    /// A procedure on an honest link.
    OnLink(fn(CaseContext, Link) -> BoxFuture<'static, Run>),
    /// A procedure that opens its own connections.
    OwnConnections(fn(CaseContext) -> BoxFuture<'static, Run>),
}

/// One of the frames that the kit sends. Each occurs once in a handshake, in either role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Hello,
    Challenge,
    Answer,
    Pass,
    /// The first frame that the kit sends.
    FirstOfRound1,
    /// The first frame that the kit sends in round 2.
    FirstOfRound2,
}

/// The reaction that a mutated frame must cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// A server answers with this Reject and closes; a client closes.
    Code(RejectCode),
    /// The connection is closed without a Reject.
    Closed,
}

/// The context in which a case runs: the shared state of the run, and a connector.
#[derive(Clone)]
pub(crate) struct CaseContext {
    pub(crate) runner: Arc<Runner>,
    pub(crate) connector: Arc<Connector>,
}

impl CaseContext {
    pub(crate) fn party(&self, raw: &super::raw_peer::RawPeer) -> Party {
        self.runner.link_config.party(raw)
    }
}

/// The observation of a case that was as expected, or a description of what happened instead.
pub(crate) type Run = Result<Observation, String>;

/// The result of a case that went as expected.
#[derive(Default)]
pub(crate) struct Observation {
    pub(crate) actual: String,
    /// The case tests an optional feature, which the peer does not have.
    pub(crate) absent: bool,
    /// Ids of messages that the peer must not forward.
    pub(crate) not_forwarded: Vec<[u8; 32]>,
    /// A link that the next case can use.
    pub(crate) link: Option<Link>,
}

impl Observation {
    pub(crate) fn new(actual: impl Into<String>) -> Observation {
        Observation {
            actual: actual.into(),
            ..Observation::default()
        }
    }

    pub(crate) fn with(self, link: Link) -> Observation {
        Observation {
            link: Some(link),
            ..self
        }
    }
}

/// The outcome of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer did as the contract says.
    Passed,
    /// The feature is optional, and the peer answers that it does not have it.
    Absent,
    /// The peer did not do as the contract says.
    Failed,
    /// The case could not be run.
    NotRun,
}

impl Outcome {
    /// Returns the word used in JSON lines.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Absent => "absent",
            Outcome::Failed => "failed",
            Outcome::NotRun => "not_run",
        }
    }
}

/// The result of a case that has ended.
pub struct Verdict {
    /// The case.
    pub case: &'static Case,
    /// The outcome.
    pub outcome: Outcome,
    /// The actual result, for people.
    pub actual: String,
    /// The duration of the case.
    pub took: std::time::Duration,
}

impl Verdict {
    /// Returns the result of a case that could not be run, with the reason.
    pub(crate) fn not_run(case: &'static Case, why: String) -> Verdict {
        Verdict {
            case,
            outcome: Outcome::NotRun,
            actual: why,
            took: std::time::Duration::ZERO,
        }
    }
}
