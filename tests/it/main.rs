//! Whole nodes over real loopback sockets: one file for each promise.

mod address;
mod architecture;
mod catch_up;
mod cluster;
mod conformance;
mod crowded;
mod demo;
mod flood;
mod generated_code;
mod history;
mod hostile_addresses;
mod large;
mod link;
#[cfg(target_os = "linux")]
mod machine;
mod member_gossip;
mod mesh;
mod partition;
mod program;
mod program_bench;
mod program_check;
mod program_check_others;
#[cfg(unix)]
mod program_confirmed;
mod program_disk;
#[cfg(target_os = "linux")]
mod program_disk_namespace;
mod program_history;
mod program_keys;
mod program_log;
#[cfg(target_os = "linux")]
mod program_log_namespace;
mod program_mesh;
#[cfg(target_os = "linux")]
mod program_namespace;
#[cfg(target_os = "linux")]
mod program_namespace_names;
#[cfg(target_os = "linux")]
mod program_real_clock;
mod program_refused;
#[cfg(unix)]
mod program_reload;
mod program_strangers;
mod program_streams;
mod program_support;
#[cfg(target_os = "linux")]
mod program_terminal;
mod program_tls;
mod promises;
mod raw_peer;
mod reconnect;
mod security;
mod slots;
mod slow;
mod slow_line;
mod slow_reader;
mod stranger;
mod stranger_bytes;
mod stranger_frames;
mod stranger_gossip;
mod stranger_learns;
mod stranger_slots;
