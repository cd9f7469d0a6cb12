//! The command line, as it is typed.
//!
//! Entry type: [`Args`]. The rule it keeps: nothing is read or judged here; every option is also
//! taken from the environment, as `DIATRIBE_` and its name.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{
    ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, value_parser,
};
use clap_complete::Shell;

#[cfg(feature = "bench")]
use super::bench::BenchArgs;
use super::config::{ArgSources, PASSPHRASE_VARIABLE};
use crate::node::DEFAULT_ROOM;

/// With what the variables of all options begin.
const PREFIX: &str = "DIATRIBE_";
/// A variable with at most this many letters added, lost, changed or swapped is taken for a misspelt one.
const MAX_MISSPELT: usize = 3;

const ABOUT: &str = "A private peer-to-peer broadcast layer over WebSocket";

const AFTER: &str = "\
Options are also read from the environment: --data-dir from DIATRIBE_DATA_DIR, and so on;
lists are separated by commas there. The command line goes before the environment.

Exit codes: 0 success, 1 failure, 2 wrong usage.";

/// What was typed.
#[derive(Debug, Parser)]
#[command(name = "diatribe", version, about = ABOUT, after_help = AFTER)]
pub(crate) struct Args {
    /// How logs are written to stderr (RUST_LOG says which)
    #[arg(long, global = true, env = "DIATRIBE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node: listen, dial, and carry what is said in rooms
    Node(Box<NodeArgs>),
    /// Show it: nodes in this process find their links and hear each other
    Demo(DemoArgs),
    /// Print this node's PeerId without starting it
    Id(IdArgs),
    /// Make, show, import and export keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Dial an address once and tell each stage of the link, with its time
    Check(CheckArgs),
    /// Test a peer, in whatever language, against the contract in proto/, case by case
    Conformance(Box<ConformanceArgs>),
    /// Read and look after what was said: the log in the data directory
    #[command(subcommand)]
    Log(LogCommand),
    #[cfg(feature = "bench")]
    /// Measure how fast nodes on this machine carry what is said, and what it costs
    Bench(Box<BenchArgs>),
    /// Print a completion script for a shell
    Completions {
        /// For which shell
        shell: Shell,
    },
}

/// Which identity; shared by all commands that need one.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Identity")]
pub(crate) struct IdentityArgs {
    /// Where the node keeps its key and its log [default: the platform's data directory]
    #[arg(long, env = "DIATRIBE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Make the identity from the passphrase in this file
    #[arg(long, env = "DIATRIBE_PASSPHRASE_FILE", value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Make the identity from the passphrase in the first line of stdin
    #[arg(long, env = "DIATRIBE_PASSPHRASE_STDIN", value_parser = FalseyValueParser::new())]
    pub(crate) passphrase_stdin: bool,
    /// Ask for the passphrase on the terminal; without asking, it is taken from the environment
    /// variable DIATRIBE_PASSPHRASE when that is set
    #[arg(long)]
    pub(crate) passphrase: bool,
    /// Another identity of the same passphrase: a text that goes into it
    #[arg(
        long,
        env = "DIATRIBE_SALT",
        value_name = "TEXT",
        hide_env_values = true
    )]
    pub(crate) salt: Option<String>,
    /// Take a passphrase that is easily guessed
    #[arg(long, env = "DIATRIBE_ALLOW_WEAK_PASSPHRASE", value_parser = FalseyValueParser::new())]
    pub(crate) allow_weak_passphrase: bool,
}

/// Which network, and how to reach it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Link only with nodes that have the same key, made with `diatribe key network FILE`
    #[arg(long, env = "DIATRIBE_NETWORK_KEY", value_name = "FILE")]
    pub(crate) network_key: Option<PathBuf>,
    /// Trust this certificate (PEM) when dialling, an authority's or a self-signed one, beside the usual authorities
    #[arg(long, env = "DIATRIBE_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Vec<PathBuf>,
}

/// How long and how much the log keeps; shared by all commands that write it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Log")]
pub(crate) struct KeepArgs {
    /// Keep what was sent in the last N days [default: 30]
    #[arg(long, env = "DIATRIBE_KEEP_DAYS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) keep_days: Option<u32>,
    /// Keep at most so much, like 500M or 2G; the oldest of who takes most goes first [default: 1G]
    #[arg(long, env = "DIATRIBE_KEEP_BYTES", value_name = "SIZE")]
    pub(crate) keep_bytes: Option<String>,
    /// What survives a power cut; a crash of the program costs nothing either way
    ///
    /// full: everything that was acknowledged, because each write waits for the disk. normal: everything up to some
    /// moments before. neighbours, or neighbours=N: as normal, and a line is acknowledged (`sent`) only when N linked
    /// nodes (1, if N is not given) have confirmed that they stored it; it is an error when they have not within 10 s
    #[arg(long, env = "DIATRIBE_SYNC", value_name = "full|normal|neighbours[=N]", default_value = "normal", value_parser = sync_choice)]
    pub(crate) sync: SyncChoice,
}

/// What survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncChoice {
    /// Everything that was acknowledged: each write waits for the disk.
    Full,
    /// Everything up to some moments before.
    Normal,
    /// The same, and so many neighbours have stored what is acknowledged.
    Neighbours(usize),
}

fn sync_choice(text: &str) -> Result<SyncChoice, String> {
    match text.split_once('=') {
        None if text == "full" => Ok(SyncChoice::Full),
        None if text == "normal" => Ok(SyncChoice::Normal),
        None if text == "neighbours" => Ok(SyncChoice::Neighbours(1)),
        Some(("neighbours", n)) => match n.parse() {
            Ok(n) if n > 0 => Ok(SyncChoice::Neighbours(n)),
            _ => Err("N in neighbours=N is a number from 1 on".to_owned()),
        },
        _ => Err("it is full, normal, neighbours or neighbours=N".to_owned()),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    /// Listen here: a multiaddr, IP:PORT, or a port
    /// [default: /ip6/::/tcp/9000/ws and /ip4/0.0.0.0/tcp/9000/ws]
    #[arg(long, env = "DIATRIBE_LISTEN", value_name = "ADDR")]
    pub(crate) listen: Vec<String>,
    /// Enter through this address: it is dialled until it has answered once, and again when links
    /// are lost
    #[arg(
        long,
        visible_alias = "entry",
        env = "DIATRIBE_DIAL",
        value_name = "ADDR"
    )]
    pub(crate) dial: Vec<String>,
    /// Join this room [default: lobby]
    #[arg(long, env = "DIATRIBE_ROOM", value_name = "NAME")]
    pub(crate) room: Vec<String>,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Link only with this peer, or with those in a file (one id a line, # begins a comment)
    #[arg(
        long,
        env = "DIATRIBE_TRUST",
        value_name = "PEERID|@FILE",
        help_heading = "Network"
    )]
    pub(crate) trust: Vec<String>,
    /// Never link with this peer, or with those in a file
    #[arg(
        long,
        env = "DIATRIBE_DENY",
        value_name = "PEERID|@FILE",
        help_heading = "Network"
    )]
    pub(crate) deny: Vec<String>,
    /// Listen on /tls/ws addresses with this certificate chain (PEM). A port, IP:PORT and the default then mean /tls/ws. A renewed
    /// file is used within 10 seconds
    #[arg(
        long,
        env = "DIATRIBE_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key",
        help_heading = "Network"
    )]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(
        long,
        env = "DIATRIBE_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert",
        help_heading = "Network"
    )]
    pub(crate) tls_key: Option<PathBuf>,
    /// Tell peers to dial this address: behind a proxy or a forwarded port. They are told IP addresses only. Everything that
    /// comes in then counts as coming from the internet, since a proxy may stand in between
    #[arg(
        long,
        env = "DIATRIBE_ANNOUNCE",
        value_name = "ADDR",
        help_heading = "Network"
    )]
    pub(crate) announce: Vec<String>,
    /// How many connections of one address may wait for their handshake [default: 4]
    #[arg(
        long,
        env = "DIATRIBE_PER_ADDRESS_LIMIT",
        value_name = "N",
        help_heading = "Network"
    )]
    pub(crate) per_address_limit: Option<std::num::NonZeroU16>,
    /// Do not count loopback addresses in that limit: for many nodes on one machine
    #[arg(long, env = "DIATRIBE_EXEMPT_LOOPBACK", value_parser = FalseyValueParser::new(), help_heading = "Network")]
    pub(crate) exempt_loopback: bool,
    /// Hold at most so many links, and one more while one moves
    #[arg(long, env = "DIATRIBE_MAX_LINKS", value_name = "N", default_value_t = 5, value_parser = value_parser!(u8).range(2..=64), help_heading = "Network")]
    pub(crate) max_links: u8,
    /// Below so many links, seek others fast
    #[arg(long, env = "DIATRIBE_MIN_LINKS", value_name = "N", default_value_t = 2, value_parser = value_parser!(u8).range(1..=64), help_heading = "Network")]
    pub(crate) min_links: u8,
    #[command(flatten)]
    pub(crate) keep: KeepArgs,
    /// Keep the log in memory only, up to 64M unless --keep-bytes says otherwise
    #[arg(long, env = "DIATRIBE_EPHEMERAL", value_parser = FalseyValueParser::new(), help_heading = "Log")]
    pub(crate) ephemeral: bool,
    /// Show the last N lines of each room at the start [default: 20, with --json 0]
    #[arg(long, env = "DIATRIBE_LAST", value_name = "N", help_heading = "Log")]
    pub(crate) last: Option<usize>,
    /// Read and write JSON lines, for programs (proto/output.schema.json)
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// Do not read stdin at all
    #[arg(long, env = "DIATRIBE_NO_INPUT", value_parser = FalseyValueParser::new())]
    pub(crate) no_input: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// How many nodes
    #[arg(long, env = "DIATRIBE_NODES", value_name = "N", default_value_t = 8, value_parser = value_parser!(u16).range(3..=100))]
    pub(crate) nodes: u16,
    /// Write JSON lines, for programs
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct IdArgs {
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
    /// Write a JSON line, for programs
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// What to dial: a multiaddr, HOST:PORT, [IPV6]:PORT, [fe80::…%INTERFACE]:PORT, a port of this machine, or a ws:// or wss://
    /// URL
    #[arg(value_name = "ADDR", required = true)]
    pub(crate) addresses: Vec<String>,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Write JSON lines, for programs
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The peer must be in the room, must take links with any key (no --trust), and should not count
connections from one address (--exempt-loopback). With --listen it must dial for ever; two or more
--listen addresses, all dialled by the peer, make it faster and show what the peer forwards.

The first link has the identity that the options name; all others have fresh keys.

Exit codes: 0 every case has passed, or is optional and absent; 1 one has not; 2 wrong usage.")]
pub(crate) struct ConformanceArgs {
    /// Dial the peer here: a multiaddr, HOST:PORT, [IPV6]:PORT, or a ws:// or wss:// URL
    #[arg(value_name = "ADDR")]
    pub(crate) address: Option<String>,
    /// Have the peer dial this address instead: a multiaddr, IP:PORT, or a port; port 0 picks one
    #[arg(long, env = "DIATRIBE_LISTEN", value_name = "ADDR")]
    pub(crate) listen: Vec<String>,
    /// Run this case only; may be repeated
    #[arg(long, env = "DIATRIBE_CASE", value_name = "NAME")]
    pub(crate) case: Vec<String>,
    /// Print the cases instead of running them
    #[arg(long, env = "DIATRIBE_LIST", value_parser = FalseyValueParser::new())]
    pub(crate) list: bool,
    /// The room that the peer is in
    #[arg(long, env = "DIATRIBE_ROOM", value_name = "NAME", default_value = DEFAULT_ROOM)]
    pub(crate) room: String,
    #[command(flatten)]
    pub(crate) identity: IdentityArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Write JSON lines, for programs
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Invent a passphrase of seven words and print it
    Passphrase,
    /// Write a new network key to a file, to be given to every node of the network
    Network {
        /// Where to
        file: PathBuf,
        /// Write over an existing file
        #[arg(long)]
        force: bool,
    },
    /// Show the public parts of this node's key
    Show(IdArgs),
    /// Take a key file (libp2p's PrivateKey, Ed25519) as this node's identity
    Import {
        /// Where from
        file: PathBuf,
        /// Where the node keeps its key [default: the platform's data directory]
        #[arg(long, env = "DIATRIBE_DATA_DIR", value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Give up the identity that is there
        #[arg(long)]
        force: bool,
    },
    /// Write this node's secret key to a file
    Export {
        /// Where to
        file: PathBuf,
        #[command(flatten)]
        identity: IdentityArgs,
        /// Write over an existing file
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Print what was said, oldest first; a node may run meanwhile
    Show(LogShowArgs),
    /// Look for damage; a node may run meanwhile
    Check {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Save what can be read into a new log, and keep the old file beside it
    Repair {
        #[command(flatten)]
        data: DataArgs,
        #[command(flatten)]
        keep: KeepArgs,
        /// The key of the log's network, for a log too damaged to say which it belongs to
        #[arg(long, env = "DIATRIBE_NETWORK_KEY", value_name = "FILE")]
        network_key: Option<PathBuf>,
    },
    /// Write the signed batches to a file, one JSON object a line; a node may run meanwhile
    Export {
        /// Where to; - is stdout
        file: PathBuf,
        #[command(flatten)]
        data: DataArgs,
        #[command(flatten)]
        which: WhichArgs,
        /// Write over an existing file
        #[arg(long)]
        force: bool,
    },
    /// Take exported batches into the log, each checked as if it had just come
    Import {
        /// Where from; - is stdin
        file: PathBuf,
        #[command(flatten)]
        data: DataArgs,
        #[command(flatten)]
        keep: KeepArgs,
        /// The key of the network that a new log belongs to; an existing log must belong to it [default: the
        /// log's network, or the open one]
        #[arg(long, env = "DIATRIBE_NETWORK_KEY", value_name = "FILE")]
        network_key: Option<PathBuf>,
    },
}

/// Which log.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// Where the node keeps its log [default: the platform's data directory]
    #[arg(long, env = "DIATRIBE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Which part of the log.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WhichArgs {
    /// Of this room only, in the order of sending [default: of all, in the order of arrival]
    #[arg(long, value_name = "NAME")]
    pub(crate) room: Option<String>,
    /// Sent since then: 2026-01-02T03:04:05Z, 2026-01-02, or so long ago: 30m, 2h, 3d
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// The last N events only
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<usize>,
    /// By this author only
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

    /// Whether a program reads what this command writes.
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

/// Warns of each environment variable that looks like an option and is none: misspelt, it would be ignored in silence.
/// No error, because systems that run containers set variables of their own with the name of the program.
pub(crate) fn warn_of_unknown_variables() {
    let known = variables(&Args::command());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if !name.starts_with(PREFIX) || known.contains(&*name) || is_of_tests(&name) {
            continue;
        }
        let nearest = known
            .iter()
            .map(|known| (strsim::damerau_levenshtein(known, &name), known))
            .min()
            .filter(|(distance, _)| *distance <= MAX_MISSPELT);
        match nearest {
            Some((_, known)) => {
                tracing::warn!(
                    "the environment variable {name} is not known and not used: is it {known}?"
                );
            }
            None => tracing::warn!(
                "the environment variable {name} is not known and not used; --help names those that are"
            ),
        }
    }
}

/// The environment variables of `command` and of all below it.
fn variables(command: &clap::Command) -> BTreeSet<String> {
    let own = command
        .get_arguments()
        .filter_map(|arg| arg.get_env())
        .map(|name| name.to_string_lossy().into_owned());
    let below = command.get_subcommands().flat_map(variables);
    let passphrase = PASSPHRASE_VARIABLE.to_owned();
    own.chain(below).chain([passphrase]).collect()
}

/// Whether a variable is one of those that tests and the runs with other languages read.
fn is_of_tests(name: &str) -> bool {
    [
        "DIATRIBE_TEST_",
        "DIATRIBE_BIN",
        "DIATRIBE_CHROMIUM",
        "DIATRIBE_CRASH_",
    ]
    .iter()
    .any(|known| name.starts_with(known))
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
                // A prompt is for whoever sits there; DIATRIBE_PASSPHRASE is the passphrase itself.
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
