//! A probe: one dial that reports the duration of each stage, and the stage that failed.
//!
//! Entry type: [`Probe`]. The rule it keeps: it runs the handshake like a node, and nothing else: it announces itself
//! as a visit, so that it takes no slot, and closes the connection as soon as the handshake has succeeded.

mod attempt;
mod behaviour;
mod report;
mod stages;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::PeerId;
#[cfg(feature = "conformance")]
use libp2p::core::{muxing::StreamMuxerBox, transport::Boxed};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{Config as SwarmConfig, Swarm};
use tokio::time::timeout;

use self::attempt::Attempt;
use self::behaviour::Behaviour;
pub use self::report::{ProbeStep, Probed};
use self::stages::{Passed, StageReporter};
use super::failure;
use super::identify::Identify;
use crate::clock::Clock;
use crate::handshake::{self, HandshakeLimit, HandshakeRateLimiter, Local};
use crate::identity::{Identity, NetworkKey};
use crate::net::address::Address;
use crate::net::backpressure::SendWindows;
use crate::net::dial_progress::DialProgress;
use crate::net::stage::{Stage, StageError};
use crate::net::tls::{self, TlsFiles};
use crate::net::transport;

/// Delay before closing after the handshake: the last message is still in flight when this side has finished, and an
/// immediate close could overtake it, so that the peer would report a failure.
const CLOSE_DELAY: Duration = Duration::from_millis(250);
/// Timeout for the close of the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle timeout of the connection: longer than the handshake may take.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Dials an address once, as a node would.
#[derive(Clone, Debug)]
pub struct Probe {
    identity: Identity,
    network: Option<NetworkKey>,
    tls: TlsFiles,
}

impl Probe {
    /// Creates a probe with this identity.
    pub fn new(identity: Identity) -> Probe {
        Probe {
            identity,
            network: None,
            tls: TlsFiles::default(),
        }
    }

    /// Probes nodes of the private network with this key.
    #[must_use]
    pub fn network_key(mut self, key: NetworkKey) -> Probe {
        self.network = Some(key);
        self
    }

    /// Trusts this certificate (a PEM file) in addition to the public authorities.
    #[must_use]
    pub fn tls_ca(mut self, certificate: impl Into<PathBuf>) -> Probe {
        self.tls.authorities.push(certificate.into());
        self
    }

    /// Dials `address` and passes each stage to `tell` when it ends, in order, up to the first failure.
    ///
    /// Must be called inside a Tokio runtime.
    ///
    /// # Errors
    ///
    /// The error of the stage that failed, which `tell` has received as well.
    pub async fn dial(
        &self,
        address: &Address,
        mut tell: impl FnMut(ProbeStep),
    ) -> Result<Probed, StageError> {
        let passed = Passed::default();
        let mut swarm = self.swarm(&passed).inspect_err(|error| {
            tell(ProbeStep {
                stage: error.stage,
                took: Duration::ZERO,
                result: Err(error.clone()),
            });
        })?;
        let mut stages = StageReporter::new(tell, address.is_secure(), passed);
        let multiaddr = address.multiaddr().clone();
        let dial = match address.peer_id() {
            Some(peer_id) => DialOpts::peer_id(peer_id)
                .addresses(vec![multiaddr])
                .build(),
            None => DialOpts::unknown_peer_id().address(multiaddr).build(),
        };
        if let Err(error) = swarm.dial(dial) {
            return Err(stages.fail(failure::of_dial(&error)));
        }
        let result = Attempt::new(stages).run(&mut swarm).await;
        if result.is_ok() {
            let _ = timeout(CLOSE_DELAY, wait_closed(&mut swarm)).await;
        }
        close(&mut swarm).await;
        result
    }

    #[cfg(feature = "conformance")]
    /// Builds the transport that a peer of this identity would dial with.
    pub(crate) fn transport(
        &self,
        identity: &Identity,
    ) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StageError> {
        let tls = tls::load(&self.tls).map_err(|e| StageError::new(Stage::Tls, e))?;
        transport::build(identity.keypair(), tls, None, SendWindows::default()).map_err(|error| {
            StageError::new(Stage::Address, format!("nothing can be dialled: {error}"))
        })
    }

    fn swarm(&self, passed: &Passed) -> Result<Swarm<Behaviour>, StageError> {
        let system = |error: &dyn std::fmt::Display| {
            StageError::new(Stage::Address, format!("nothing can be dialled: {error}"))
        };
        let tls = tls::load(&self.tls).map_err(|e| StageError::new(Stage::Tls, e))?;
        let passed = passed.clone();
        let observer = Arc::new(move |seen| {
            let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
            match seen {
                DialProgress::Passed(stage) => passed.stages.push((stage, Instant::now())),
                DialProgress::Connected { local, remote } => passed.ends = Some((local, remote)),
            }
        });
        let transport = transport::build(
            self.identity.keypair(),
            tls,
            Some(observer),
            SendWindows::default(),
        )
        .map_err(|e: io::Error| system(&e))?;
        let local = Local::new(self.identity.clone(), self.network.clone(), rand::random());
        let local = Arc::new(local.with_features(handshake::VISIT));
        let behaviour = Behaviour {
            identify: Identify::new(&self.identity),
            handshake: handshake::Behaviour::new(
                local,
                Clock::start(),
                HandshakeRateLimiter::new(HandshakeLimit::default()),
            ),
        };
        let config = SwarmConfig::with_tokio_executor().with_idle_connection_timeout(IDLE_TIMEOUT);
        Ok(Swarm::new(
            transport,
            behaviour,
            self.identity.peer_id(),
            config,
        ))
    }
}

/// Closes the connection, so that the peer learns of it at once.
async fn close(swarm: &mut Swarm<Behaviour>) {
    let peers: Vec<PeerId> = swarm.connected_peers().copied().collect();
    for peer in peers {
        // An error means that the connection is closed already.
        let _ = swarm.disconnect_peer_id(peer);
    }
    // A peer that does not answer the close notices it by itself.
    let _ = timeout(CLOSE_TIMEOUT, wait_closed(swarm)).await;
}

async fn wait_closed(swarm: &mut Swarm<Behaviour>) {
    while swarm.connected_peers().next().is_some() {
        swarm.next().await;
    }
}
