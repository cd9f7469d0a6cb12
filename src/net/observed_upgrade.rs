//! A connection upgrade that reports its completion, and the protocols that a peer offers in its place.
//!
//! Entry type: [`ObservedUpgrade`]. The rule it keeps: an alternative of the peer is only named in the error, never
//! spoken; and a listener offers only the upgrade itself.

use std::fmt;

use futures::future::{BoxFuture, FutureExt};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};

use super::dial_progress::{DialObserver, DialProgress};
use super::stage::Stage;

/// Encryption protocols that other libp2p programs may offer instead of noise.
pub(super) const SECURITY: [&str; 3] = ["/tls/1.0.0", "/plaintext/2.0.0", "/secio/1.0.0"];
/// Multiplexing protocols that they may offer instead of yamux.
pub(super) const MUXERS: [&str; 1] = ["/mplex/6.7.0"];

/// An upgrade with its stage, and the alternatives to propose for diagnosis.
#[derive(Clone)]
pub(super) struct ObservedUpgrade<U> {
    pub(super) upgrade: U,
    pub(super) stage: Stage,
    pub(super) others: &'static [&'static str],
    pub(super) observer: DialObserver,
}

/// A protocol that can be negotiated.
#[derive(Clone, Debug)]
pub(super) enum Offer<I> {
    Ours(I),
    Other(&'static str),
}

impl<I: AsRef<str>> AsRef<str> for Offer<I> {
    fn as_ref(&self) -> &str {
        match self {
            Offer::Ours(info) => info.as_ref(),
            Offer::Other(name) => name,
        }
    }
}

/// The failure of an observed upgrade.
#[derive(Debug)]
pub(super) enum ObservedUpgradeError<E> {
    Upgrade(E),
    Other(Alternative),
}

/// The protocol that the peer offers in place of the upgrade.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the peer offers {0}")]
pub(super) struct Alternative(pub(super) &'static str);

impl<E: fmt::Display> fmt::Display for ObservedUpgradeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObservedUpgradeError::Upgrade(error) => error.fmt(f),
            ObservedUpgradeError::Other(instead) => instead.fmt(f),
        }
    }
}

impl<E: std::error::Error> std::error::Error for ObservedUpgradeError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ObservedUpgradeError::Upgrade(error) => error.source(),
            ObservedUpgradeError::Other(instead) => Some(instead),
        }
    }
}

impl<U> UpgradeInfo for ObservedUpgrade<U>
where
    U: UpgradeInfo,
{
    type Info = Offer<U::Info>;
    type InfoIter = Vec<Offer<U::Info>>;

    fn protocol_info(&self) -> Self::InfoIter {
        let ours = self.upgrade.protocol_info().into_iter().map(Offer::Ours);
        ours.chain(self.others.iter().copied().map(Offer::Other))
            .collect()
    }
}

impl<C, U> InboundConnectionUpgrade<C> for ObservedUpgrade<U>
where
    U: InboundConnectionUpgrade<C>,
    U::Future: Send + 'static,
    U::Output: Send + 'static,
    U::Error: Send + 'static,
{
    type Output = U::Output;
    type Error = ObservedUpgradeError<U::Error>;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        match info {
            Offer::Ours(info) => {
                let upgrade = self.upgrade.upgrade_inbound(socket, info);
                async move { upgrade.await.map_err(ObservedUpgradeError::Upgrade) }.boxed()
            }
            Offer::Other(name) => {
                futures::future::err(ObservedUpgradeError::Other(Alternative(name))).boxed()
            }
        }
    }
}

impl<C, U> OutboundConnectionUpgrade<C> for ObservedUpgrade<U>
where
    U: OutboundConnectionUpgrade<C>,
    U::Future: Send + 'static,
    U::Output: Send + 'static,
    U::Error: Send + 'static,
{
    type Output = U::Output;
    type Error = ObservedUpgradeError<U::Error>;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        match info {
            Offer::Ours(info) => {
                let (stage, observer) = (self.stage, self.observer);
                let upgrade = self.upgrade.upgrade_outbound(socket, info);
                async move {
                    let output = upgrade.await.map_err(ObservedUpgradeError::Upgrade)?;
                    observer(DialProgress::Passed(stage));
                    Ok(output)
                }
                .boxed()
            }
            Offer::Other(name) => {
                futures::future::err(ObservedUpgradeError::Other(Alternative(name))).boxed()
            }
        }
    }
}
