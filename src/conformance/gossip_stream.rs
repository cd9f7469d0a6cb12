//! Opens the kit's gossip stream on a connection.
//!
//! Entry function: [`gossip_stream`].

use libp2p::swarm::Stream;

use super::conn::Conn;
use super::stream_handler::OpenError;
use super::streams::MESHSUB;

/// Opens the kit's gossip stream.
pub(crate) async fn gossip_stream(conn: &Conn) -> Result<Stream, String> {
    match conn.open(MESHSUB).await {
        Ok(stream) => Ok(stream),
        Err(OpenError::Refused) => match conn.open("/meshsub/1.0.0").await {
            Ok(stream) => Ok(stream),
            Err(_) => Err("a link takes no gossip stream: it answers na".to_owned()),
        },
        Err(OpenError::Lost(why)) => Err(format!("a link takes no gossip stream: {why}")),
    }
}
