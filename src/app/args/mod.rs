//! Parses the command line.
//!
//! Entry type: [`Args`]. The rule it keeps: nothing is read or decided here; every option has an environment variable,
//! `DIATRIBE_` and its name.
//!
//! * `node`, `key`, `log`, `commands`: the options of each command. `shared`: those of several commands.
//! * `environment` warns of misspelt variables.

mod commands;
mod environment;
mod key;
mod log;
mod node;
mod shared;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

#[cfg(feature = "bench")]
use super::bench::BenchArgs;
use super::config::ArgSources;

pub(crate) use commands::{CheckArgs, ConformanceArgs, DemoArgs, IdArgs};
pub(crate) use environment::warn_of_unknown_variables;
pub(crate) use key::KeyCommand;
pub(crate) use log::{LogCommand, LogShowArgs, WhichArgs};
pub(crate) use node::NodeArgs;
pub(crate) use shared::{DataArgs, IdentityArgs, KeepArgs, NetworkArgs, SyncChoice};

const ABOUT: &str = "A private peer-to-peer broadcast layer over WebSocket";

const AFTER: &str = "\
Options are also read from the environment: --data-dir from DIATRIBE_DATA_DIR, and so on;
lists are separated by commas there. The command line takes precedence.

Exit codes: 0 success, 1 failure, 2 wrong usage.";

/// The parsed command line.
#[derive(Debug, Parser)]
#[command(name = "diatribe", version, about = ABOUT, after_help = AFTER)]
pub(crate) struct Args {
    /// Format of the log lines on stderr (RUST_LOG selects which are written)
    #[arg(long, global = true, env = "DIATRIBE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// The command to run.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node: listen, dial, and exchange messages in rooms
    Node(Box<NodeArgs>),
    /// Show several nodes in this process that find their links and exchange a message
    Demo(DemoArgs),
    /// Print this node's PeerId without starting it
    Id(IdArgs),
    /// Create, show, import and export keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Dial an address once and report each stage of the link with its time
    Check(CheckArgs),
    /// Test a peer in any language against the contract in proto/, case by case
    Conformance(Box<ConformanceArgs>),
    /// Show, check, repair, export and import the log in the data directory
    #[command(subcommand)]
    Log(LogCommand),
    #[cfg(feature = "bench")]
    /// Measure throughput, latency and cost of nodes on this machine
    Bench(Box<BenchArgs>),
    /// Print a completion script for a shell
    Completions {
        /// Name of the shell
        shell: Shell,
    },
}

impl Args {
    /// Reads the process's arguments and environment.
    pub(crate) fn read() -> Result<(Args, ArgSources), clap::Error> {
        let matches = Args::command().try_get_matches()?;
        let args = Args::from_arg_matches(&matches)?;
        Ok((args, ArgSources::new(innermost(&matches).clone())))
    }

    /// Returns whether the command is `bench`.
    pub(crate) fn is_benchmark(&self) -> bool {
        #[cfg(feature = "bench")]
        return matches!(self.command, Command::Bench(_));
        #[cfg(not(feature = "bench"))]
        false
    }

    /// Returns whether the command writes JSON for programs.
    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::Node(args) => args.json,
            Command::Id(args) | Command::Key(KeyCommand::Show(args)) => args.json,
            Command::Check(args) => args.json,
            Command::Conformance(args) => args.json,
            #[cfg(feature = "bench")]
            Command::Bench(args) => args.json(),
            Command::Demo(args) => args.json,
            Command::Log(LogCommand::Show(args)) => args.json,
            Command::Log(_) | Command::Key(_) | Command::Completions { .. } => false,
        }
    }
}

/// Returns the completion script of `shell`.
pub(crate) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "diatribe", &mut script);
    script
}

fn innermost(matches: &ArgMatches) -> &ArgMatches {
    match matches.subcommand() {
        Some((_, inner)) => innermost(inner),
        None => matches,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_option_has_its_environment_variable() {
        let command = Args::command();
        for sub in command.get_subcommands() {
            for arg in sub.get_arguments() {
                let Some(long) = arg.get_long() else { continue };
                // A prompt needs a person; DIATRIBE_PASSPHRASE is the passphrase itself.
                if ["help", "version", "passphrase"].contains(&long) {
                    continue;
                }
                let expected = format!("DIATRIBE_{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(
                    arg.get_env().and_then(|e| e.to_str()),
                    Some(&*expected),
                    "{long}"
                );
            }
        }
    }
}
