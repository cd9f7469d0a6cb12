//! Admission of peers that have proved their key: allow-list, deny-list, and temporary bans.
//!
//! Entry type: [`Admission`], pure. The rule it keeps: the deny-list takes precedence over the allow-list, and the
//! memory of banned peers is bounded.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use libp2p::PeerId;

use crate::clock::Time;
use crate::handshake::RejectCode;

/// Duration of the ban of a peer that broke a rule of the protocol.
const BAN_DURATION: Duration = Duration::from_secs(60);
/// Maximum number of bans: keys cost nothing, memory does.
const MAX_BANS: usize = 1024;

/// The operator's lists, and the node's own bans.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// The allow-list. When empty, any peer that proves its key is admitted.
    trust: HashSet<PeerId>,
    deny: HashSet<PeerId>,
    bans: HashMap<PeerId, Time>,
}

impl Admission {
    pub(crate) fn new(trust: Vec<PeerId>, deny: Vec<PeerId>) -> Admission {
        Admission {
            trust: trust.into_iter().collect(),
            deny: deny.into_iter().collect(),
            bans: HashMap::new(),
        }
    }

    /// Replaces the operator's lists.
    pub(crate) fn set_lists(&mut self, trust: Vec<PeerId>, deny: Vec<PeerId>) {
        self.trust = trust.into_iter().collect();
        self.deny = deny.into_iter().collect();
    }

    /// Decides whether `peer_id` may have a link.
    ///
    /// # Errors
    ///
    /// The code with which the peer is refused.
    pub(crate) fn check(&self, now: Time, peer_id: &PeerId) -> Result<(), RejectCode> {
        let is_banned = self.bans.get(peer_id).is_some_and(|until| now < *until);
        let trusted = self.trust.is_empty() || self.trust.contains(peer_id);
        if is_banned || !trusted || self.deny.contains(peer_id) {
            return Err(RejectCode::Policy);
        }
        Ok(())
    }

    /// Bans `peer_id` for [`BAN_DURATION`].
    pub(crate) fn ban(&mut self, now: Time, peer_id: PeerId) {
        self.bans.retain(|_, until| now < *until);
        if self.bans.len() < MAX_BANS {
            self.bans.insert(peer_id, now + BAN_DURATION);
        }
    }
}

#[cfg(test)]
mod tests;
