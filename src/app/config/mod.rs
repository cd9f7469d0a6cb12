//! Turns the command line into plain values, once.
//!
//! Entry types: [`NodeConfig`], [`CheckConfig`], [`IdentityConfig`]. The rule they keep: a configuration is complete and
//! valid; no argument, environment variable or text needs to be parsed again.
//!
//! * `sources` tells typed options from environment variables; `identity`, `network` and `retention` read groups of options.

mod identity;
mod network;
mod retention;
mod sources;

use std::num::NonZeroU16;
use std::path::PathBuf;

use libp2p::{Multiaddr, PeerId};

use super::args::{CheckArgs, ConformanceArgs, DemoArgs, NodeArgs};
use super::failure::Failure;
use super::listen;
use crate::conformance::Mode;
use crate::model::RoomName;
use crate::net::Address;
use crate::node::DEFAULT_ROOM;
use crate::store::RetentionPolicy;

pub(crate) use identity::{IdentityConfig, PASSPHRASE_VARIABLE, Source};
use network::trusted;
pub(crate) use network::{NetworkConfig, PeerLists};
use retention::confirmed_by;
pub(crate) use retention::{keep, keep_of_log};
pub(crate) use sources::ArgSources;

/// Number of earlier lines of a room that people see at the start: about a screen.
const DEFAULT_LAST: usize = 20;

/// Configuration of `diatribe node`.
#[derive(Debug)]
pub(crate) struct NodeConfig {
    pub(crate) identity: IdentityConfig,
    /// Addresses to listen on; none: the library's defaults.
    pub(crate) listen: Option<Vec<Multiaddr>>,
    pub(crate) dial: Vec<Address>,
    /// Rooms to join, at least one; the first is current at the start.
    pub(crate) rooms: Vec<RoomName>,
    pub(crate) network: NetworkConfig,
    pub(crate) trust: Vec<PeerId>,
    pub(crate) deny: Vec<PeerId>,
    /// Sources of `trust` and `deny`, to read them again.
    pub(crate) lists: PeerLists,
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) announce: Vec<Address>,
    pub(crate) per_address_limit: Option<NonZeroU16>,
    pub(crate) exempt_loopback: bool,
    /// Maximum number of links, and the number below which peers are sought urgently.
    pub(crate) links: (usize, usize),
    pub(crate) keep: RetentionPolicy,
    /// Number of neighbours that must have stored a message before it counts as sent.
    pub(crate) confirmed_by: usize,
    /// Whether the log is kept in memory only.
    pub(crate) ephemeral: bool,
    /// Number of events of each room to show at the start.
    pub(crate) last: usize,
    pub(crate) json: bool,
    pub(crate) input: bool,
}

/// Configuration of `diatribe demo`.
#[derive(Debug)]
pub(crate) struct DemoConfig {
    pub(crate) nodes: usize,
    pub(crate) json: bool,
}

/// Configuration of `diatribe check`.
#[derive(Debug)]
pub(crate) struct CheckConfig {
    pub(crate) addresses: Vec<Address>,
    pub(crate) identity: IdentityConfig,
    pub(crate) network: NetworkConfig,
    pub(crate) json: bool,
}

/// Configuration of `diatribe conformance`.
#[derive(Debug)]
pub(crate) struct ConformanceConfig {
    /// The peer under test; none: the cases are listed.
    pub(crate) target: Option<ConformanceTarget>,
    /// Names of the cases to run; none: all.
    pub(crate) cases: Vec<String>,
    pub(crate) room: RoomName,
    pub(crate) identity: IdentityConfig,
    pub(crate) network: NetworkConfig,
    pub(crate) json: bool,
}

/// Direction of the first connection with the peer under test.
#[derive(Debug)]
pub(crate) enum ConformanceTarget {
    /// The peer listens on this address.
    Dial(Address),
    /// The peer dials these addresses.
    Listen(Vec<Multiaddr>),
}

impl ConformanceTarget {
    pub(crate) fn mode(&self) -> Mode {
        match self {
            ConformanceTarget::Dial(_) => Mode::Dial,
            ConformanceTarget::Listen(_) => Mode::Listen,
        }
    }
}

impl NodeConfig {
    pub(crate) fn read(args: NodeArgs, given: &ArgSources) -> Result<NodeConfig, Failure> {
        let listen = given.list("listen", args.listen);
        let lists = PeerLists {
            trust: trusted(given, args.trust)?,
            deny: given.list("deny", args.deny),
        };
        let (trust, deny) = lists.read()?;
        let rooms = given.list("room", args.room);
        let rooms = match rooms.is_empty() {
            true => vec![DEFAULT_ROOM.to_owned()],
            false => rooms,
        };
        Ok(NodeConfig {
            listen: match listen.is_empty() {
                true => None,
                false => Some(listen::parse_all(&listen, args.tls_cert.is_some())?),
            },
            dial: addresses(&given.list("dial", args.dial), "--dial")?,
            rooms: rooms
                .iter()
                .map(|room| {
                    room.parse()
                        .map_err(|e| Failure::usage(format!("--room {room:?}: {e}")))
                })
                .collect::<Result<_, _>>()?,
            identity: IdentityConfig::read(args.identity, given)?,
            network: NetworkConfig::read(args.network, given)?,
            trust,
            deny,
            lists,
            certificate: args.tls_cert.zip(args.tls_key),
            announce: addresses(&given.list("announce", args.announce), "--announce")?,
            per_address_limit: args.per_address_limit,
            exempt_loopback: args.exempt_loopback,
            links: links(args.max_links, args.min_links)?,
            keep: keep(&args.keep, args.ephemeral)?,
            confirmed_by: confirmed_by(args.keep.sync, args.max_links.into())?,
            ephemeral: args.ephemeral,
            last: args
                .last
                .unwrap_or(if args.json { 0 } else { DEFAULT_LAST }),
            json: args.json,
            input: !args.no_input,
        })
    }
}

impl DemoConfig {
    pub(crate) fn read(args: &DemoArgs) -> DemoConfig {
        DemoConfig {
            nodes: usize::from(args.nodes),
            json: args.json,
        }
    }
}

impl CheckConfig {
    pub(crate) fn read(args: CheckArgs, given: &ArgSources) -> Result<CheckConfig, Failure> {
        Ok(CheckConfig {
            addresses: addresses(&args.addresses, "check")?,
            identity: IdentityConfig::read(args.identity, given)?,
            network: NetworkConfig::read(args.network, given)?,
            json: args.json,
        })
    }
}

impl ConformanceConfig {
    pub(crate) fn read(
        args: ConformanceArgs,
        given: &ArgSources,
    ) -> Result<ConformanceConfig, Failure> {
        let listen = given.list("listen", args.listen);
        // A typed address takes precedence over DIATRIBE_LISTEN, which is meant for nodes.
        let listens = !listen.is_empty() && (args.address.is_none() || given.typed("listen"));
        let target = match (args.address, listens) {
            _ if args.list => None,
            (Some(_), true) => {
                return Err(Failure::usage(
                    "give the address of a peer to dial, or --listen for a peer that dials, not both",
                ));
            }
            (Some(address), false) => {
                let address = addresses(&[address], "conformance")?.into_iter().next();
                address.map(ConformanceTarget::Dial)
            }
            (None, true) => Some(ConformanceTarget::Listen(listen::parse_all(
                &listen, false,
            )?)),
            (None, false) => {
                return Err(Failure::usage(
                    "name the peer: its address, or --listen for a peer that dials; --list prints the cases",
                ));
            }
        };
        Ok(ConformanceConfig {
            target,
            cases: given.list("case", args.case),
            room: args
                .room
                .parse()
                .map_err(|e| Failure::usage(format!("--room {:?}: {e}", args.room)))?,
            identity: IdentityConfig::read(args.identity, given)?,
            network: NetworkConfig::read(args.network, given)?,
            json: args.json,
        })
    }
}

fn links(most: u8, least: u8) -> Result<(usize, usize), Failure> {
    match least <= most {
        true => Ok((most.into(), least.into())),
        false => Err(Failure::usage(format!(
            "--min-links {least} is more than --max-links {most}: a node that may not have what it \
             needs would seek for ever"
        ))),
    }
}

fn addresses(texts: &[String], option: &str) -> Result<Vec<Address>, Failure> {
    texts
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|e| Failure::usage(format!("{option}: {e}")))
        })
        .collect()
}
