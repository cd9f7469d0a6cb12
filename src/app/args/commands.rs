//! Options of `diatribe demo`, `id`, `check` and `conformance`.

use clap::builder::FalseyValueParser;
use clap::value_parser;

use super::{IdentityArgs, NetworkArgs};
use crate::node::DEFAULT_ROOM;

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Number of nodes
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
    /// Address to dial: a multiaddr, HOST:PORT, [IPV6]:PORT, [fe80::…%INTERFACE]:PORT, a port of this machine, or a ws:// or
    /// wss:// URL
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
    /// Address of the peer to dial: a multiaddr, HOST:PORT, [IPV6]:PORT, or a ws:// or wss:// URL
    #[arg(value_name = "ADDR")]
    pub(crate) address: Option<String>,
    /// Wait for the peer to dial this address instead: a multiaddr, IP:PORT, or a port (0: a free one)
    #[arg(long, env = "DIATRIBE_LISTEN", value_name = "ADDR")]
    pub(crate) listen: Vec<String>,
    /// Run only this case (repeatable)
    #[arg(long, env = "DIATRIBE_CASE", value_name = "NAME")]
    pub(crate) case: Vec<String>,
    /// Print the cases instead of running them
    #[arg(long, env = "DIATRIBE_LIST", value_parser = FalseyValueParser::new())]
    pub(crate) list: bool,
    /// Room that the peer is in
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
