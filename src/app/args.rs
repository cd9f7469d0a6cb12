//! The command line, as it is typed.
//!
//! Entry type: [`Args`]. The rule it keeps: nothing is read or judged here; every option is also
//! taken from the environment, as `DIATRIBE_` and its name.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::config::Given;

const ABOUT: &str = "A private peer-to-peer broadcast layer over WebSocket";

const AFTER: &str = "\
Every option is also read from the environment: --data-dir from DIATRIBE_DATA_DIR, and so on;
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
    /// Print this node's PeerId without starting it
    Id(IdArgs),
    /// Make, show, import and export keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Dial an address once and tell each stage of the link, with its time
    Check(CheckArgs),
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
    /// Where the node keeps its key [default: the platform's data directory]
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
    /// Trust this certificate (PEM) when dialling, beside the usual authorities
    #[arg(long, env = "DIATRIBE_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    /// Listen here: a multiaddr, IP:PORT, or a port
    /// [default: /ip6/::/tcp/9000/ws and /ip4/0.0.0.0/tcp/9000/ws]
    #[arg(long, env = "DIATRIBE_LISTEN", value_name = "ADDR")]
    pub(crate) listen: Vec<String>,
    /// Dial this address until it answers, and again when its link is lost
    #[arg(long, env = "DIATRIBE_DIAL", value_name = "ADDR")]
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
    /// Listen on /tls/ws addresses with this certificate chain (PEM)
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
    /// Tell peers to dial this address: behind a proxy or a forwarded port
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
    /// Read and write JSON lines, for programs (proto/output.schema.json)
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// Do not read stdin at all
    #[arg(long, env = "DIATRIBE_NO_INPUT", value_parser = FalseyValueParser::new())]
    pub(crate) no_input: bool,
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
    /// What to dial: a multiaddr, HOST:PORT, [IPV6]:PORT, or a ws:// or wss:// URL
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

impl Args {
    /// Reads the process's arguments and environment.
    pub(crate) fn read() -> Result<(Args, Given), clap::Error> {
        let matches = Args::command().try_get_matches()?;
        let args = Args::from_arg_matches(&matches)?;
        Ok((args, Given::new(innermost(&matches).clone())))
    }

    /// Whether a program reads what this command writes.
    pub(crate) fn json(&self) -> bool {
        match &self.command {
            Command::Node(args) => args.json,
            Command::Id(args) | Command::Key(KeyCommand::Show(args)) => args.json,
            Command::Check(args) => args.json,
            Command::Key(_) | Command::Completions { .. } => false,
        }
    }
}

/// Prints the completion script.
pub(crate) fn print_completions(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "diatribe", &mut script);
    // A reader that has gone away has read enough.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), &script);
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
