//! Whole nodes over real loopback sockets: one file for each promise.

mod address;
mod cluster;
mod direction;
mod generated_code;
mod history;
mod link;
mod mesh;
mod program;
mod program_check;
mod program_keys;
mod program_refused;
mod program_support;
mod raw_gossip;
mod raw_peer;
mod raw_streams;
mod reconnect;
mod stranger;
mod stranger_bytes;
mod stranger_frames;
mod stranger_gossip;
