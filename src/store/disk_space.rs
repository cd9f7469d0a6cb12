//! Free space of the disk.
//!
//! Entry function: [`free_bytes`].

use std::path::Path;

/// Returns the bytes that may still be written to the file system of `path`; none if the system does not report them.
#[cfg(unix)]
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Returns none: the system does not report free bytes.
#[cfg(not(unix))]
pub(super) fn free_bytes(_: &Path) -> Option<u64> {
    None
}
