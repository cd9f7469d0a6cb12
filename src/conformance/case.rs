//! What a case is, and what became of one.
//!
//! Entry types: [`Case`], [`Outcome`]. The rule they keep: each case names the paragraph of
//! `proto/README.md` that it stands for, and only [`Outcome::Passed`] counts as passed.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::connector::Connector;
use super::link::Link;
use super::observer::Runner;
use super::round::Party;
use super::script::Mutation;
use crate::handshake::RejectCode;

/// Whether the peer is to go along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An honest peer does this: it must work.
    Good,
    /// It must be refused, and nobody else may notice.
    Hostile,
}

impl Kind {
    /// The word in JSON lines.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Good => "good",
            Kind::Hostile => "hostile",
        }
    }
}

/// In which direction connections are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The kit dials the peer.
    Dial,
    /// The peer dials the kit.
    Listen,
}

/// One thing that the contract promises.
pub struct Case {
    /// Its name, as `--case` takes it.
    pub name: &'static str,
    /// Whether the peer is to go along.
    pub kind: Kind,
    /// Chapter of `proto/README.md`, and the number of the check or rule.
    pub spec: &'static str,
    /// What is to happen.
    pub expected: &'static str,
    /// The direction in which it can be run; none: in both.
    pub only: Option<Mode>,
    pub(crate) procedure: Procedure,
}

impl Case {
    /// One that can be run in both directions.
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
    /// The stages of the first connection, in this order: they are run before all others.
    Stages(&'static [crate::net::Stage]),
    /// A handshake of which one frame of ours is twisted.
    MutatedHandshake(FrameKind, fn(&PeerFacts) -> Mutation, Expect),
    /// A handshake of which one frame of ours is twisted, and which passes all the same.
    HarmlessMutation(FrameKind, fn() -> Mutation),
    /// A message on a link that ends it.
    Offence(fn(&mut Link) -> Result<Vec<u8>, String>),
    /// On a link.
    OnLink(fn(CaseContext, Link) -> BoxFuture<'static, Run>),
    /// On connections of its own.
    OwnConnections(fn(CaseContext) -> BoxFuture<'static, Run>),
}

/// Which frame of ours: each is there once on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Hello,
    Challenge,
    Answer,
    Pass,
    /// The first frame of ours.
    FirstOfRound1,
    /// The first frame of ours in round 2.
    FirstOfRound2,
}

/// What must follow a twisted frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// A server answers with this Reject and closes; a client closes.
    Code(RejectCode),
    /// The connection is closed without a Reject.
    Closed,
}

/// What is known of the peer.
pub(crate) struct PeerFacts {
    /// Its Core, as the first link has shown it.
    pub(crate) peer: crate::wire::proto::handshake::Core,
}

/// Where a case is run.
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

/// What a case that was run has shown; an error says what came instead of what was expected.
pub(crate) type Run = Result<Observation, String>;

/// What came, as expected.
#[derive(Default)]
pub(crate) struct Observation {
    pub(crate) actual: String,
    /// It is optional, and the peer does not have it.
    pub(crate) absent: bool,
    /// Messages that nobody else may hear.
    pub(crate) not_forwarded: Vec<[u8; 32]>,
    /// A link that is still good.
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

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as the contract says.
    Passed,
    /// Optional, and the peer answers that it does not have it.
    Absent,
    /// It is not.
    Failed,
    /// It was not run.
    NotRun,
}

impl Outcome {
    /// The word in JSON lines.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Absent => "absent",
            Outcome::Failed => "failed",
            Outcome::NotRun => "not_run",
        }
    }
}

/// A case that is over.
pub struct Verdict {
    /// Which.
    pub case: &'static Case,
    /// How it ended.
    pub outcome: Outcome,
    /// What came.
    pub actual: String,
    /// How long it took.
    pub took: std::time::Duration,
}
