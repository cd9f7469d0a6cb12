//! Names of the log's files, and the permissions with which they are created.
//!
//! Entry points: [`beside`], [`make_private`]. The rule it keeps: only the owner may read a file of the log.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use super::error::LogError;

/// Name of the log's file in the data directory.
pub const FILE_NAME: &str = "log.sqlite3";

/// Creates an empty file that only its owner may read, if there is none. Returns whether it did. SQLite gives the
/// files beside it the same permissions.
pub(super) fn make_private(path: &Path) -> Result<bool, LogError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(LogError::from_io(path, error)),
    }
}

/// Returns the directory of the file `path`.
pub(super) fn directory_of(path: &Path) -> &Path {
    let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

/// Returns `path` with `suffix` appended to its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
