//! The figures of one run.
//!
//! Entry type: [`Figures`], which is also the JSON object of a run.

use std::time::Duration;

use serde::Serialize;

use super::machine::Cost;
use super::tally::Totals;

/// The figures of a run. A figure that the system does not provide is null.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// Number of deliveries: the sum over all events of the nodes that received them.
    pub(crate) delivered: u64,
    pub(crate) expected: u64,
    pub(crate) lost: u64,
    /// Events that the application was handed twice.
    pub(crate) duplicated: u64,
    pub(crate) deliveries_per_s: f64,
    /// Data delivered, in millions of bytes a second.
    pub(crate) mb_per_s: f64,
    pub(crate) cpu_us_per_delivery: Option<f64>,
    /// Copies of a message that a node receives, itself included.
    pub(crate) copies: Option<f64>,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
    /// The most memory that a process has had: the one that all nodes are in, or the largest node's.
    pub(crate) peak_rss_bytes: Option<u64>,
    /// The sum over all processes.
    pub(crate) total_rss_bytes: Option<u64>,
    pub(crate) others_cpu_percent: Option<f64>,
}

impl Figures {
    /// `took` is the time from the first event sent to the last one delivered; `copies` are
    /// gossipsub's messages over all links.
    pub(crate) fn of(
        totals: &Totals,
        size: usize,
        took: Duration,
        cost: Cost,
        copies: u64,
    ) -> Figures {
        let seconds = took.as_secs_f64().max(1e-9);
        let delivered = totals.delivered;
        let a_second = delivered as f64 / seconds;
        Figures {
            delivered,
            expected: totals.expected,
            lost: totals.expected - delivered,
            duplicated: totals.duplicated,
            deliveries_per_s: round(a_second, 0),
            mb_per_s: round(a_second * size as f64 / 1e6, 2),
            cpu_us_per_delivery: cost
                .cpu
                .map(|cpu| round(cpu.as_secs_f64() * 1e6 / delivered.max(1) as f64, 3)),
            copies: (totals.batches > 0).then(|| round(copies as f64 / totals.batches as f64, 2)),
            p50_us: totals.took.quantile_us(0.5),
            p99_us: totals.took.quantile_us(0.99),
            max_us: totals.took.max_us(),
            peak_rss_bytes: cost.peak_rss_bytes,
            total_rss_bytes: cost.total_rss_bytes,
            others_cpu_percent: cost.others_cpu_percent.map(|percent| round(percent, 1)),
        }
    }
}

/// Rounds `value` to this number of decimals.
pub(crate) fn round(value: f64, decimals: i32) -> f64 {
    let factor = 10f64.powi(decimals);
    (value * factor).round() / factor
}
