//! What the command line means: plain values, made once.
//!
//! Entry types: [`NodeConfig`], [`CheckConfig`], [`IdentityConfig`]. The rule they keep: whoever has
//! one need not look at an argument, an environment variable or a text that may not parse again.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;
use libp2p::{Multiaddr, PeerId};
use zeroize::Zeroizing;

use super::args::{
    CheckArgs, ConformanceArgs, DemoArgs, IdentityArgs, KeepArgs, NetworkArgs, NodeArgs, SyncChoice,
};
use super::failure::Failure;
use super::{folder, identity, listen, peers};
use crate::conformance::Mode;
use crate::identity::NetworkKey;
use crate::model::RoomName;
use crate::net::Address;
use crate::node::{DEFAULT_ROOM, EPHEMERAL_BYTES};
use crate::store::{self, RetentionPolicy};

/// The least that a log may be bounded to: its empty tables and indices take some of it.
const MIN_KEEP_BYTES: u64 = 1 << 20;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Where the passphrase is when no option says where it is.
pub(crate) const PASSPHRASE_VARIABLE: &str = "DIATRIBE_PASSPHRASE";

/// Number of earlier lines of a room that people see at the start: about a screen.
const DEFAULT_LAST: usize = 20;

/// What `diatribe node` is to do.
#[derive(Debug)]
pub(crate) struct NodeConfig {
    pub(crate) identity: IdentityConfig,
    /// None: the library's default.
    pub(crate) listen: Option<Vec<Multiaddr>>,
    pub(crate) dial: Vec<Address>,
    /// At least one; the first is where people begin.
    pub(crate) rooms: Vec<RoomName>,
    pub(crate) network: NetworkConfig,
    pub(crate) trust: Vec<PeerId>,
    pub(crate) deny: Vec<PeerId>,
    /// Where `trust` and `deny` came from, to read them again.
    pub(crate) lists: PeerLists,
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) announce: Vec<Address>,
    pub(crate) per_address_limit: Option<NonZeroU16>,
    pub(crate) exempt_loopback: bool,
    /// The most links, and below how many to seek fast.
    pub(crate) links: (usize, usize),
    pub(crate) keep: RetentionPolicy,
    /// How many neighbours must have stored what counts as sent.
    pub(crate) confirmed_by: usize,
    /// The log is in memory only.
    pub(crate) ephemeral: bool,
    /// So many events of each room are shown at the start.
    pub(crate) last: usize,
    pub(crate) json: bool,
    pub(crate) input: bool,
}

/// What `diatribe demo` is to do.
#[derive(Debug)]
pub(crate) struct DemoConfig {
    pub(crate) nodes: usize,
    pub(crate) json: bool,
}

/// What `diatribe check` is to do.
#[derive(Debug)]
pub(crate) struct CheckConfig {
    pub(crate) addresses: Vec<Address>,
    pub(crate) identity: IdentityConfig,
    pub(crate) network: NetworkConfig,
    pub(crate) json: bool,
}

/// What `diatribe conformance` is to do.
#[derive(Debug)]
pub(crate) struct ConformanceConfig {
    /// None: the cases are listed.
    pub(crate) target: Option<ConformanceTarget>,
    /// None: all.
    pub(crate) cases: Vec<String>,
    pub(crate) room: RoomName,
    pub(crate) identity: IdentityConfig,
    pub(crate) network: NetworkConfig,
    pub(crate) json: bool,
}

/// Where the peer under test is.
#[derive(Debug)]
pub(crate) enum ConformanceTarget {
    /// It listens there.
    Dial(Address),
    /// It dials these.
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

/// Which identity.
#[derive(Debug)]
pub(crate) struct IdentityConfig {
    pub(crate) folder: PathBuf,
    pub(crate) source: Source,
    pub(crate) salt: String,
    pub(crate) allow_weak: bool,
}

/// Where the identity comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The key in the data directory.
    Kept,
    /// A passphrase in a file.
    File(PathBuf),
    /// A passphrase in the first line of stdin.
    Stdin,
    /// A passphrase in the environment.
    Environment(Hidden),
    /// A passphrase that somebody types.
    Prompt,
}

/// A secret that is not printed.
pub(crate) struct Hidden(pub(crate) Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// Which network, and whom to believe on the way.
#[derive(Debug)]
pub(crate) struct NetworkConfig {
    pub(crate) key: Option<NetworkKey>,
    pub(crate) authorities: Vec<PathBuf>,
}

/// Which options were typed, and which came from the environment.
#[derive(Debug)]
pub(crate) struct ArgSources(ArgMatches);

impl ArgSources {
    pub(crate) fn new(matches: ArgMatches) -> ArgSources {
        ArgSources(matches)
    }

    fn source(&self, id: &str) -> Option<ValueSource> {
        match self.0.try_contains_id(id) {
            Ok(true) => self.0.value_source(id),
            _ => None,
        }
    }

    fn typed(&self, id: &str) -> bool {
        self.source(id) == Some(ValueSource::CommandLine)
    }

    /// The values of an option that may be repeated: in the environment, one text with commas.
    fn list(&self, id: &str, values: Vec<String>) -> Vec<String> {
        if self.source(id) != Some(ValueSource::EnvVariable) {
            return values;
        }
        values
            .iter()
            .flat_map(|v| v.split(','))
            .map(str::trim)
            .filter(|v| !v.is_empty())
            .map(str::to_owned)
            .collect()
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
        // An address that is typed goes before a variable that is meant for nodes.
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

impl IdentityConfig {
    pub(crate) fn read(args: IdentityArgs, given: &ArgSources) -> Result<IdentityConfig, Failure> {
        let source = source(&args, given)?;
        if given.typed("salt") && matches!(source, Source::Kept) {
            return Err(Failure::usage(
                "--salt goes with a passphrase, and none is given: the kept key has no salt",
            ));
        }
        Ok(IdentityConfig {
            folder: folder::resolve(args.data_dir)?,
            source,
            salt: args.salt.unwrap_or_default(),
            allow_weak: args.allow_weak_passphrase,
        })
    }
}

impl NetworkConfig {
    fn read(args: NetworkArgs, given: &ArgSources) -> Result<NetworkConfig, Failure> {
        let authorities: Vec<String> = args
            .tls_ca
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        let from_environment = given.list("tls_ca", authorities);
        Ok(NetworkConfig {
            key: args
                .network_key
                .map(|path| identity::network_key(&path))
                .transpose()?,
            authorities: match given.typed("tls_ca") {
                // As typed: a path need not be text.
                true => args.tls_ca,
                false => from_environment.into_iter().map(PathBuf::from).collect(),
            },
        })
    }
}

/// Where the identity comes from: what is typed goes before the environment, and there is one
/// answer at each of the two places.
fn source(args: &IdentityArgs, given: &ArgSources) -> Result<Source, Failure> {
    let named = [
        ("passphrase_file", args.passphrase_file.is_some()),
        ("passphrase_stdin", args.passphrase_stdin),
        ("passphrase", args.passphrase),
    ];
    let set: Vec<&str> = named
        .iter()
        .filter(|(_, set)| *set)
        .map(|(id, _)| *id)
        .collect();
    let typed: Vec<&str> = set.iter().copied().filter(|id| given.typed(id)).collect();
    let variable = std::env::var_os(PASSPHRASE_VARIABLE).filter(|value| !value.is_empty());
    let chosen = match (typed.as_slice(), set.as_slice(), &variable) {
        ([one], _, _) => Some(*one),
        ([], [one], None) => Some(*one),
        ([], [], _) => None,
        ([], _, _) => {
            return Err(Failure::usage(
                "the environment names several passphrases: keep one of DIATRIBE_PASSPHRASE, \
                 DIATRIBE_PASSPHRASE_FILE and DIATRIBE_PASSPHRASE_STDIN",
            ));
        }
        _ => {
            return Err(Failure::usage(
                "give one of --passphrase, --passphrase-file and --passphrase-stdin, not several",
            ));
        }
    };
    Ok(match (chosen, &args.passphrase_file, variable) {
        (Some("passphrase_file"), Some(path), _) => Source::File(path.clone()),
        (Some("passphrase_stdin"), _, _) => Source::Stdin,
        (Some(_), _, _) => Source::Prompt,
        (None, _, Some(value)) => {
            Source::Environment(Hidden(Zeroizing::new(value.into_encoded_bytes())))
        }
        (None, _, None) => Source::Kept,
    })
}

/// Whom to trust and whom to deny, as the options name them: ids, or files as `@FILE`.
#[derive(Debug)]
pub(crate) struct PeerLists {
    trust: Vec<String>,
    deny: Vec<String>,
}

impl PeerLists {
    /// Reads the trusted and the denied peers, files included.
    pub(crate) fn read(&self) -> Result<(Vec<PeerId>, Vec<PeerId>), Failure> {
        Ok((
            peers::read(&self.trust, "--trust")?,
            peers::read(&self.deny, "--deny")?,
        ))
    }
}

/// The allow-list. Without one, every peer that proves its key is let in: so one that is set and empty is refused.
fn trusted(given: &ArgSources, values: Vec<String>) -> Result<Vec<String>, Failure> {
    let is_set = !values.is_empty();
    let values = given.list("trust", values);
    if is_set && values.is_empty() {
        return Err(Failure::usage(
            "DIATRIBE_TRUST is set and names nobody, which would let everybody in: name peers, or unset it",
        ));
    }
    Ok(values)
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

/// How many neighbours must have stored what counts as sent, of `most` that there can be.
fn confirmed_by(sync: SyncChoice, most: usize) -> Result<usize, Failure> {
    match sync {
        SyncChoice::Neighbours(n) if n > most => Err(Failure::usage(format!(
            "--sync neighbours={n}: the node has at most {most} neighbours, so that nothing could be confirmed; ask for fewer, \
             or set --max-links"
        ))),
        SyncChoice::Neighbours(n) => Ok(n),
        SyncChoice::Full | SyncChoice::Normal => Ok(0),
    }
}

/// The bounds of a log that no node writes.
pub(crate) fn keep_of_log(args: &KeepArgs) -> Result<RetentionPolicy, Failure> {
    match args.sync {
        SyncChoice::Neighbours(_) => Err(Failure::usage(
            "--sync neighbours is for a node, which has neighbours: give full or normal",
        )),
        SyncChoice::Full | SyncChoice::Normal => keep(args, false),
    }
}

/// The bounds of a log.
pub(crate) fn keep(args: &KeepArgs, ephemeral: bool) -> Result<RetentionPolicy, Failure> {
    let mut keep = RetentionPolicy {
        sync: match args.sync {
            SyncChoice::Full => store::Sync::Full,
            SyncChoice::Normal | SyncChoice::Neighbours(_) => store::Sync::Normal,
        },
        ..RetentionPolicy::default()
    };
    if let Some(days) = args.keep_days {
        keep.age = DAY * days;
    }
    if let Some(text) = &args.keep_bytes {
        keep.bytes = size(text).map_err(|reason| {
            Failure::usage(format!(
                "--keep-bytes {text:?}: {reason}; write for example 500M or 2G"
            ))
        })?;
    } else if ephemeral {
        keep.bytes = EPHEMERAL_BYTES;
    }
    Ok(keep)
}

/// Bytes as people write them: a number, and K, M, G or T for powers of 1,024, with iB or B if wanted.
fn size(text: &str) -> Result<u64, &'static str> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| "that is no size")?;
    let power = match &*text[digits.len()..].trim().to_ascii_lowercase() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err("that unit is not known"),
    };
    match number.checked_mul(1024_u64.pow(power)) {
        None => Err("that is more than any disk has"),
        Some(bytes) if bytes < MIN_KEEP_BYTES => Err("a log takes at least 1M"),
        Some(bytes) => Ok(bytes),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(size("1048576"), Ok(1 << 20));
        assert_eq!(size("500M"), Ok(500 << 20));
        assert_eq!(size(" 2 GiB "), Ok(2 << 30));
        assert_eq!(size("1t"), Ok(1 << 40));
        for wrong in ["", "G", "2X", "-1G", "1.5G", "10k", "99999999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
