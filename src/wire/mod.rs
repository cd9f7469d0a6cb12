//! Bytes on the wire: one bounded codec for every request-response protocol, the types generated from `proto/`, a strict
//! reader of their encoding, the envelope of gossip with its message id, refused protocols, and source addresses.
//!
//! Entry types: [`FrameCodec`], [`strict::Fields`], [`envelope::MessageId`], [`Source`]. The rule it keeps: a length is
//! checked against its protocol's limit before a byte of the frame is read or memory is reserved for it.

mod codec;
pub mod envelope;
mod negotiation;
pub mod proto;
mod request_response;
pub mod schemas;
mod source;
pub mod strict;

pub use codec::{FrameCodec, FrameError, Limits, Request};
pub use negotiation::{is_refusal, is_unsupported};
pub use request_response::{RequestResponse, request_response};
pub use source::{Source, ip_of, is_loopback};
