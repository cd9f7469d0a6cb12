//! The data directory: where it is, and that one node has it at a time.
//!
//! Entry type: [`Lock`]. The rule it keeps: a directory is locked for as long as the process lives,
//! by the system, so that no crash leaves it locked.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::identity;

const LOCK_FILE_NAME: &str = "lock";
/// More digits than a process id has.
const MAX_PROCESS_ID: u64 = 20;

/// The directory that was asked for, or the platform's.
pub(crate) fn resolve(asked: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(folder) = asked {
        return Ok(folder);
    }
    match directories::ProjectDirs::from("", "", "diatribe") {
        Some(dirs) => Ok(dirs.data_dir().to_owned()),
        None => Err(Failure::usage(
            "there is no home directory to keep data in: say where with --data-dir",
        )),
    }
}

/// A data directory that this process has for itself.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Makes the directory if need be and takes it, or says who has it.
    pub(crate) fn take(folder: &Path) -> Result<Lock, Failure> {
        identity::create_folder(folder).map_err(Failure::new)?;
        let path = folder.join(LOCK_FILE_NAME);
        let failed = |e| Failure::new(format!("{} cannot be locked: {e}", path.display()));
        let mut file = identity::open_private(&path).map_err(Failure::new)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(format!(
                    "another node{} runs on the data directory {}: stop it, or give this one its \
                     own with --data-dir",
                    holder(&mut file),
                    folder.display()
                )));
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        // Only a help for whoever is refused: without it the lock holds all the same.
        let _ = file
            .set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Lock { _file: file })
    }
}

/// " (process N)", if the lock says so.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(MAX_PROCESS_ID).read_to_string(&mut text) {
        Ok(_) if text.trim().parse::<u32>().is_ok() => format!(" (process {})", text.trim()),
        _ => String::new(),
    }
}
