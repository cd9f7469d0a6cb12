//! A scripted peer: real transport and noise, and above them only the data that a case sends.
//!
//! Entry type: [`RawPeer`]. The rule it keeps: nothing is sent unasked except the answers of ping and
//! identify.

use futures::StreamExt;
use libp2p::Multiaddr;
use libp2p::core::upgrade::Version;
use libp2p::swarm::{Swarm, SwarmEvent};
use tokio::sync::{mpsc, oneshot};

use super::conn::Command;
use super::raw_driver::Driver;
use super::stream_handler::InboundStream;
use super::streams::{Behaviour, swarm, swarm_over};
use crate::identity::Identity;
use crate::net::Address;
use crate::node::Probe;

pub use super::conn::Conn;

/// A peer that acts only on command. Its connections end with it.
pub struct RawPeer {
    /// Its identity.
    pub identity: Identity,
    /// Its instance id.
    pub instance_id: [u8; 16],
    /// The address on which it listens, if any.
    pub address: Option<Multiaddr>,
    commands: mpsc::UnboundedSender<Command>,
    arrivals: mpsc::UnboundedReceiver<Conn>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl RawPeer {
    /// Creates a peer that dials, over the transport of `probe`.
    ///
    /// # Errors
    ///
    /// If the transport cannot be built.
    pub fn dialer(identity: Identity, probe: &Probe, streams: Version) -> Result<RawPeer, String> {
        let (inbound_out, inbound) = mpsc::unbounded_channel();
        let transport = probe.transport(&identity).map_err(|e| e.to_string())?;
        let swarm = swarm_over(transport, &identity, true, streams, inbound_out);
        Ok(RawPeer::run(swarm, identity, None, inbound))
    }

    /// Creates a peer that listens on a port of loopback, and identifies itself if `identify` is set.
    ///
    /// # Errors
    ///
    /// If loopback cannot be listened on.
    pub async fn listener(
        identity: Identity,
        identify: bool,
        streams: Version,
    ) -> Result<RawPeer, String> {
        let (inbound_out, inbound) = mpsc::unbounded_channel();
        let swarm = swarm(&identity, identify, streams, inbound_out);
        let mut swarm = swarm.map_err(|e| e.to_string())?;
        let own = Multiaddr::from(std::net::Ipv4Addr::LOCALHOST)
            .with(libp2p::multiaddr::Protocol::Tcp(0))
            .with(libp2p::multiaddr::Protocol::Ws("/".into()));
        swarm.listen_on(own).map_err(|e| e.to_string())?;
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => {
                    return Ok(RawPeer::run(swarm, identity, Some(address), inbound));
                }
                SwarmEvent::ListenerError { error, .. } => return Err(error.to_string()),
                _ => {}
            }
        }
    }

    fn run(
        swarm: Swarm<Behaviour>,
        identity: Identity,
        address: Option<Multiaddr>,
        inbound: mpsc::UnboundedReceiver<InboundStream>,
    ) -> RawPeer {
        let (commands, commands_in) = mpsc::unbounded_channel();
        let (arrivals_out, arrivals) = mpsc::unbounded_channel();
        let driver = Driver::new(swarm, inbound, arrivals_out, commands.clone());
        RawPeer {
            identity,
            instance_id: rand::random(),
            address,
            commands,
            arrivals,
            driver: tokio::spawn(driver.run(commands_in)),
        }
    }

    /// Dials and waits until yamux is established.
    ///
    /// # Errors
    ///
    /// If the dial fails, with its reason.
    pub async fn dial(&mut self, address: &Address) -> Result<Conn, String> {
        let (failed, failure) = oneshot::channel();
        let _ = self.commands.send(Command::Dial(address.clone(), failed));
        tokio::select! {
            conn = self.arrivals.recv() => conn.ok_or_else(|| "the dial was given up".to_owned()),
            Ok(failure) = failure => Err(failure),
        }
    }

    /// Waits for the next inbound connection.
    pub async fn accept(&mut self) -> Option<Conn> {
        self.arrivals.recv().await
    }
}
