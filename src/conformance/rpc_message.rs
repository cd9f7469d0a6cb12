//! gossipsub's RPC as it is received: the fields that the cases check.
//!
//! Entry type: [`Rpc`].

/// A received RPC.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rpc {
    /// Subscriptions and unsubscriptions.
    #[prost(message, repeated, tag = "1")]
    pub subscriptions: Vec<Subscription>,
    /// Published messages.
    #[prost(message, repeated, tag = "2")]
    pub publish: Vec<Published>,
    /// Control messages.
    #[prost(message, optional, tag = "3")]
    pub control: Option<Control>,
}

/// A topic that the sender subscribes to or unsubscribes from.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Subscription {
    /// Whether it is a subscription.
    #[prost(bool, tag = "1")]
    pub subscribe: bool,
    /// The topic.
    #[prost(string, tag = "2")]
    pub topic: String,
}

/// A message, with the fields that StrictNoSign forbids.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Published {
    /// The author's peer id: forbidden.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub from: Option<Vec<u8>>,
    /// The envelope of a batch.
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
    /// The author's sequence number: forbidden.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub seqno: Option<Vec<u8>>,
    /// The topic.
    #[prost(string, tag = "4")]
    pub topic: String,
    /// gossipsub's signature: forbidden.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub signature: Option<Vec<u8>>,
    /// The author's key: forbidden.
    #[prost(bytes = "vec", optional, tag = "6")]
    pub key: Option<Vec<u8>>,
}

/// gossipsub's control messages.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Control {
    /// Announcements of messages.
    #[prost(message, repeated, tag = "1")]
    pub ihave: Vec<Have>,
    /// Requests for messages.
    #[prost(message, repeated, tag = "2")]
    pub iwant: Vec<Ids>,
    /// Requests to join the mesh of a topic.
    #[prost(message, repeated, tag = "3")]
    pub graft: Vec<Topic>,
}

/// Ids of messages in a topic.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Have {
    /// The topic.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// The ids.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub ids: Vec<Vec<u8>>,
}

/// Ids of messages.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ids {
    /// The ids.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub ids: Vec<Vec<u8>>,
}

/// A topic.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Topic {
    /// The topic.
    #[prost(string, tag = "1")]
    pub topic: String,
}
