//! Resolves host names to IP addresses with the resolver of the operating system.
//!
//! Entry type: [`Resolver`]. The rules it keeps: the machine's network configuration is read only when a name needs it,
//! and is not cached: the system reads its hosts file and its list of name servers for each lookup. A lookup outlives a
//! dial that gives up, and the next dial of that name uses its result, so that a dial succeeds in the end even if a
//! name server takes longer than a dial may.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;
use futures::future::{BoxFuture, FutureExt, Shared};

use super::stage::{Stage, StageError};

/// Maximum number of lookups at a time: each occupies a thread until the system answers, which can take tens of seconds
/// without a reachable name server. Only the operator names hosts, seldom more than a handful.
const MAX_LOOKUPS: usize = 32;

/// A lookup in progress, or a result that no dial has used yet.
type Lookup = Shared<BoxFuture<'static, Result<Vec<IpAddr>, StageError>>>;

/// Runs each lookup in a thread of its own, because the system's interface blocks.
#[derive(Clone, Default)]
pub(super) struct Resolver {
    lookups: Arc<Mutex<HashMap<String, Lookup>>>,
}

impl Resolver {
    /// Returns the IP addresses of `name`, at least one.
    ///
    /// # Errors
    ///
    /// An error of [`Stage::Resolve`] with the reason and a remedy.
    pub(super) async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, StageError> {
        let lookup = self.begin(name)?;
        let found = lookup.clone().await;
        let mut lookups = self.lock();
        if lookups.get(name).is_some_and(|known| known.ptr_eq(&lookup)) {
            lookups.remove(name);
        }
        found
    }

    /// Returns the lookup of `name` in progress, or starts one.
    fn begin(&self, name: &str) -> Result<Lookup, StageError> {
        let mut lookups = self.lock();
        if let Some(lookup) = lookups.get(name) {
            return Ok(lookup.clone());
        }
        // Unused results are dropped to make room.
        if lookups.len() >= MAX_LOOKUPS {
            lookups.retain(|_, lookup| lookup.peek().is_none());
        }
        if lookups.len() >= MAX_LOOKUPS {
            let reason = format!(
                "{name} is not looked up: {MAX_LOOKUPS} other resolver still wait for the name servers; is this machine online?"
            );
            return Err(StageError::new(Stage::Resolve, reason));
        }
        let lookup = spawn_lookup(name.to_owned())?;
        lookups.insert(name.to_owned(), lookup.clone());
        Ok(lookup)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Lookup>> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the system in a detached thread, so that the end of the runtime does not wait for it.
fn spawn_lookup(name: String) -> Result<Lookup, StageError> {
    let (answer, answered) = oneshot::channel();
    let asked = name.clone();
    let ask = move || {
        // The receiver may be gone.
        let _ = answer.send(addresses_of(&asked));
    };
    std::thread::Builder::new()
        .name("lookup".to_owned())
        .spawn(ask)
        .map_err(|error| {
            let reason = format!("{name} cannot be looked up: no thread can be started ({error})");
            StageError::new(Stage::Resolve, reason)
        })?;
    let found = answered.map(move |answer| {
        answer.unwrap_or_else(|_| {
            let reason = format!("{name} cannot be looked up: the lookup ended without an answer");
            Err(StageError::new(Stage::Resolve, reason))
        })
    });
    Ok(found.boxed().shared())
}

/// Asks the system, and blocks until it answers.
fn addresses_of(name: &str) -> Result<Vec<IpAddr>, StageError> {
    let found = (name, 0).to_socket_addrs();
    let mut addresses = Vec::new();
    for address in found.iter().cloned().flatten() {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    match found {
        Ok(_) if !addresses.is_empty() => Ok(addresses),
        // RFC 6761, section 6.3: localhost is this machine, whether or not the hosts file has it.
        _ if is_localhost(name) => Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]),
        Ok(_) => Err(StageError::new(Stage::Resolve, no_such_host(name))),
        Err(error) => Err(StageError::new(Stage::Resolve, of_lookup(name, &error))),
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.eq_ignore_ascii_case("localhost")
}

/// Returns the socket address of a link-local address on the interface `zone` of this machine.
///
/// # Errors
///
/// The machine has no interface of that name.
pub(super) fn link_local_socket(ip: Ipv6Addr, zone: &str, port: u16) -> io::Result<SocketAddrV6> {
    // This is a numeric address with an interface: no name server is asked.
    let mut found = (format!("{ip}%{zone}").as_str(), port)
        .to_socket_addrs()
        .into_iter()
        .flatten();
    found
        .find_map(|address| match address {
            SocketAddr::V6(address) if address.scope_id() != 0 => Some(address),
            _ => None,
        })
        .ok_or_else(|| {
            let reason = format!("this machine has no network interface `{zone}`");
            io::Error::new(io::ErrorKind::AddrNotAvailable, reason)
        })
}

/// Explains a failed lookup for people.
fn of_lookup(name: &str, error: &io::Error) -> String {
    let text = error.to_string();
    let is_unknown = [
        "Name or service not known",
        "No address associated with hostname",
        "nodename nor servname provided",
        "Name does not resolve",
        "No such host is known",
    ];
    if is_unknown.iter().any(|part| text.contains(part)) {
        return no_such_host(name);
    }
    let name = name.trim_end_matches('.');
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text);
    format!(
        "{name} cannot be looked up ({text}): no name server answers, or none is configured; is this machine online? An IP \
         address can be dialled without one, and so can a name in the hosts file"
    )
}

fn no_such_host(name: &str) -> String {
    let name = name.trim_end_matches('.');
    format!("there is no host called {name}: is it spelt right, and does it have an address?")
}

#[cfg(test)]
mod tests;
