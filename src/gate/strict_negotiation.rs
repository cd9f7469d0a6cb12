//! What is proposed to a peer for a stream, when it may choose.
//!
//! Entry types: [`StrictUpgrade`], [`Protocols`]. The rules it keeps: what may not be spoken is not proposed; of several protocols none counts as agreed before the peer has said
//! so. A single one may: whoever speaks it reads the answer, and finds the refusal there.
//!
//! The last protocol that is proposed is not waited for (multistream-select's `V1Lazy`). gossipsub only writes on
//! the streams it opens, and would never find out that its last one was refused.

use futures::future::{Either, MapErr, Ready, TryFutureExt, err};
use libp2p::core::upgrade::{OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{OutboundUpgradeSend, UpgradeInfoSend};
use libp2p::swarm::{Stream, StreamUpgradeError};

/// The protocols that the behaviours behind a gate may speak, whatever else they would.
#[derive(Clone, Copy, Debug)]
pub(super) struct Protocols(pub(super) Option<&'static [&'static str]>);

impl Protocols {
    /// Whether the protocol may be spoken.
    pub(super) fn allow(self, protocol: &str) -> bool {
        self.0.is_none_or(|allowed| allowed.contains(&protocol))
    }
}

/// An outbound upgrade, and what it may speak.
pub struct StrictUpgrade<U>(pub(super) U, pub(super) Protocols);

/// A protocol that is proposed.
#[derive(Clone, Debug)]
pub enum Proposal<I> {
    /// One of the upgrade's.
    Of(I),
    /// The last of several once more, for the sake of who comes last.
    Sentinel(I),
}

/// Why there is no stream.
#[derive(Debug)]
pub enum StrictUpgradeError<E> {
    /// The peer has refused every protocol.
    Refused,
    /// The upgrade's own.
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
        let may_be_spoken = |info: &U::Info| self.1.allow(info.as_ref());
        let infos = self.0.protocol_info().filter(may_be_spoken);
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

/// The error as the upgrade's owner knows it.
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
