//! Whole nodes over real loopback sockets: one file for each promise.

mod address;
mod cluster;
mod direction;
mod generated_code;
mod link;
