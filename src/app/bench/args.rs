//! The command line of `diatribe bench`, as it is typed.
//!
//! Entry type: [`BenchArgs`].

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::str::FromStr;

use clap::builder::FalseyValueParser;
use clap::value_parser;

use crate::gossip::MAX_EVENT_DATA;

/// Minimum size of an event of the benchmark: its number and the time of sending.
pub(crate) const MIN_SIZE: usize = 16;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// A benchmark of one part alone.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Part {
    /// Measure the time from a dial to a link with both handshakes, and its cost
    Links(LinksArgs),
    /// Measure the number of batches that the log stores in a second
    Log(LogArgs),
    /// Measure the time that a returning node takes to catch up
    Sync(SyncArgs),
    /// Measure the cost of an idle node with links, and the time until it is online
    Idle(IdleArgs),
    /// Run a node of `--processes`, which reads its orders from stdin
    #[command(hide = true)]
    Node,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Number of nodes, each with its own key, log and links
    #[arg(long, env = "DIATRIBE_NODES", value_name = "N", default_value = "8")]
    pub(crate) nodes: NonZeroUsize,
    /// Maximum number of links of a node
    #[arg(long, env = "DIATRIBE_LINKS", value_name = "N", default_value = "5")]
    pub(crate) links: NonZeroUsize,
    /// Number of events to send in all
    #[arg(
        long,
        env = "DIATRIBE_COUNT",
        value_name = "N",
        default_value = "100000"
    )]
    pub(crate) count: NonZeroU64,
    /// Bytes of data in an event
    #[arg(long, env = "DIATRIBE_SIZE", value_name = "BYTES", default_value = "256", value_parser = size)]
    pub(crate) size: usize,
    /// Number of events to send in a second, or max: as fast as the nodes accept them
    #[arg(
        long,
        env = "DIATRIBE_RATE",
        value_name = "N|max",
        default_value = "max"
    )]
    pub(crate) rate: Rate,
    /// Number of rooms; the events go to each in turn
    #[arg(long, env = "DIATRIBE_ROOMS", value_name = "N", default_value = "1")]
    pub(crate) rooms: NonZeroUsize,
    /// Number of nodes that send, in turn
    #[arg(
        long,
        env = "DIATRIBE_PUBLISHERS",
        value_name = "N",
        default_value = "1"
    )]
    pub(crate) publishers: NonZeroUsize,
    /// Run each node in a process of its own, as users do. Peak memory is then the largest node's, and CPU the sum
    /// over all nodes
    #[arg(long, env = "DIATRIBE_PROCESSES", value_parser = FalseyValueParser::new())]
    pub(crate) processes: bool,
    /// Link the nodes in a ring with chords, instead of letting them find each other
    #[arg(long, env = "DIATRIBE_FIXED_LINKS", value_parser = FalseyValueParser::new())]
    pub(crate) fixed_links: bool,
    /// Keep the logs in memory instead of in a temporary directory
    #[arg(long, env = "DIATRIBE_EPHEMERAL", value_parser = FalseyValueParser::new())]
    pub(crate) ephemeral: bool,
    /// Number of runs
    #[arg(long, env = "DIATRIBE_RUNS", value_name = "N", default_value = "1")]
    pub(crate) runs: NonZeroU32,
    /// Write a JSON object for each run, for programs
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LinksArgs {
    /// Number of links to set up, one after the other
    #[arg(long, env = "DIATRIBE_COUNT", value_name = "N", default_value = "200")]
    pub(crate) count: NonZeroU64,
    /// Write a JSON object, for programs
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// Number of batches to store
    #[arg(
        long,
        env = "DIATRIBE_COUNT",
        value_name = "N",
        default_value = "100000"
    )]
    pub(crate) count: NonZeroU64,
    /// Bytes of data in a batch
    #[arg(long, env = "DIATRIBE_SIZE", value_name = "BYTES", default_value = "256", value_parser = size)]
    pub(crate) size: usize,
    /// Keep the log in memory instead of in a temporary directory
    #[arg(long, env = "DIATRIBE_EPHEMERAL", value_parser = FalseyValueParser::new())]
    pub(crate) ephemeral: bool,
    /// Write a JSON object, for programs
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SyncArgs {
    /// Number of batches that one node holds and the other lacks
    #[arg(
        long,
        env = "DIATRIBE_COUNT",
        value_name = "N",
        default_value = "100000"
    )]
    pub(crate) count: NonZeroU64,
    /// Bytes of data in a batch
    #[arg(long, env = "DIATRIBE_SIZE", value_name = "BYTES", default_value = "256", value_parser = size)]
    pub(crate) size: usize,
    /// Write a JSON object, for programs
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct IdleArgs {
    /// Number of links of the idle node
    #[arg(long, env = "DIATRIBE_LINKS", value_name = "N", default_value_t = 5, value_parser = value_parser!(u8).range(0..=64))]
    pub(crate) links: u8,
    /// Seconds to measure once the node is at rest
    #[arg(long, env = "DIATRIBE_SECONDS", value_name = "N", default_value_t = 30, value_parser = value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,
    /// Number of starts, of which the median counts
    #[arg(long, env = "DIATRIBE_STARTS", value_name = "N", default_value_t = 5, value_parser = value_parser!(u16).range(1..=1000))]
    pub(crate) starts: u16,
    /// Write a JSON object, for programs
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

/// The rate at which events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    /// As fast as the nodes accept them.
    Max,
    /// This number of events in a second.
    PerSecond(NonZeroU64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        match text {
            "max" => Ok(Rate::Max),
            number => number
                .parse()
                .map(Rate::PerSecond)
                .map_err(|_| "a number of events a second from 1, or max".to_owned()),
        }
    }
}

impl BenchArgs {
    /// Returns whether the output is JSON for programs.
    pub(crate) fn json(&self) -> bool {
        match &self.part {
            None => self.load.json,
            Some(Part::Links(args)) => args.json,
            Some(Part::Log(args)) => args.json,
            Some(Part::Sync(args)) => args.json,
            Some(Part::Idle(args)) => args.json,
            // Its output is for the parent process.
            Some(Part::Node) => false,
        }
    }
}

fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if (MIN_SIZE..=MAX_EVENT_DATA).contains(&size) => Ok(size),
        _ => Err(format!("a number from {MIN_SIZE} to {MAX_EVENT_DATA}")),
    }
}
