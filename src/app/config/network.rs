//! Reads the options that select the network and the peers.
//!
//! Entry types: [`NetworkConfig`], [`PeerLists`].

use std::path::PathBuf;

use libp2p::PeerId;

use super::ArgSources;
use crate::app::args::NetworkArgs;
use crate::app::failure::Failure;
use crate::app::{identity, peers};
use crate::identity::NetworkKey;

/// The network key, and the certificates to trust when dialling.
#[derive(Debug)]
pub(crate) struct NetworkConfig {
    pub(crate) key: Option<NetworkKey>,
    pub(crate) authorities: Vec<PathBuf>,
}

impl NetworkConfig {
    pub(super) fn read(args: NetworkArgs, given: &ArgSources) -> Result<NetworkConfig, Failure> {
        let authorities: Vec<String> = args
            .tls_ca
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        let from_environment = given.list("tls_ca", authorities);
        Ok(NetworkConfig {
            key: args
                .network_key
                .map(|path| identity::network_key(&path))
                .transpose()?,
            authorities: match given.typed("tls_ca") {
                // As typed: a path need not be text.
                true => args.tls_ca,
                false => from_environment.into_iter().map(PathBuf::from).collect(),
            },
        })
    }
}

/// The allow-list and the deny-list as the options name them: PeerIds, or files as `@FILE`.
#[derive(Debug)]
pub(crate) struct PeerLists {
    pub(super) trust: Vec<String>,
    pub(super) deny: Vec<String>,
}

impl PeerLists {
    /// Reads the trusted and the denied peers, files included.
    pub(crate) fn read(&self) -> Result<(Vec<PeerId>, Vec<PeerId>), Failure> {
        Ok((
            peers::read(&self.trust, "--trust")?,
            peers::read(&self.deny, "--deny")?,
        ))
    }
}

/// Returns the allow-list. Without one, every peer that proves its key is admitted, so a list that is set and empty is
/// refused.
pub(super) fn trusted(given: &ArgSources, values: Vec<String>) -> Result<Vec<String>, Failure> {
    let is_set = !values.is_empty();
    let values = given.list("trust", values);
    if is_set && values.is_empty() {
        return Err(Failure::usage(
            "DIATRIBE_TRUST is set and names nobody, which would let everybody in: name peers, or unset it",
        ));
    }
    Ok(values)
}
