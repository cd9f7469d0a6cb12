//! Runs `diatribe node`: a node between stdin and stdout, until a signal or /quit ends it.
//!
//! Entry function: [`run`]. The rule it keeps: whatever ends it, the links are closed in order, the output is whole,
//! and it ends within two seconds.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use libp2p::Multiaddr;
use tokio::sync::oneshot::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::config::{NodeConfig, PeerLists};
use super::failure::Failure;
use super::folder::{self, Lock};
use super::identity;
use super::input::{self, End};
use super::log;
use super::output::{self, EndOutput, Ended, Output, Record};
use super::signals::{Reloads, Signals};
use crate::identity::Identity;
use crate::model::RoomName;
use crate::net::Address;
use crate::node::{Node, StartError};
use crate::overlay::PeerAddress;

/// Timeout for closing the links. With [`FLUSH_TIMEOUT`] and [`LAST_LINE_TIMEOUT`] it stays under the promised two seconds.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(1200);
/// Timeout for writing the rest of the output, which may need longer.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(400);
/// Timeout for the last line of the output, which counts the lines left out; its reader may have stopped reading.
const LAST_LINE_TIMEOUT: Duration = Duration::from_millis(100);
/// Exit code that shells report after SIGINT.
const INTERRUPTED: i32 = 130;

/// Runs a node until a signal, /quit or a failure ends it.
pub(crate) fn run(config: NodeConfig) -> Result<ExitCode, Failure> {
    // A node without a log on disk can do without a writable directory.
    let is_kept = !config.ephemeral || folder::is_writable(&config.identity.folder);
    let lock = match is_kept {
        true => Some(Lock::take(&config.identity.folder)?),
        false => None,
    };
    let identity = match is_kept {
        true => identity::open(&config.identity)?,
        false => identity::open_unkept(&config.identity)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("the program cannot start: {e}")))?;
    let result = runtime.block_on(serve(config, identity));
    // Work that still runs, such as a DNS lookup, is abandoned.
    runtime.shutdown_background();
    drop(lock);
    result.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: NodeConfig, identity: Identity) -> Result<(), Failure> {
    let no_signals = |e| Failure::new(format!("signal handlers cannot be installed: {e}"));
    let mut signals = Signals::listen().map_err(no_signals)?;
    let reloads = Reloads::listen().map_err(no_signals)?;
    // Read before the node starts: later messages are reported as events, and only once.
    let past = match config.ephemeral {
        true => Vec::new(),
        false => log::last_of(&config.identity.folder, &config.rooms, config.last)?,
    };
    let (node, events) = tokio::select! {
        started = start(&config, identity) => started?,
        // There are no links yet that would have to be closed.
        () = signals.next() => return Ok(()),
    };
    let first = vec![online(&node, &config.rooms), Record::Past(past)];
    let (output, mut written) = Output::start(config.json, events, first)
        .map_err(|e| Failure::new(format!("the program cannot start: {e}")))?;
    for address in config.dial {
        node.keep_dialing(address).await;
    }
    let reloading = tokio::spawn(reload(reloads, config.lists, node.clone(), output.clone()));
    let (node_of_input, output_of_input) = (node.clone(), output.clone());
    let input = tokio::spawn(async move {
        match config.input {
            true => input::run(node_of_input, output_of_input, config.rooms, config.json).await,
            false => End::Closed,
        }
    });
    let reading = input.abort_handle();
    let mut ended_early = None;
    let result = tokio::select! {
        () = signals.next() => Ok(()),
        result = quit(input) => result,
        ended = &mut written => {
            ended_early = Some(ended);
            Ok(())
        }
    };
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(INTERRUPTED);
    });
    if timeout(SHUTDOWN_TIMEOUT, node.shutdown()).await.is_err() {
        tracing::warn!("not every link could be closed in order");
    }
    reading.abort();
    reloading.abort();
    let failure = node.failure();
    let end = output.end();
    drop((node, output));
    let written = match ended_early {
        Some(ended) => judge(ended),
        None => finish(written, &end).await,
    };
    match failure {
        Some(failure) => Err(Failure::of_node(&failure)),
        None => result.and(written),
    }
}

/// Returns the first line of the output.
fn online(node: &Node, rooms: &[RoomName]) -> Record {
    Record::Online {
        peer_id: node.peer_id(),
        addresses: node.addresses().to_vec(),
        rooms: rooms.to_vec(),
    }
}

/// Waits until the person quits. The end of a pipe does not end the node.
///
/// # Errors
///
/// Fails when the task that reads stdin has failed.
async fn quit(input: JoinHandle<End>) -> Result<(), Failure> {
    match input.await {
        Ok(End::Quit) => Ok(()),
        Ok(End::Closed) => std::future::pending().await,
        Err(error) => Err(Failure::new(format!(
            "the task that reads stdin has failed: {error}; report this as a fault of the program"
        ))),
    }
}

/// Reads the lists of peers and the TLS certificate again on each SIGHUP. Files that cannot be read change nothing.
async fn reload(mut reloads: Reloads, lists: PeerLists, node: Node, output: Output) {
    loop {
        reloads.next().await;
        match lists.read() {
            Ok((trust, deny)) => {
                let text = match (trust.len(), deny.len()) {
                    (0, denied) => {
                        format!("peer lists read again: all are trusted, {denied} are denied")
                    }
                    (trusted, denied) => {
                        format!("peer lists read again: {trusted} are trusted, {denied} are denied")
                    }
                };
                node.set_peer_lists(trust, deny).await;
                output.notice(text).await;
            }
            Err(failure) => {
                let text = format!("the peer lists stay as they were: {failure}");
                tracing::warn!("{text}");
                output.error(text).await;
            }
        }
        match node.reload_certificate() {
            None => {}
            Some(Ok(until)) => {
                output
                    .notice(format!("TLS certificate read again: {until}"))
                    .await;
            }
            Some(Err(reason)) => {
                let text = format!("the TLS certificate stays what it was: {reason}");
                tracing::warn!("{text}");
                output.error(text).await;
            }
        }
    }
}

/// Starts the node. Returns it with a reader that has missed no event.
async fn start(
    config: &NodeConfig,
    identity: Identity,
) -> Result<(Node, crate::node::Events), Failure> {
    let announce = announced(&config.announce, &identity)?;
    let mut builder = Node::builder()
        .identity(identity)
        .rooms(config.rooms.iter().cloned())
        .trust(config.trust.iter().copied())
        .deny(config.deny.iter().copied())
        .announce(announce)
        .exempt_loopback(config.exempt_loopback)
        .links(config.links.0, config.links.1)
        .retention(config.keep)
        .confirmed_by(config.confirmed_by);
    if !config.ephemeral {
        builder = builder.data_dir(&config.identity.folder);
    }
    if let Some(listen) = &config.listen {
        builder = builder.listen(listen.iter().cloned());
    }
    if let Some(key) = &config.network.key {
        builder = builder.network_key(key.clone());
    }
    if let Some((certificate, key)) = &config.certificate {
        builder = builder.tls(certificate, key);
    }
    for authority in &config.network.authorities {
        builder = builder.tls_ca(authority);
    }
    if let Some(limit) = config.per_address_limit {
        builder = builder.per_address_limit(usize::from(limit.get()));
    }
    builder
        .start_with_events()
        .await
        .map_err(|e: StartError| Failure::new(e))
}

fn announced(addresses: &[Address], identity: &Identity) -> Result<Vec<Multiaddr>, Failure> {
    let own = identity.peer_id();
    match addresses
        .iter()
        .find(|a| a.peer_id().is_some_and(|id| id != own))
    {
        Some(address) => Err(Failure::usage(format!(
            "--announce {address}: that is another node's PeerId; this one is {own}"
        ))),
        None => addresses.iter().map(announce_one).collect(),
    }
}

/// Returns the address to announce. A name is announced to nobody, but people may dial it. An IP address is announced
/// to peers, which refuse some kinds.
fn announce_one(address: &Address) -> Result<Multiaddr, Failure> {
    let multiaddr = address.multiaddr();
    let is_ip = crate::wire::ip_of(multiaddr).is_some();
    match PeerAddress::parse(multiaddr, None) {
        Err(reason) if is_ip => Err(Failure::usage(format!(
            "--announce {address}: no peer would dial it: {reason}"
        ))),
        _ => Ok(multiaddr.clone()),
    }
}

/// Waits until the rest of the output is written.
async fn finish(mut written: Ended, end: &EndOutput) -> Result<(), Failure> {
    if let Ok(ended) = timeout(FLUSH_TIMEOUT, &mut written).await {
        return judge(ended);
    }
    end.now();
    match timeout(LAST_LINE_TIMEOUT, written).await {
        Ok(ended) => judge(ended),
        Err(_) => {
            tracing::warn!("stdout is not being read: its last lines are lost");
            Ok(())
        }
    }
}

/// Returns the result of writing to stdout. A reader that closed the pipe has read enough; any other error is a
/// failure.
fn judge(written: Result<io::Result<()>, RecvError>) -> Result<(), Failure> {
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => output::not_written(&error).map_or(Ok(()), |e| Err(Failure::new(e))),
        Err(_) => Err(Failure::new(
            "the thread that writes to stdout has failed: report this as a fault of the program",
        )),
    }
}
