//! Fuzz targets: no message of a stranger or a member, and no file, makes a decoder panic or an answer exceed its limit.
//!
//! They run as ordinary tests, each some thousand times. For longer:
//!
//! ```sh
//! BOLERO_RANDOM_ITERATIONS=1000000000 BOLERO_RANDOM_TEST_TIME_MS=60000 CARGO_PROFILE_DEV_OPT_LEVEL=2 \
//!     cargo test --test fuzz -- --nocapture --test-threads 1
//! ```
//!
//! and `cargo bolero test --package diatribe TARGET` drives them by coverage. Each input is a seed out of
//! `proto/vectors` with some edits, which is why few inputs fail at their first byte.

mod case;
mod files;
mod frames;
mod gossip;
mod handshake;
mod overlay;
mod seeds;
mod sync;
