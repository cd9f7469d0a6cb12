//! Inbound upgrades behind the gate.
//!
//! Entry type: [`GatedUpgrade`]. The rule it keeps: a protocol that is not offered cannot be negotiated.

use futures::future::{Either, Pending, pending};
use libp2p::core::upgrade::{InboundUpgrade, UpgradeInfo};
use libp2p::swarm::Stream;
use libp2p::swarm::handler::{InboundUpgradeSend, UpgradeInfoSend};

use super::strict_negotiation::Protocols;

/// An inbound upgrade that offers nothing while the gate is shut, and later only the allowed protocols.
pub struct GatedUpgrade<U>(pub(super) Option<U>, pub(super) Protocols);

impl<U: UpgradeInfoSend> UpgradeInfo for GatedUpgrade<U> {
    type Info = U::Info;
    type InfoIter = Vec<U::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        let infos = self.0.as_ref().map(UpgradeInfoSend::protocol_info);
        let infos = infos.into_iter().flatten();
        infos.filter(|info| self.1.allow(info.as_ref())).collect()
    }
}

impl<U: InboundUpgradeSend> InboundUpgrade<Stream> for GatedUpgrade<U> {
    type Output = U::Output;
    type Error = U::Error;
    type Future = Either<U::Future, Pending<Result<U::Output, U::Error>>>;

    fn upgrade_inbound(self, stream: Stream, info: U::Info) -> Self::Future {
        match self.0 {
            Some(upgrade) => Either::Left(upgrade.upgrade_inbound(stream, info)),
            // Unreachable: no protocol was offered, so the peer could not choose one. The stream is dropped.
            None => Either::Right(pending()),
        }
    }
}
