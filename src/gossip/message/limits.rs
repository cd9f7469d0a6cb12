//! Limits of a batch and of its events. Those of a whole message and of an event's data are in
//! [`envelope`](crate::wire::envelope).

/// Maximum size of a batch of several events in bytes, each event counted as [`Event::cost`](super::Event::cost). It is large enough to make
/// signatures, forwarding and the log's rows cheap: under full load an event costs a sixth less than with 64 KiB (measured;
/// twice the size gains little more). It is small enough not to delay the next message: 0.2 s at 10 Mbit/s, and only when
/// that much is queued.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Maximum number of events in a batch. Each event costs its reader an allocation, a line of output and a row in the log,
/// however small it is, and a message of two-byte events would otherwise have half a million of them.
pub const MAX_EVENTS: usize = 1024;

/// Maximum number of previous batches that a batch refers to: one of its own instance, and the newest of three other
/// instances with the same identity.
pub const MAX_PREV: usize = 4;

/// Maximum number of an event, 2^53 − 1: JSON and SQLite represent it exactly in every language.
pub const MAX_SEQ: u64 = (1 << 53) - 1;

/// Maximum time, in milliseconds, by which a batch may be dated ahead of this node's clock: badly set clocks differ by as
/// much.
pub const MAX_AHEAD_MS: u64 = 5 * 60 * 1000;

/// Maximum size of an event's name in bytes.
pub const MAX_EVENT_NAME: usize = 256;
