//! The overlay's messages: the types of the state machine, and their bytes by `proto/overlay.proto`.
//!
//! Entry types: [`Request`], [`Response`], [`decode_request`], [`encode_request`]. The rule they keep: a peer's lists are cut to
//! the limits here, a contact without a valid peer id never becomes a [`Contact`], and only addresses in the one form of
//! [`PeerAddress`] are read.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use prost::Message as _;

use super::options::{MAX_ADDRESSES, MAX_CONTACTS, MAX_NAMED_LINKS};
use super::peer_address::PeerAddress;
use crate::wire::proto::overlay as pb;
use crate::wire::schemas::overlay as schemas;
use crate::wire::strict;

/// Maximum size of a frame of the protocol, in bytes.
pub const MAX_FRAME: usize = 8 * 1024;

/// A peer and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact<I, A> {
    /// The peer.
    pub id: I,
    /// The addresses at which it listens.
    pub addresses: Arc<[A]>,
}

/// The part of a redirect hint's receiver in the new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The receiver of the hint dials.
    Dial,
    /// The receiver of the hint is dialled.
    Expect,
}

/// A request of a linked peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<I, A> {
    /// Exchanges contacts.
    Shuffle {
        /// The sender's contacts.
        offered: Vec<Contact<I, A>>,
    },
    /// Asks the receiver to keep the link, or to move another one to the sender.
    Join {
        /// The sender's terms for the handover that may follow.
        terms: Terms<I, A>,
        /// 2 to get a second link by a split, 1 to have room made, 0 to stay only if there is room.
        need: u32,
    },
    /// The redirect hint: asks the receiver to connect to a peer, or to expect it.
    Redirect {
        /// The nonce in the terms of the handover's receiver.
        nonce: u64,
        /// The side that dials.
        role: Role,
        /// The peer to connect to.
        to: Contact<I, A>,
    },
    /// Claims this link for the handover with this nonce.
    Attach {
        /// The nonce in the terms of the handover's receiver.
        nonce: u64,
    },
    /// Reports to the coordinator whether the new link is up.
    Report {
        /// The nonce in the terms of the handover's receiver.
        nonce: u64,
        /// Whether the link is up.
        linked: bool,
    },
    /// Ends the handover without effect.
    Cancel {
        /// The nonce in the terms of the handover's receiver.
        nonce: u64,
        /// Whether the link with the sender stays.
        keep: bool,
        /// Peers that may be tried instead.
        contacts: Vec<Contact<I, A>>,
    },
    /// Asks a neighbour to be the receiver of one of the sender's links.
    ProposeHandover {
        /// Whether the receiver is to return a link afterwards.
        pair: bool,
    },
    /// Asks a neighbour to do without the link, because the two share another neighbour.
    DropRedundantLink {
        /// The sender's other links.
        links: Vec<I>,
    },
    /// Announces that the sender shuts down.
    Leave {
        /// The sender's other links.
        contacts: Vec<Contact<I, A>>,
    },
}

/// The terms on which the receiver of a handover takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms<I, A> {
    /// The random name of the handover.
    pub nonce: u64,
    /// The receiver's links: peers that it cannot be linked with again.
    pub links: Vec<I>,
    /// Whether others can dial the receiver.
    pub dialable: bool,
    /// The addresses at which the receiver listens.
    pub addresses: Arc<[A]>,
}

/// The answer to a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// There is no room: the newcomer closes the link.
    Refused,
    /// The link stays.
    Accepted,
    /// The link stays, and a redirect hint to the newcomer follows.
    Split,
    /// The link stays if room can be made: a Report or a Cancel follows.
    Pending,
}

/// The reason for which a redirect hint is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The peer takes part in another handover, or has no room.
    Busy,
    /// The hint breaks a rule.
    Unsuitable,
    /// The rate limit for dials is used up.
    TooMany,
    /// No other node can dial the peer.
    NotDialable,
}

/// A response of a linked peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<I, A> {
    /// Answers a Shuffle.
    Contacts(Vec<Contact<I, A>>),
    /// Answers a Join.
    Joined {
        /// The decision.
        answer: Answer,
        /// Further peers that may be tried.
        contacts: Vec<Contact<I, A>>,
    },
    /// Answers a redirect hint.
    Redirected {
        /// The reason of a refusal; none if the peer has agreed.
        refusal: Option<Refusal>,
        /// The addresses at which the peer can be dialled.
        addresses: Arc<[A]>,
    },
    /// Answers any other request.
    Done {
        /// Whether the peer has agreed.
        ok: bool,
    },
    /// Answers a ProposeHandover: the receiver's terms if it has agreed.
    HandoverReply(Option<Terms<I, A>>),
}

/// The reason for which bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The bytes are not the expected protobuf message, or its kind is unknown.
    #[error("the frame holds no overlay message")]
    Malformed,
    /// A redirect hint has no valid peer id.
    #[error("a redirect names no valid peer id")]
    NoPeerId,
}

/// The requests of the real node.
pub type NodeRequest = Request<PeerId, PeerAddress>;
/// The responses of the real node.
pub type NodeResponse = Response<PeerId, PeerAddress>;
type NodeContact = Contact<PeerId, PeerAddress>;

/// Encodes a request as the body of a frame.
pub fn encode_request(request: &NodeRequest) -> Vec<u8> {
    use pb::request::Kind;
    let kind = match request {
        Request::Shuffle { offered } => Kind::Shuffle(pb::Shuffle {
            offered: contacts_out(offered),
        }),
        Request::Join { terms, need } => Kind::Join(pb::Join {
            nonce: terms.nonce,
            need: *need,
            links: ids_out(&terms.links),
            dialable: terms.dialable,
            addresses: addresses_out(&terms.addresses),
        }),
        Request::Redirect { nonce, role, to } => Kind::Redirect(pb::Redirect {
            nonce: *nonce,
            role: match role {
                Role::Dial => pb::redirect::Role::Dial,
                Role::Expect => pb::redirect::Role::Expect,
            } as i32,
            to: Some(contact_out(to)),
        }),
        Request::Attach { nonce } => Kind::Attach(pb::Attach { nonce: *nonce }),
        Request::Report { nonce, linked } => Kind::Report(pb::Report {
            nonce: *nonce,
            linked: *linked,
        }),
        Request::Cancel {
            nonce,
            keep,
            contacts,
        } => Kind::Cancel(pb::Cancel {
            nonce: *nonce,
            keep: *keep,
            contacts: contacts_out(contacts),
        }),
        Request::ProposeHandover { pair } => {
            Kind::ProposeHandover(pb::ProposeHandover { pair: *pair })
        }
        Request::DropRedundantLink { links } => Kind::DropRedundantLink(pb::DropRedundantLink {
            links: ids_out(links),
        }),
        Request::Leave { contacts } => Kind::Leave(pb::Leave {
            contacts: contacts_out(contacts),
        }),
    };
    pb::Request { kind: Some(kind) }.encode_to_vec()
}

/// Decodes the request in the body of a frame that `from` has sent.
///
/// # Errors
///
/// The offence: no message of the protocol, or a redirect hint without a valid peer id.
pub fn decode_request(body: &[u8], from: &PeerId) -> Result<NodeRequest, MessageError> {
    use pb::request::Kind;
    strict::check(body, &schemas::REQUEST).map_err(|_| MessageError::Malformed)?;
    let decoded = pb::Request::decode(body).map_err(|_| MessageError::Malformed)?;
    Ok(match decoded.kind.ok_or(MessageError::Malformed)? {
        Kind::Shuffle(m) => Request::Shuffle {
            offered: contacts_in(&m.offered),
        },
        Kind::Join(m) => Request::Join {
            terms: terms_in(from, m.nonce, &m.links, m.dialable, &m.addresses),
            need: m.need.min(2),
        },
        Kind::Redirect(m) => Request::Redirect {
            nonce: m.nonce,
            role: match m.role() {
                pb::redirect::Role::Dial => Role::Dial,
                pb::redirect::Role::Expect => Role::Expect,
            },
            to: m
                .to
                .as_ref()
                .and_then(contact_in)
                .ok_or(MessageError::NoPeerId)?,
        },
        Kind::Attach(m) => Request::Attach { nonce: m.nonce },
        Kind::Report(m) => Request::Report {
            nonce: m.nonce,
            linked: m.linked,
        },
        Kind::Cancel(m) => Request::Cancel {
            nonce: m.nonce,
            keep: m.keep,
            contacts: contacts_in(&m.contacts),
        },
        Kind::ProposeHandover(m) => Request::ProposeHandover { pair: m.pair },
        Kind::DropRedundantLink(m) => Request::DropRedundantLink {
            links: ids_in(&m.links),
        },
        Kind::Leave(m) => Request::Leave {
            contacts: contacts_in(&m.contacts),
        },
    })
}

/// Encodes a response as the body of a frame.
pub fn encode_response(response: &NodeResponse) -> Vec<u8> {
    use pb::response::Kind;
    let kind = match response {
        Response::Contacts(contacts) => Kind::Contacts(pb::Contacts {
            contacts: contacts_out(contacts),
        }),
        Response::Joined { answer, contacts } => Kind::Joined(pb::Joined {
            answer: match answer {
                Answer::Refused => pb::joined::Answer::Refused,
                Answer::Accepted => pb::joined::Answer::Accepted,
                Answer::Split => pb::joined::Answer::Split,
                Answer::Pending => pb::joined::Answer::Pending,
            } as i32,
            contacts: contacts_out(contacts),
        }),
        Response::Redirected { refusal, addresses } => Kind::Redirected(pb::Redirected {
            refusal: match refusal {
                None => pb::redirected::Refusal::None,
                Some(Refusal::Busy) => pb::redirected::Refusal::Busy,
                Some(Refusal::Unsuitable) => pb::redirected::Refusal::Unsuitable,
                Some(Refusal::TooMany) => pb::redirected::Refusal::TooMany,
                Some(Refusal::NotDialable) => pb::redirected::Refusal::NotDialable,
            } as i32,
            addresses: addresses_out(addresses),
        }),
        Response::Done { ok } => Kind::Done(pb::Done { ok: *ok }),
        Response::HandoverReply(None) => Kind::HandoverReply(pb::HandoverReply::default()),
        Response::HandoverReply(Some(terms)) => Kind::HandoverReply(pb::HandoverReply {
            agreed: true,
            nonce: terms.nonce,
            links: ids_out(&terms.links),
            dialable: terms.dialable,
            addresses: addresses_out(&terms.addresses),
        }),
    };
    pb::Response { kind: Some(kind) }.encode_to_vec()
}

/// Encodes the contacts that a refusal of the handshake carries.
pub fn encode_contacts(contacts: &[NodeContact]) -> Vec<u8> {
    let contacts = contacts_out(contacts);
    pb::Contacts { contacts }.encode_to_vec()
}

/// Decodes the contacts in a refusal of the handshake.
///
/// # Errors
///
/// [`MessageError::Malformed`] when the bytes hold no contacts.
pub fn decode_contacts(bytes: &[u8]) -> Result<Vec<NodeContact>, MessageError> {
    strict::check(bytes, &schemas::CONTACTS).map_err(|_| MessageError::Malformed)?;
    let decoded = pb::Contacts::decode(bytes).map_err(|_| MessageError::Malformed)?;
    Ok(contacts_in(&decoded.contacts))
}

/// Decodes the response in the body of a frame that `from` has sent.
///
/// # Errors
///
/// [`MessageError::Malformed`] when the body holds no message of the protocol.
pub fn decode_response(body: &[u8], from: &PeerId) -> Result<NodeResponse, MessageError> {
    use pb::response::Kind;
    strict::check(body, &schemas::RESPONSE).map_err(|_| MessageError::Malformed)?;
    let decoded = pb::Response::decode(body).map_err(|_| MessageError::Malformed)?;
    Ok(match decoded.kind.ok_or(MessageError::Malformed)? {
        Kind::Contacts(m) => Response::Contacts(contacts_in(&m.contacts)),
        Kind::Joined(m) => Response::Joined {
            answer: match m.answer() {
                pb::joined::Answer::Refused => Answer::Refused,
                pb::joined::Answer::Accepted => Answer::Accepted,
                pb::joined::Answer::Split => Answer::Split,
                pb::joined::Answer::Pending => Answer::Pending,
            },
            contacts: contacts_in(&m.contacts),
        },
        Kind::Redirected(m) => Response::Redirected {
            refusal: match pb::redirected::Refusal::try_from(m.refusal) {
                Ok(pb::redirected::Refusal::None) => None,
                Ok(pb::redirected::Refusal::Unsuitable) => Some(Refusal::Unsuitable),
                Ok(pb::redirected::Refusal::TooMany) => Some(Refusal::TooMany),
                Ok(pb::redirected::Refusal::NotDialable) => Some(Refusal::NotDialable),
                Ok(pb::redirected::Refusal::Busy) | Err(_) => Some(Refusal::Busy),
            },
            addresses: addresses_in(&m.addresses, from),
        },
        Kind::Done(m) => Response::Done { ok: m.ok },
        Kind::HandoverReply(m) => Response::HandoverReply(
            m.agreed
                .then(|| terms_in(from, m.nonce, &m.links, m.dialable, &m.addresses)),
        ),
    })
}

fn terms_in(
    from: &PeerId,
    nonce: u64,
    links: &[Bytes],
    dialable: bool,
    addresses: &[Bytes],
) -> Terms<PeerId, PeerAddress> {
    Terms {
        nonce,
        links: ids_in(links),
        dialable,
        addresses: addresses_in(addresses, from),
    }
}

fn ids_in(ids: &[Bytes]) -> Vec<PeerId> {
    ids.iter()
        .take(MAX_NAMED_LINKS)
        .filter_map(|id| PeerId::from_bytes(id).ok())
        .collect()
}

fn ids_out(ids: &[PeerId]) -> Vec<Bytes> {
    ids.iter()
        .take(MAX_NAMED_LINKS)
        .map(|id| id.to_bytes().into())
        .collect()
}

fn contact_out(contact: &NodeContact) -> pb::Contact {
    pb::Contact {
        peer_id: contact.id.to_bytes().into(),
        addresses: addresses_out(&contact.addresses),
    }
}

fn contacts_out(contacts: &[NodeContact]) -> Vec<pb::Contact> {
    contacts
        .iter()
        .take(MAX_CONTACTS)
        .map(contact_out)
        .collect()
}

fn addresses_out(addresses: &[PeerAddress]) -> Vec<Bytes> {
    addresses
        .iter()
        .take(MAX_ADDRESSES)
        .map(|address| address.to_multiaddr().to_vec().into())
        .collect()
}

fn contact_in(contact: &pb::Contact) -> Option<NodeContact> {
    let id = PeerId::from_bytes(&contact.peer_id).ok()?;
    Some(Contact {
        id,
        addresses: addresses_in(&contact.addresses, &id),
    })
}

fn contacts_in(contacts: &[pb::Contact]) -> Vec<NodeContact> {
    contacts
        .iter()
        .take(MAX_CONTACTS)
        .filter_map(contact_in)
        .collect()
}

/// Returns the first valid addresses of `peer`, and skips all others.
fn addresses_in(addresses: &[Bytes], peer: &PeerId) -> Arc<[PeerAddress]> {
    addresses
        .iter()
        .filter_map(|bytes| PeerAddress::from_bytes(bytes, Some(peer)).ok())
        .take(MAX_ADDRESSES)
        .collect()
}

#[cfg(test)]
mod tests;
