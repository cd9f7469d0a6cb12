//! Whole nodes over real loopback sockets: one file for each promise.

mod cluster;
mod link;
