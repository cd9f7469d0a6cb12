//! Options of `diatribe log`.

use std::path::PathBuf;

use clap::Subcommand;
use clap::builder::FalseyValueParser;

use super::{DataArgs, IdentityArgs, KeepArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Print the messages, oldest first; a node may run at the same time
    Show(LogShowArgs),
    /// Check the log for damage; a node may run at the same time
    Check {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Save every readable message into a new log, and keep the old file beside it
    Repair {
        #[command(flatten)]
        data: DataArgs,
        #[command(flatten)]
        keep: KeepArgs,
        /// Network key of the log, for a log too damaged to name its network
        #[arg(long, env = "DIATRIBE_NETWORK_KEY", value_name = "FILE")]
        network_key: Option<PathBuf>,
    },
    /// Write the signed batches to a file, one JSON object a line; a node may run at the same time
    Export {
        /// File to write, or - for stdout
        file: PathBuf,
        #[command(flatten)]
        data: DataArgs,
        #[command(flatten)]
        which: WhichArgs,
        /// Overwrite an existing file
        #[arg(long)]
        force: bool,
    },
    /// Import exported batches into the log; each is verified as if it had just been received
    Import {
        /// File to read, or - for stdin
        file: PathBuf,
        #[command(flatten)]
        data: DataArgs,
        #[command(flatten)]
        keep: KeepArgs,
        /// Network key for a new log; an existing log must belong to that network [default: the log's network, or the open
        /// one]
        #[arg(long, env = "DIATRIBE_NETWORK_KEY", value_name = "FILE")]
        network_key: Option<PathBuf>,
    },
}

/// Options that select a part of the log.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WhichArgs {
    /// Only events of this room, in the order of sending [default: all rooms, in the order of arrival]
    #[arg(long, value_name = "NAME")]
    pub(crate) room: Option<String>,
    /// Only events sent since this time: 2026-01-02T03:04:05Z, 2026-01-02, or 30m, 2h or 3d ago
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only the last N events
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<usize>,
    /// Only events of this author
    #[arg(long, value_name = "PEERID")]
    pub(crate) author: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogShowArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
    /// Write `message` lines, for programs
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}
