//! Errors of files with secrets.
//!
//! Entry type: [`SecretFileError`]. The rule it keeps: each message names the file and the remedy.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// Error when a file with a secret is read or written. Each message names the file and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretFileError {
    /// The file does not exist.
    #[error("{path}: no such file")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The path is a symbolic link.
    #[error("{path} is a symbolic link: give the file it points to")]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// The path is a directory, a device or a socket.
    #[error("{path} is not a file: give the path of a file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file, or its directory, belongs to another user, who can change it.
    #[error(
        "{path} belongs to user {owner}, and this program runs as user {own}: run it as user \
         {owner}, or `chown {own} {path}`"
    )]
    ForeignOwner {
        /// The file or folder.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// The user id of this program.
        own: u32,
    },
    /// Other users may read or write the file.
    #[error(
        "{path} is open to other users (mode {mode:04o}): run `chmod 600 {path}`, and if one of \
         them may have read it, make a new one"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Other users may create files in the directory.
    #[error(
        "the folder {path} can be written by other users (mode {mode:04o}): run `chmod 700 {path}`"
    )]
    FolderExposed {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is larger than any file of its kind.
    #[error("{path} is larger than {limit} bytes: is it the right file?")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Maximum size in bytes.
        limit: usize,
    },
    /// The file exists already, and replacing it was not requested.
    #[error("{path} exists already and was left as it is: give another path, or move it away")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file cannot be written. No part of it exists under its name.
    #[error("{path} cannot be written: {source}{}", remedy(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// Returns advice for a full disk.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; free space there, or choose another directory"
        }
        _ => "",
    }
}

/// Returns the operating system's error if there is one; the caller adds the name of the file.
impl From<SecretFileError> for io::Error {
    fn from(error: SecretFileError) -> io::Error {
        match error {
            SecretFileError::Read { source, .. } | SecretFileError::Write { source, .. } => source,
            error => io::Error::other(error),
        }
    }
}
