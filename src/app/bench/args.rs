//! The command line of `diatribe bench`, as it is typed.
//!
//! Entry type: [`BenchArgs`].

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::str::FromStr;

use clap::builder::FalseyValueParser;
use clap::value_parser;

use crate::gossip::MAX_EVENT_DATA;

/// What every event of the bench carries: its number and when it was sent.
pub(crate) const MIN_SIZE: usize = 16;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// One part alone.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Part {
    /// How long a link takes from the dial to both handshakes, and what it costs
    Links(LinksArgs),
    /// How many batches a second the log takes
    Log(LogArgs),
    /// How long a node that was away takes to catch up
    Sync(SyncArgs),
    /// What a node costs that has links and nothing to do, and how soon it is online
    Idle(IdleArgs),
    /// A node of `--processes`: orders come by stdin
    #[command(hide = true)]
    Node,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Nodes, each with its own key, log and links
    #[arg(long, env = "DIATRIBE_NODES", value_name = "N", default_value = "8")]
    pub(crate) nodes: NonZeroUsize,
    /// Links that a node has at most
    #[arg(long, env = "DIATRIBE_LINKS", value_name = "N", default_value = "5")]
    pub(crate) links: NonZeroUsize,
    /// Events to send in all
    #[arg(
        long,
        env = "DIATRIBE_COUNT",
        value_name = "N",
        default_value = "100000"
    )]
    pub(crate) count: NonZeroU64,
    /// Bytes of data of an event
    #[arg(long, env = "DIATRIBE_SIZE", value_name = "BYTES", default_value = "256", value_parser = size)]
    pub(crate) size: usize,
    /// Events a second in all, or as many as there can be
    #[arg(
        long,
        env = "DIATRIBE_RATE",
        value_name = "N|max",
        default_value = "max"
    )]
    pub(crate) rate: Rate,
    /// Rooms, in which the events go round
    #[arg(long, env = "DIATRIBE_ROOMS", value_name = "N", default_value = "1")]
    pub(crate) rooms: NonZeroUsize,
    /// Nodes that send, in turn
    #[arg(
        long,
        env = "DIATRIBE_PUBLISHERS",
        value_name = "N",
        default_value = "1"
    )]
    pub(crate) publishers: NonZeroUsize,
    /// Make each node a process of its own, this program started again, as users run it. Peak memory
    /// is then the largest node's, and CPU that of all nodes together
    #[arg(long, env = "DIATRIBE_PROCESSES", value_parser = FalseyValueParser::new())]
    pub(crate) processes: bool,
    /// Link the nodes in a ring with chords instead of letting them find each other from one entry
    #[arg(long, env = "DIATRIBE_FIXED_LINKS", value_parser = FalseyValueParser::new())]
    pub(crate) fixed_links: bool,
    /// Keep the logs in memory instead of in a temporary directory
    #[arg(long, env = "DIATRIBE_EPHEMERAL", value_parser = FalseyValueParser::new())]
    pub(crate) ephemeral: bool,
    /// How often to measure
    #[arg(long, env = "DIATRIBE_RUNS", value_name = "N", default_value = "1")]
    pub(crate) runs: NonZeroU32,
    /// Write a JSON object for each run, for programs
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LinksArgs {
    /// Links to set up, one after the other
    #[arg(long, env = "DIATRIBE_COUNT", value_name = "N", default_value = "200")]
    pub(crate) count: NonZeroU64,
    /// Write a JSON object, for programs
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// Batches to store
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
    /// Batches that one node holds and the other lacks
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
    /// Links of the idle node
    #[arg(long, env = "DIATRIBE_LINKS", value_name = "N", default_value_t = 5, value_parser = value_parser!(u8).range(0..=64))]
    pub(crate) links: u8,
    /// How long to look at it once it is at rest
    #[arg(long, env = "DIATRIBE_SECONDS", value_name = "N", default_value_t = 30, value_parser = value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,
    /// How often to start it; the median counts
    #[arg(long, env = "DIATRIBE_STARTS", value_name = "N", default_value_t = 5, value_parser = value_parser!(u16).range(1..=1000))]
    pub(crate) starts: u16,
    /// Write a JSON object, for programs
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

/// How quickly events are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    /// As quickly as the nodes take them.
    Max,
    /// So many a second.
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
    /// Whether a program reads what is written.
    pub(crate) fn json(&self) -> bool {
        match &self.part {
            None => self.load.json,
            Some(Part::Links(args)) => args.json,
            Some(Part::Log(args)) => args.json,
            Some(Part::Sync(args)) => args.json,
            Some(Part::Idle(args)) => args.json,
            // What it says is for its parent, in other words.
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
