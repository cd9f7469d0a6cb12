//! Detection of protocols that the peer refuses.
//!
//! Entry functions: [`is_refusal`], [`is_unsupported`]. A stream with a single protocol sends the proposal together with
//! its first data (multistream-select's `V1Lazy`), which saves a round trip. In return, a refusal is noticed only when the
//! response is read, as an error of that read.

use std::error::Error;
use std::io;

use libp2p::core::upgrade::NegotiationError;
use libp2p::request_response::OutboundFailure;

/// Returns whether an error, or one of its sources, is the peer's refusal of a protocol.
pub fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    if let Some(NegotiationError::Failed) = error.downcast_ref() {
        return true;
    }
    // The source of an I/O error is the source of the error inside it, so that one must be looked at itself.
    let inside = error.downcast_ref().and_then(io::Error::get_ref);
    match inside {
        Some(inside) => is_refusal(inside),
        None => error.source().is_some_and(is_refusal),
    }
}

/// Returns whether a request failed because the peer does not support its protocol.
pub fn is_unsupported(failure: &OutboundFailure) -> bool {
    match failure {
        OutboundFailure::UnsupportedProtocols => true,
        OutboundFailure::Io(error) => is_refusal(error),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;
    use futures::future::{Either, select};
    use libp2p::core::transport::MemoryTransport;
    use libp2p::core::upgrade::Version;
    use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent, dummy};
    use libp2p::{Transport, identity, noise, ping, yamux};

    use super::*;

    fn swarm<B: NetworkBehaviour>(behaviour: B) -> Swarm<B> {
        let key = identity::Keypair::generate_ed25519();
        let transport = MemoryTransport::default()
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(&key).expect("an Ed25519 key"))
            .multiplex(yamux::Config::default())
            .boxed();
        let config = libp2p::swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(Duration::from_secs(60))
            .with_substream_upgrade_protocol_override(Version::V1Lazy);
        Swarm::new(transport, behaviour, key.public().to_peer_id(), config)
    }

    #[tokio::test]
    async fn a_ping_to_a_peer_without_it_is_known_to_be_refused() {
        let often = ping::Config::new().with_interval(Duration::from_millis(10));
        let mut pinging = swarm(ping::Behaviour::new(often));
        let mut without = swarm(dummy::Behaviour);
        let any = "/memory/0".parse().expect("a multiaddr");
        without.listen_on(any).expect("memory can be listened on");
        let error = loop {
            match select(pinging.select_next_some(), without.select_next_some()).await {
                Either::Right((SwarmEvent::NewListenAddr { address, .. }, _)) => {
                    pinging.dial(address).expect("a dial of its own");
                }
                Either::Left((SwarmEvent::Behaviour(event), _)) => {
                    break event.result.expect_err("nobody answers");
                }
                _ => {}
            }
        };
        assert!(
            matches!(&error, ping::Failure::Other { error } if is_refusal(&**error)),
            "{error:?}"
        );
    }

    #[test]
    fn a_wrapped_refusal_is_recognised_and_no_other_error_is() {
        let refused = || io::Error::from(NegotiationError::Failed);
        assert!(is_unsupported(&OutboundFailure::Io(refused())));
        assert!(is_unsupported(&OutboundFailure::Io(io::Error::other(
            refused()
        ))));
        assert!(is_unsupported(&OutboundFailure::UnsupportedProtocols));
        assert!(!is_unsupported(&OutboundFailure::Timeout));
        for other in [
            io::Error::from(io::ErrorKind::UnexpectedEof),
            io::Error::other("Protocol negotiation failed."),
            crate::wire::FrameError::Truncated.into(),
        ] {
            assert!(!is_unsupported(&OutboundFailure::Io(other)));
        }
    }
}
