//! The overlay's messages as the state machine knows them, and as `proto/overlay.proto` writes them.
//!
//! Entry types: [`Request`], [`Response`], [`decode_request`], [`encode_request`]. The rule they
//! keep: what a peer sends is cut to the limits here, a contact without a valid peer id never
//! becomes a [`Contact`], and of addresses only the one form of [`PeerAddress`] gets through.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use prost::Message as _;

use super::options::{MAX_ADDRESSES, MAX_CONTACTS, MAX_NAMED_LINKS};
use super::peer_address::PeerAddress;
use crate::wire::proto::overlay as pb;
use crate::wire::schemas::overlay as schemas;
use crate::wire::strict;

/// The largest frame of the protocol, in bytes.
pub const MAX_FRAME: usize = 8 * 1024;

/// A peer, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact<I, A> {
    /// Who.
    pub id: I,
    /// Where.
    pub addresses: Arc<[A]>,
}

/// Who dials whom in a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The receiver dials.
    Dial,
    /// The receiver is dialled.
    Expect,
}

/// What a link may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<I, A> {
    /// Exchange contacts.
    Shuffle {
        /// The sender's.
        offered: Vec<Contact<I, A>>,
    },
    /// Keep me, or find me links.
    Join {
        /// Names the handover that may follow, and for what its sender is known.
        terms: Terms<I, A>,
        /// 2 split, 1 make room, 0 only if there is room.
        need: u32,
    },
    /// The redirect hint.
    Redirect {
        /// The newcomer's.
        nonce: u64,
        /// Who dials.
        role: Role,
        /// The peer.
        to: Contact<I, A>,
    },
    /// This link is the one that the handover of this nonce asked for.
    Attach {
        /// The newcomer's.
        nonce: u64,
    },
    /// The link is up, or will not be.
    Report {
        /// The newcomer's.
        nonce: u64,
        /// Which.
        linked: bool,
    },
    /// The handover ends without its aim.
    Cancel {
        /// The newcomer's.
        nonce: u64,
        /// Whether the receiver's link with the sender stays.
        keep: bool,
        /// Whom to try instead.
        contacts: Vec<Contact<I, A>>,
    },
    /// Take over one of my links.
    ProposeHandover {
        /// And give one back.
        pair: bool,
    },
    /// Do without our link: we have a neighbour in common.
    DropRedundantLink {
        /// The sender's links.
        links: Vec<I>,
    },
    /// The sender stops.
    Leave {
        /// Its other links.
        contacts: Vec<Contact<I, A>>,
    },
}

/// What the taker of a link tells its giver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms<I, A> {
    /// Names the handover.
    pub nonce: u64,
    /// The taker's links: whom not to give it.
    pub links: Vec<I>,
    /// Whether others can dial it.
    pub dialable: bool,
    /// Where.
    pub addresses: Arc<[A]>,
}

/// The answer to a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Close the link.
    Refused,
    /// It stays.
    Accepted,
    /// It stays, and a redirect follows.
    Split,
    /// It stays if room can be made.
    Pending,
}

/// Why a redirect is not obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// In a handover, or no room.
    Busy,
    /// Against a rule.
    Unsuitable,
    /// Too many.
    TooMany,
    /// Nobody can dial the receiver.
    NotDialable,
}

/// What a link may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<I, A> {
    /// To a shuffle.
    Contacts(Vec<Contact<I, A>>),
    /// To a join.
    Joined {
        /// Yes or no.
        answer: Answer,
        /// Whom to try further.
        contacts: Vec<Contact<I, A>>,
    },
    /// To a redirect.
    Redirected {
        /// Why not, if not.
        refusal: Option<Refusal>,
        /// Where the receiver can be dialled.
        addresses: Arc<[A]>,
    },
    /// To the rest.
    Done {
        /// Whether it was agreed to.
        ok: bool,
    },
    /// To a take: the terms, if agreed.
    HandoverReply(Option<Terms<I, A>>),
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not the protobuf that it should be, or of an unknown kind.
    #[error("the frame holds no overlay message")]
    Malformed,
    /// A redirect without a peer id, or with one that is none.
    #[error("a redirect names no valid peer id")]
    NoPeerId,
}

/// The messages of the real node.
pub type NodeRequest = Request<PeerId, PeerAddress>;
/// The responses of the real node.
pub type NodeResponse = Response<PeerId, PeerAddress>;
type NodeContact = Contact<PeerId, PeerAddress>;

/// The body of a request's frame.
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

/// The request in the body of a frame that `from` has sent.
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

/// The body of a response's frame.
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

/// The contacts that a handshake's refusal carries, as bytes.
pub fn encode_contacts(contacts: &[NodeContact]) -> Vec<u8> {
    let contacts = contacts_out(contacts);
    pb::Contacts { contacts }.encode_to_vec()
}

/// The contacts in a handshake's refusal.
pub fn decode_contacts(bytes: &[u8]) -> Result<Vec<NodeContact>, MessageError> {
    strict::check(bytes, &schemas::CONTACTS).map_err(|_| MessageError::Malformed)?;
    let decoded = pb::Contacts::decode(bytes).map_err(|_| MessageError::Malformed)?;
    Ok(contacts_in(&decoded.contacts))
}

/// The response in the body of a frame that `from` has sent.
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

/// The first addresses that are addresses of `peer`; all others are passed over.
fn addresses_in(addresses: &[Bytes], peer: &PeerId) -> Arc<[PeerAddress]> {
    addresses
        .iter()
        .filter_map(|bytes| PeerAddress::from_bytes(bytes, Some(peer)).ok())
        .take(MAX_ADDRESSES)
        .collect()
}

#[cfg(test)]
mod tests;
