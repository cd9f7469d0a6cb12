//! gossipsub's RPC as it arrives: the fields that the cases look at.
//!
//! Entry type: [`Rpc`].

/// What the other side says: the fields that matter here.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rpc {
    /// Into which topics it comes, and out of which it goes.
    #[prost(message, repeated, tag = "1")]
    pub subscriptions: Vec<Subscription>,
    /// Messages.
    #[prost(message, repeated, tag = "2")]
    pub publish: Vec<Published>,
    /// All the rest.
    #[prost(message, optional, tag = "3")]
    pub control: Option<Control>,
}

/// A topic that is entered or left.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Subscription {
    /// Entered, or left.
    #[prost(bool, tag = "1")]
    pub subscribe: bool,
    /// Which.
    #[prost(string, tag = "2")]
    pub topic: String,
}

/// A message, with the fields that StrictNoSign forbids.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Published {
    /// Forbidden.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub from: Option<Vec<u8>>,
    /// An envelope.
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
    /// Forbidden.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub seqno: Option<Vec<u8>>,
    /// Where.
    #[prost(string, tag = "4")]
    pub topic: String,
    /// Forbidden.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub signature: Option<Vec<u8>>,
    /// Forbidden.
    #[prost(bytes = "vec", optional, tag = "6")]
    pub key: Option<Vec<u8>>,
}

/// gossipsub's own.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Control {
    /// What the sender has.
    #[prost(message, repeated, tag = "1")]
    pub ihave: Vec<Have>,
    /// What it asks for.
    #[prost(message, repeated, tag = "2")]
    pub iwant: Vec<Ids>,
    /// Into whose mesh it asks to be taken.
    #[prost(message, repeated, tag = "3")]
    pub graft: Vec<Topic>,
}

/// Ids of messages in a topic.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Have {
    /// Where.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Which.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub ids: Vec<Vec<u8>>,
}

/// Ids of messages.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ids {
    /// Which.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub ids: Vec<Vec<u8>>,
}

/// A topic.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Topic {
    /// Which.
    #[prost(string, tag = "1")]
    pub topic: String,
}
