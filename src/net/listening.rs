//! Starts the listeners of a node, and decides about addresses that the machine lacks.
//!
//! Entry function: [`listen`]. The rule it keeps: a node starts on the addresses that the machine has, warns of those
//! it lacks, and fails with a remedy when none is left; it never waits for an address that may not appear.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use libp2p::Multiaddr;
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use tokio::time::{Instant, timeout_at};

use super::tls::{CANNOT_LISTEN, TlsFiles};
use super::{diagnosis, port_check};
use crate::wire;

/// Timeout for the interfaces behind `::` or `0.0.0.0`. The system lists them at once; a machine without the family
/// (IPv6 disabled, as in many containers) never lists any.
const INTERFACES_TIMEOUT: Duration = Duration::from_millis(500);

/// Events that a swarm emitted before its event loop ran.
type Early<B> = Vec<SwarmEvent<<B as NetworkBehaviour>::ToSwarm>>;

/// An address that cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenError {
    /// One address is refused.
    Address {
        /// The address as it was given.
        address: String,
        /// The cause and the remedy.
        reason: String,
    },
    /// No network interface of the machine is up. The text names the remedy.
    NoInterface(String),
}

/// Listens on each of `wanted`, and waits until the system has confirmed each. Returns the addresses, and the events
/// that arrived meanwhile (a dial of the overlay, a first client), which the event loop has to handle.
///
/// # Errors
///
/// An address that cannot be listened on, with a remedy. For an address that means all interfaces (`::`, `0.0.0.0`) a
/// missing family is only logged, as long as another address remains.
pub(crate) async fn listen<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    wanted: Vec<Multiaddr>,
    tls: &TlsFiles,
) -> Result<(Vec<Multiaddr>, Early<B>), ListenError> {
    check_certificate(&wanted, tls)?;
    for address in &wanted {
        port_check::check_free(address).map_err(|reason| ListenError::Address {
            address: address.to_string(),
            reason,
        })?;
    }
    let is_dialing_only = wanted.is_empty();
    let waiting = begin(swarm, wanted, tls)?;
    let (addresses, early) = wait(swarm, waiting).await?;
    if addresses.is_empty() && !is_dialing_only {
        return Err(ListenError::NoInterface(
            "no network interface of this machine is up, not even the loopback one: bring one up \
             (`ip link set lo up`), or name an address with --listen"
                .to_owned(),
        ));
    }
    Ok((addresses, early))
}

/// A certificate that no address uses is a mistake: traffic meant for TLS would be without it.
fn check_certificate(wanted: &[Multiaddr], tls: &TlsFiles) -> Result<(), ListenError> {
    let Some(first) = wanted.first() else {
        return Ok(());
    };
    if tls.certificate.is_none() || wanted.iter().any(is_secure) {
        return Ok(());
    }
    let mut secure = first.clone();
    secure.pop();
    let secure = secure.with(Protocol::Tls).with(Protocol::Ws("/".into()));
    Err(ListenError::Address {
        address: first.to_string(),
        reason: format!(
            "a TLS certificate is given, and no address would use it: write --listen {secure}, or leave the certificate out"
        ),
    })
}

fn is_secure(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    parts.any(|part| matches!(part, Protocol::Tls | Protocol::Wss(_)))
}

/// Starts a listener for each address.
fn begin<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    wanted: Vec<Multiaddr>,
    tls: &TlsFiles,
) -> Result<HashMap<ListenerId, Multiaddr>, ListenError> {
    let mut waiting = HashMap::new();
    let mut first_error = None;
    for address in wanted {
        match swarm.listen_on(address.clone()) {
            Ok(id) => {
                waiting.insert(id, address);
            }
            // A machine may lack IPv6 or IPv4: the other family suffices.
            Err(error) if stands_for_all(&address) && is_missing_family(&error) => {
                tracing::warn!(%address, "not listened on: the machine has no such addresses");
                first_error.get_or_insert(listen_error(&address, &error, tls));
            }
            Err(error) => return Err(listen_error(&address, &error, tls)),
        }
    }
    match first_error {
        Some(error) if waiting.is_empty() => Err(error),
        _ => Ok(waiting),
    }
}

/// Waits until all listeners are confirmed; at most [`INTERFACES_TIMEOUT`] for the interfaces behind `::` and
/// `0.0.0.0`.
async fn wait<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    mut waiting: HashMap<ListenerId, Multiaddr>,
) -> Result<(Vec<Multiaddr>, Early<B>), ListenError> {
    let (mut addresses, mut early) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    let deadline = Instant::now() + INTERFACES_TIMEOUT;
    while !waiting.is_empty() {
        let is_optional = waiting.values().all(stands_for_all);
        let event = match is_optional {
            true => match timeout_at(deadline, swarm.select_next_some()).await {
                Ok(event) => event,
                Err(_) => break,
            },
            false => swarm.select_next_some().await,
        };
        match event {
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } => {
                waiting.remove(&listener_id);
                seen.insert(listener_id);
                addresses.push(address);
            }
            SwarmEvent::ListenerClosed {
                listener_id,
                reason: Err(error),
                ..
            } if !seen.contains(&listener_id) => {
                let address = waiting.get(&listener_id).map(ToString::to_string);
                return Err(ListenError::Address {
                    address: address.unwrap_or_default(),
                    reason: error.to_string(),
                });
            }
            other => early.push(other),
        }
    }
    for address in waiting.values() {
        tracing::warn!(
            %address,
            "no network interface has an address of this family yet: nobody can dial this node there until one has"
        );
    }
    // An address like `::` expands to several, which are known at once.
    while let Some(event) = swarm.select_next_some().now_or_never() {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => addresses.push(address),
            other => {
                early.push(other);
                break;
            }
        }
    }
    Ok((addresses, early))
}

/// Returns whether the address means every interface of its family.
fn stands_for_all(address: &Multiaddr) -> bool {
    wire::ip_of(address).is_some_and(|ip| ip.is_unspecified())
}

fn is_missing_family(error: &TransportError<io::Error>) -> bool {
    let reason = diagnosis::stage_of(error).reason;
    reason.contains("Address family not supported")
        || reason.contains("annot assign requested address")
}

fn listen_error(
    address: &Multiaddr,
    error: &TransportError<io::Error>,
    tls: &TlsFiles,
) -> ListenError {
    let mut reason = diagnosis::stage_of(error).reason;
    let secure = is_secure(address);
    if reason.contains("in use") {
        reason =
            "another program has the port; stop it, or choose another port with --listen".into();
    } else if reason.contains("ermission denied") {
        reason = "the system does not permit it; choose a port above 1023 with --listen".into();
    } else if reason.contains("annot assign") || reason.contains("Address family not supported") {
        reason = "the machine has no such address (IPv6 may be switched off); choose one that it has, for example \
                  --listen 0.0.0.0:9000"
            .into();
    } else if secure && tls.certificate.is_none() {
        reason = CANNOT_LISTEN.into();
    }
    ListenError::Address {
        address: address.to_string(),
        reason,
    }
}
