//! Tests of the handshake. `pair` has the two machines, and the frames between them.

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
