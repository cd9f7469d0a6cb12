//! The JSON lines as `proto/output.schema.json` describes them.
//!
//! Entry types: [`Line`], [`NodeLine`].

use std::borrow::Cow;
use std::fmt::Display;

use base64::display::Base64Display;
use libp2p::{Multiaddr, PeerId};
use serde::{Serialize, Serializer};

use crate::app::output::results::{CaseEnd, Check, CheckStage, ConformanceEnd, DemoEnd, Id};
use crate::model::BatchId;

/// Maximum number that every JSON reader holds exactly; a peer's clock may report any value.
pub(crate) const MAX_MILLIS: i64 = (1 << 53) - 1;

/// A line with the number of its node, if there are several.
#[derive(Serialize)]
pub(super) struct NodeLine<'a> {
    #[serde(flatten)]
    pub(super) line: &'a Line<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<usize>,
}

/// The lines, by their `type`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line<'a> {
    Online {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        peer_id: &'a PeerId,
        #[serde(serialize_with = "all_shown")]
        addresses: &'a [Multiaddr],
        #[serde(serialize_with = "all_shown")]
        rooms: &'a [crate::model::RoomName],
    },
    Listening {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        address: &'a Multiaddr,
    },
    LinkUp {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        peer_id: &'a PeerId,
        #[serde(serialize_with = "shown")]
        address: &'a Multiaddr,
        direction: &'static str,
        links: usize,
    },
    LinkDown {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        peer_id: &'a PeerId,
        reason: &'a str,
        links: usize,
    },
    Refused {
        time: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer_id: Option<String>,
        #[serde(serialize_with = "shown")]
        address: &'a Multiaddr,
        stage: &'static str,
        code: Option<&'static str>,
        reason: &'a str,
    },
    Visit {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        peer_id: &'a PeerId,
        #[serde(serialize_with = "shown")]
        address: &'a Multiaddr,
    },
    Sent {
        time: &'a str,
        id: &'a str,
        seq: u64,
        room: &'a str,
        links: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        confirmed: Option<usize>,
    },
    Message {
        time: &'a str,
        id: &'a str,
        room: &'a str,
        author: &'a str,
        seq: u64,
        name: &'a str,
        #[serde(serialize_with = "shown")]
        data: Base64Display<'a, 'static, base64::engine::GeneralPurpose>,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        sent_at: &'a str,
        backfill: bool,
    },
    Redirected {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        peer_id: &'a PeerId,
        #[serde(serialize_with = "shown")]
        to: &'a PeerId,
        address: Option<String>,
    },
    Hint {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        from: &'a PeerId,
        #[serde(serialize_with = "shown")]
        to: &'a PeerId,
        address: Option<String>,
        outcome: &'a str,
    },
    Checked {
        time: &'a str,
        room: &'a str,
        #[serde(serialize_with = "shown")]
        peer_id: &'a PeerId,
        neighbours: usize,
        agreed: usize,
        repaired: u64,
        bytes: u64,
    },
    Equivocation {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        author: &'a PeerId,
        room: &'a str,
        seq: u64,
        #[serde(serialize_with = "shown")]
        first: &'a BatchId,
        #[serde(serialize_with = "shown")]
        second: &'a BatchId,
    },
    BackDated {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        author: &'a PeerId,
        room: &'a str,
        seq: u64,
        #[serde(serialize_with = "shown")]
        id: &'a BatchId,
        by_ms: u64,
        than: &'static str,
    },
    Crowding {
        time: &'a str,
        #[serde(serialize_with = "shown")]
        author: &'a PeerId,
        #[serde(skip_serializing_if = "Option::is_none")]
        link: Option<String>,
        of: &'static str,
        bytes: u64,
        share: u64,
        batches: u64,
    },
    Clock {
        time: &'a str,
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer_id: Option<String>,
        wrong: &'static str,
        ahead_ms: i64,
        agreeing: usize,
        neighbours: usize,
        reason: String,
    },
    Suppressed {
        time: &'a str,
        kind: &'static str,
        lines: u64,
        over_ms: u64,
    },
    Error {
        time: &'a str,
        reason: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        author: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        missed: Option<u64>,
    },
    Id(IdLine<'a>),
    Stage(CheckStageLine<'a>),
    Check(CheckLine<'a>),
    Case(CaseLine<'a>),
    Conformance(ConformanceLine<'a>),
    Demo(DemoLine<'a>),
}

#[derive(Serialize)]
pub(super) struct IdLine<'a> {
    pub(super) time: &'a str,
    #[serde(flatten)]
    pub(super) id: &'a Id,
}

#[derive(Serialize)]
pub(super) struct CheckStageLine<'a> {
    pub(super) time: &'a str,
    #[serde(flatten)]
    pub(super) stage: &'a CheckStage<'a>,
}

#[derive(Serialize)]
pub(super) struct CheckLine<'a> {
    pub(super) time: &'a str,
    #[serde(flatten)]
    pub(super) check: &'a Check<'a>,
}

#[derive(Serialize)]
pub(super) struct CaseLine<'a> {
    pub(super) time: &'a str,
    #[serde(flatten)]
    pub(super) case: &'a CaseEnd<'a>,
}

#[derive(Serialize)]
pub(super) struct ConformanceLine<'a> {
    pub(super) time: &'a str,
    #[serde(flatten)]
    pub(super) end: &'a ConformanceEnd<'a>,
}

#[derive(Serialize)]
pub(super) struct DemoLine<'a> {
    pub(super) time: &'a str,
    #[serde(flatten)]
    pub(super) end: &'a DemoEnd,
}

/// Serializes a value as its text.
fn shown<S: Serializer>(value: &(impl Display + ?Sized), serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Serializes values as a list of their texts.
fn all_shown<S: Serializer>(values: &[impl Display], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}
