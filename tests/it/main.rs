//! Whole nodes over real loopback sockets: one file for each promise.

mod address;
mod catch_up;
mod cluster;
mod demo;
mod direction;
mod generated_code;
mod history;
mod link;
mod mesh;
mod partition;
mod program;
mod program_check;
mod program_history;
mod program_keys;
mod program_log;
mod program_mesh;
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
