//! Strict negotiation: turns optimistic negotiation off for outbound upgrades that offer several protocols.
//!
//! Entry types: [`StrictUpgrade`], [`Protocols`]. The rules it keeps: a protocol that is not allowed is never proposed,
//! and none of several protocols counts as agreed before the peer has confirmed it.
//!
//! With multistream-select's `V1Lazy` the dialer of a stream does not wait for the answer to its last proposal. gossipsub
//! only writes on the streams that it opens, so it would never notice that its last protocol was refused. A single
//! protocol may stay optimistic: its upgrade reads the response, and finds the refusal there.

use futures::future::{Either, MapErr, Ready, TryFutureExt, err};
use libp2p::core::upgrade::{OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{OutboundUpgradeSend, UpgradeInfoSend};
use libp2p::swarm::{Stream, StreamUpgradeError};

/// The protocols that the behaviours behind a gate may use; all of them if there is no list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Protocols(pub(super) Option<&'static [&'static str]>);

impl Protocols {
    /// Returns whether `protocol` may be used.
    pub(super) fn allow(self, protocol: &str) -> bool {
        self.0.is_none_or(|allowed| allowed.contains(&protocol))
    }
}

/// An outbound upgrade that is limited to the allowed protocols and negotiates them strictly.
pub struct StrictUpgrade<U>(pub(super) U, pub(super) Protocols);

/// A proposal to the peer.
#[derive(Clone, Debug)]
pub enum Proposal<I> {
    /// A protocol of the upgrade.
    Of(I),
    /// The last protocol a second time, so that the real last one is not the one that goes unconfirmed.
    Sentinel(I),
}

/// Why a strict upgrade failed.
#[derive(Debug)]
pub enum StrictUpgradeError<E> {
    /// The peer refused every protocol.
    Refused,
    /// The upgrade itself failed.
    Upgrade(E),
}

impl<I: AsRef<str>> AsRef<str> for Proposal<I> {
    fn as_ref(&self) -> &str {
        match self {
            Proposal::Of(info) | Proposal::Sentinel(info) => info.as_ref(),
        }
    }
}

impl<U: UpgradeInfoSend> UpgradeInfo for StrictUpgrade<U> {
    type Info = Proposal<U::Info>;
    type InfoIter = Vec<Proposal<U::Info>>;

    fn protocol_info(&self) -> Self::InfoIter {
        let is_allowed = |info: &U::Info| self.1.allow(info.as_ref());
        let infos = self.0.protocol_info().filter(is_allowed);
        let mut proposals: Vec<_> = infos.map(Proposal::Of).collect();
        if proposals.len() > 1
            && let Some(Proposal::Of(last)) = proposals.last().cloned()
        {
            proposals.push(Proposal::Sentinel(last));
        }
        proposals
    }
}

impl<U: OutboundUpgradeSend> OutboundUpgrade<Stream> for StrictUpgrade<U> {
    type Output = U::Output;
    type Error = StrictUpgradeError<U::Error>;
    type Future = Either<
        MapErr<U::Future, fn(U::Error) -> Self::Error>,
        Ready<Result<Self::Output, Self::Error>>,
    >;

    fn upgrade_outbound(self, stream: Stream, info: Self::Info) -> Self::Future {
        match info {
            Proposal::Of(info) => {
                let upgrade = self.0.upgrade_outbound(stream, info);
                Either::Left(upgrade.map_err(StrictUpgradeError::Upgrade as fn(_) -> _))
            }
            Proposal::Sentinel(_) => Either::Right(err(StrictUpgradeError::Refused)),
        }
    }
}

/// Converts the error into the one that the inner handler expects.
pub(super) fn into_upgrade_error<E>(
    error: StreamUpgradeError<StrictUpgradeError<E>>,
) -> StreamUpgradeError<E> {
    match error {
        StreamUpgradeError::Apply(StrictUpgradeError::Refused) => {
            StreamUpgradeError::NegotiationFailed
        }
        StreamUpgradeError::Apply(StrictUpgradeError::Upgrade(error)) => {
            StreamUpgradeError::Apply(error)
        }
        StreamUpgradeError::NegotiationFailed => StreamUpgradeError::NegotiationFailed,
        StreamUpgradeError::Timeout => StreamUpgradeError::Timeout,
        StreamUpgradeError::Io(error) => StreamUpgradeError::Io(error),
    }
}
