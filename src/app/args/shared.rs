//! Options that several commands share: identity, network, log.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;

/// Options that select the identity, for all commands that need one.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Identity")]
pub(crate) struct IdentityArgs {
    /// Directory of the node's key and log [default: the platform's data directory]
    #[arg(long, env = "DIATRIBE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Derive the identity from the passphrase in this file
    #[arg(long, env = "DIATRIBE_PASSPHRASE_FILE", value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Derive the identity from the passphrase in the first line of stdin
    #[arg(long, env = "DIATRIBE_PASSPHRASE_STDIN", value_parser = FalseyValueParser::new())]
    pub(crate) passphrase_stdin: bool,
    /// Prompt for the passphrase. Without this option, DIATRIBE_PASSPHRASE is used if set
    #[arg(long)]
    pub(crate) passphrase: bool,
    /// Derive a different identity from the same passphrase (any text)
    #[arg(
        long,
        env = "DIATRIBE_SALT",
        value_name = "TEXT",
        hide_env_values = true
    )]
    pub(crate) salt: Option<String>,
    /// Accept a weak passphrase
    #[arg(long, env = "DIATRIBE_ALLOW_WEAK_PASSPHRASE", value_parser = FalseyValueParser::new())]
    pub(crate) allow_weak_passphrase: bool,
}

/// Options that select the network.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Link only with nodes that have the same network key, made with `diatribe key network FILE`
    #[arg(long, env = "DIATRIBE_NETWORK_KEY", value_name = "FILE")]
    pub(crate) network_key: Option<PathBuf>,
    /// Trust this certificate (PEM) when dialling, in addition to the usual authorities: an authority's or a self-signed one
    #[arg(long, env = "DIATRIBE_TLS_CA", value_name = "FILE")]
    pub(crate) tls_ca: Vec<PathBuf>,
}

/// Options for retention and durability of the log, for all commands that write it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Log")]
pub(crate) struct KeepArgs {
    /// Keep messages for N days [default: 30]
    #[arg(long, env = "DIATRIBE_KEEP_DAYS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) keep_days: Option<u32>,
    /// Maximum size of the log, like 500M or 2G. When it is full, the oldest messages of the author that takes most are
    /// removed first [default: 1G]
    #[arg(long, env = "DIATRIBE_KEEP_BYTES", value_name = "SIZE")]
    pub(crate) keep_bytes: Option<String>,
    /// Durability against a power cut: full, normal or neighbours. A crash of the program loses nothing in any mode
    ///
    /// full: no acknowledged message is lost, because each write waits for the disk. normal: the messages of the last
    /// moments may be lost. neighbours, or neighbours=N: as normal, and a message is acknowledged (`sent`) only when N
    /// linked nodes (default 1) have confirmed that they stored it; without that within 10 s it is an error
    #[arg(long, env = "DIATRIBE_SYNC", value_name = "full|normal|neighbours[=N]", default_value = "normal", value_parser = sync_choice)]
    pub(crate) sync: SyncChoice,
}

/// Durability of acknowledged messages against a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncChoice {
    /// Every acknowledged message: each write waits for the disk.
    Full,
    /// Every message except those of the last moments.
    Normal,
    /// As [`SyncChoice::Normal`]; in addition this number of neighbours has stored each acknowledged message.
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

/// Option that selects the log.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// Directory of the node's log [default: the platform's data directory]
    #[arg(long, env = "DIATRIBE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}
