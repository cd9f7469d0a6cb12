//! JSON lines of the commands that run no node, and the results at the end of a command.
//!
//! Entry types: one for each type of line in `proto/output.schema.json`.

use serde::Serialize;

/// The line of `diatribe id` and `diatribe key show`.
#[derive(Debug, Serialize)]
pub(crate) struct Id {
    pub(crate) peer_id: String,
    pub(crate) public_key: String,
    pub(crate) sealing_key: String,
    pub(crate) source: &'static str,
}

/// A stage of `diatribe check`.
#[derive(Debug, Serialize)]
pub(crate) struct CheckStage<'a> {
    pub(crate) address: String,
    pub(crate) stage: &'static str,
    pub(crate) ok: bool,
    pub(crate) ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'static str>,
}

/// The result of `diatribe check` for one address.
#[derive(Debug, Serialize)]
pub(crate) struct Check<'a> {
    pub(crate) address: String,
    pub(crate) ok: bool,
    pub(crate) ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) can_dial_back: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clock_ahead_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stage: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'a str>,
}

/// The verdict on one case of `diatribe conformance`.
#[derive(Debug, Serialize)]
pub(crate) struct CaseEnd<'a> {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) spec: &'static str,
    pub(crate) expected: &'static str,
    pub(crate) outcome: &'static str,
    pub(crate) came: &'a str,
    pub(crate) ms: f64,
}

/// The result of `diatribe conformance`.
#[derive(Debug, Serialize)]
pub(crate) struct ConformanceEnd<'a> {
    pub(crate) ok: bool,
    pub(crate) mode: &'static str,
    pub(crate) passed: usize,
    pub(crate) absent: usize,
    pub(crate) failed: usize,
    pub(crate) not_run: usize,
    pub(crate) ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<&'a str>,
}

/// The result of `diatribe demo`.
#[derive(Debug, Serialize)]
pub(crate) struct DemoEnd {
    pub(crate) ok: bool,
    pub(crate) settled_ms: Option<f64>,
    pub(crate) most_links: usize,
    pub(crate) nodes: Vec<DemoNode>,
    pub(crate) missing: Vec<String>,
}

/// One node in the result of `diatribe demo`.
#[derive(Debug, Serialize)]
pub(crate) struct DemoNode {
    pub(crate) node: usize,
    pub(crate) peer_id: String,
    pub(crate) links: Vec<usize>,
    pub(crate) heard_ms: Option<f64>,
}
