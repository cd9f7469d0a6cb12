//! Options of `diatribe node`.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::value_parser;

use super::{IdentityArgs, KeepArgs, NetworkArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct NodeArgs {
    /// Listen on this multiaddr, IP:PORT or port
    /// [default: /ip6/::/tcp/9000/ws and /ip4/0.0.0.0/tcp/9000/ws]
    #[arg(long, env = "DIATRIBE_LISTEN", value_name = "ADDR")]
    pub(crate) listen: Vec<String>,
    /// Dial this address to join: until it answers once, and again when links are lost
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
    /// Link only with this peer, or with those in a file (one PeerId a line, # starts a comment)
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
    /// Certificate chain (PEM) for listening with TLS. A port, IP:PORT and the default then mean /tls/ws. A renewed file is
    /// used within 10 seconds
    #[arg(
        long,
        env = "DIATRIBE_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key",
        help_heading = "Network"
    )]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the certificate
    #[arg(
        long,
        env = "DIATRIBE_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert",
        help_heading = "Network"
    )]
    pub(crate) tls_key: Option<PathBuf>,
    /// Announce this address to peers, for a node behind a proxy or a forwarded port. Only IP addresses are announced. Every
    /// incoming connection then counts as one from the internet, since a proxy may forward it
    #[arg(
        long,
        env = "DIATRIBE_ANNOUNCE",
        value_name = "ADDR",
        help_heading = "Network"
    )]
    pub(crate) announce: Vec<String>,
    /// Maximum number of connections from one address that wait for their handshake [default: 4]
    #[arg(
        long,
        env = "DIATRIBE_PER_ADDRESS_LIMIT",
        value_name = "N",
        help_heading = "Network"
    )]
    pub(crate) per_address_limit: Option<std::num::NonZeroU16>,
    /// Do not count loopback addresses in --per-address-limit, for many nodes on one machine
    #[arg(long, env = "DIATRIBE_EXEMPT_LOOPBACK", value_parser = FalseyValueParser::new(), help_heading = "Network")]
    pub(crate) exempt_loopback: bool,
    /// Maximum number of links; one more is allowed during a handover
    #[arg(long, env = "DIATRIBE_MAX_LINKS", value_name = "N", default_value_t = 5, value_parser = value_parser!(u8).range(2..=64), help_heading = "Network")]
    pub(crate) max_links: u8,
    /// Number of links below which the node looks for peers urgently
    #[arg(long, env = "DIATRIBE_MIN_LINKS", value_name = "N", default_value_t = 2, value_parser = value_parser!(u8).range(1..=64), help_heading = "Network")]
    pub(crate) min_links: u8,
    #[command(flatten)]
    pub(crate) keep: KeepArgs,
    /// Keep the log in memory only, up to 64M unless --keep-bytes is given
    #[arg(long, env = "DIATRIBE_EPHEMERAL", value_parser = FalseyValueParser::new(), help_heading = "Log")]
    pub(crate) ephemeral: bool,
    /// Show the last N lines of each room at the start [default: 20, with --json 0]
    #[arg(long, env = "DIATRIBE_LAST", value_name = "N", help_heading = "Log")]
    pub(crate) last: Option<usize>,
    /// Read and write JSON lines, for programs (proto/output.schema.json)
    #[arg(long, env = "DIATRIBE_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// Do not read stdin
    #[arg(long, env = "DIATRIBE_NO_INPUT", value_parser = FalseyValueParser::new())]
    pub(crate) no_input: bool,
}
