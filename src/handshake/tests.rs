//! The handshake's promises. `pair` is the vocabulary: two machines, and the frames between them.

mod binding;
mod flow;
mod forge;
mod forgery;
mod keys;
mod order;
mod pair;
mod timing;
mod vectors;
mod weak_keys;
