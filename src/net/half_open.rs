//! A transport whose half-open inbound connections can be closed from outside, which libp2p's swarm does not offer.
//!
//! Entry types: [`AbortableUpgrades`], [`HalfOpenConnections`]. The rule it keeps: a connection is registered from the
//! accepted socket until the upgrade has succeeded or failed, and no longer.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::future::{AbortHandle, Abortable};
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, Transport};

use super::stage::{Stage, StageError};

/// Both ends of a socket, the local one first: at this stage the only name of a connection that transport and
/// behaviours share.
type Ends = (Multiaddr, Multiaddr);

/// The half-open inbound connections of a transport.
#[derive(Clone, Debug, Default)]
pub(crate) struct HalfOpenConnections {
    handles: Arc<Mutex<HashMap<Ends, (u64, AbortHandle)>>>,
}

impl HalfOpenConnections {
    /// Closes the connection between these two ends, if it is half-open.
    pub(crate) fn close(&self, local: &Multiaddr, remote: &Multiaddr) {
        if let Some((_, handle)) = self.lock().remove(&(local.clone(), remote.clone())) {
            handle.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ends, (u64, AbortHandle)>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the error of a connection that was evicted in favour of another.
pub(crate) fn evicted() -> StageError {
    StageError::new(Stage::Link, GAVE_WAY).with_code("LIMIT")
}

const GAVE_WAY: &str = "all places for connections that have not passed the handshake were taken, and this one had waited \
                        longest of the network that held most: it gave way to another";

/// A transport that registers its half-open inbound connections in [`HalfOpenConnections`].
pub(crate) struct AbortableUpgrades<T> {
    inner: T,
    half_open: HalfOpenConnections,
    entered: u64,
}

impl<T> AbortableUpgrades<T> {
    pub(crate) fn new(inner: T, half_open: HalfOpenConnections) -> AbortableUpgrades<T> {
        AbortableUpgrades {
            inner,
            half_open,
            entered: 0,
        }
    }

    fn enter<F>(&mut self, ends: Ends, upgrade: F) -> Upgrade<F> {
        self.entered += 1;
        let (handle, registration) = AbortHandle::new_pair();
        let entry = (self.entered, handle);
        self.half_open.lock().insert(ends.clone(), entry);
        Upgrade {
            inner: Abortable::new(Box::pin(upgrade), registration),
            ends,
            number: self.entered,
            half_open: self.half_open.clone(),
        }
    }
}

/// The upgrade of an inbound connection.
pub(crate) struct Upgrade<F> {
    inner: Abortable<Pin<Box<F>>>,
    ends: Ends,
    number: u64,
    half_open: HalfOpenConnections,
}

impl<F> Drop for Upgrade<F> {
    fn drop(&mut self) {
        let mut handles = self.half_open.lock();
        // A later connection may have the same two ends.
        if let Some((number, _)) = handles.get(&self.ends)
            && *number == self.number
        {
            handles.remove(&self.ends);
        }
    }
}

impl<F, O> Future for Upgrade<F>
where
    F: Future<Output = Result<O, io::Error>>,
{
    type Output = Result<O, io::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = Pin::new(&mut self.inner).poll(cx);
        ended.map(|ended| ended.unwrap_or_else(|_| Err(io::Error::other(evicted()))))
    }
}

impl<T> Transport for AbortableUpgrades<T>
where
    T: Transport<Error = io::Error> + Unpin,
{
    type Output = T::Output;
    type Error = io::Error;
    type ListenerUpgrade = Upgrade<T::ListenerUpgrade>;
    type Dial = T::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        self.inner.dial(address, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let this = &mut *self;
        Pin::new(&mut this.inner).poll(cx).map(|event| {
            let ends = match &event {
                TransportEvent::Incoming {
                    local_addr,
                    send_back_addr,
                    ..
                } => (local_addr.clone(), send_back_addr.clone()),
                // No other event has an upgrade.
                _ => (Multiaddr::empty(), Multiaddr::empty()),
            };
            event.map_upgrade(|upgrade| this.enter(ends, upgrade))
        })
    }
}
