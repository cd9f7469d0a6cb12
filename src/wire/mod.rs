//! How bytes become frames: one bounded codec for every request-response protocol, the types
//! generated from `proto/`, the edges of their encoding, what an envelope of gossip looks like and is called, what
//! a peer says to a protocol, and where bytes come from.
//!
//! Entry types: [`FrameCodec`], [`strict::Fields`], [`envelope::MessageId`], [`Source`]. The rule it keeps: a length is checked against its
//! protocol's limit before a byte of the frame is read or reserved.

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
