//! How much room the disk has left.
//!
//! Entry function: [`free_bytes`].

use std::path::Path;

/// The bytes that may still be written where `path` lies; none when the system does not say.
#[cfg(unix)]
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The bytes that may still be written where `path` lies; none when the system does not say.
#[cfg(not(unix))]
pub(super) fn free_bytes(_: &Path) -> Option<u64> {
    None
}
