//! The output of a run: a JSON object for programs, a table for people.
//!
//! Entry functions: [`json`], [`table`].

use std::io::{self, Write};

use serde::Serialize;

use super::super::failure::Failure;
use super::figures::Figures;

type Figure = (&'static str, fn(&Figures) -> Option<f64>, usize);

/// Rows of the table: title, path in the JSON object, decimals.
const ROWS: [Figure; 14] = [
    ("delivered", |f| Some(f.delivered as f64), 0),
    ("expected", |f| Some(f.expected as f64), 0),
    ("lost", |f| Some(f.lost as f64), 0),
    ("duplicated", |f| Some(f.duplicated as f64), 0),
    ("deliveries/s", |f| Some(f.deliveries_per_s), 0),
    ("MB/s delivered", |f| Some(f.mb_per_s), 1),
    ("CPU µs/delivery", |f| f.cpu_us_per_delivery, 2),
    ("copies/message/node", |f| f.copies, 2),
    ("latency p50 ms", |f| Some(f.p50_us as f64 / 1e3), 2),
    ("latency p99 ms", |f| Some(f.p99_us as f64 / 1e3), 2),
    ("latency max ms", |f| Some(f.max_us as f64 / 1e3), 2),
    ("peak memory MiB", |f| f.peak_rss_bytes.map(mib), 1),
    ("memory of all MiB", |f| f.total_rss_bytes.map(mib), 1),
    ("CPU of others %", |f| f.others_cpu_percent, 1),
];

/// One JSON object, one line, at once.
pub(crate) fn json(figures: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(figures).map_err(Failure::new)?;
    print(&format!("{line}\n"))
}

/// Text for people.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(Failure::new)
}

/// All runs: one column, or minimum, median and maximum of several.
pub(crate) fn table(runs: &[Figures]) -> Result<(), Failure> {
    let mut text = String::new();
    if runs.len() > 1 {
        text += &format!(
            "{:<20}{:>14}{:>14}{:>14}\n",
            "", "minimum", "median", "maximum"
        );
    }
    for (name, figure, decimals) in ROWS {
        let mut values: Vec<f64> = runs.iter().filter_map(figure).collect();
        values.sort_by(f64::total_cmp);
        text += &format!("{name:<20}");
        let (Some(least), Some(most)) = (values.first(), values.last()) else {
            text += &format!("{:>14}\n", "unknown");
            continue;
        };
        let columns = match runs.len() {
            1 => vec![*least],
            _ => vec![*least, median(&values), *most],
        };
        for value in columns {
            text += &format!("{value:>14.decimals$}");
        }
        text.push('\n');
    }
    print(&text)
}

pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The middle of sorted values; of the two in the middle, their mean.
pub(crate) fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }
}
