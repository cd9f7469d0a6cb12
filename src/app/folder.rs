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
/// Maximum size of the lock file to read: more digits than a PID has.
const MAX_PROCESS_ID: u64 = 20;

/// Returns the directory that was given, or the platform's data directory.
pub(crate) fn resolve(asked: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(folder) = asked {
        return match folder.metadata().is_ok_and(|found| !found.is_dir()) {
            true => Err(Failure::usage(format!(
                "--data-dir {}: that is a file; give a directory, which is made if there is none",
                folder.display()
            ))),
            false => Ok(folder),
        };
    }
    match directories::ProjectDirs::from("", "", "diatribe") {
        Some(dirs) => Ok(dirs.data_dir().to_owned()),
        None => Err(Failure::usage(
            "there is no home directory to keep data in: say where with --data-dir",
        )),
    }
}

/// The lock of a data directory, held by this process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Creates the directory if it is missing and locks it.
    ///
    /// # Errors
    ///
    /// Fails when it cannot be created, or names the process that holds the lock.
    pub(crate) fn take(folder: &Path) -> Result<Lock, Failure> {
        identity::create_folder(folder).map_err(Failure::new)?;
        let path = folder.join(LOCK_FILE_NAME);
        let failed = |e| Failure::new(format!("{} cannot be locked: {e}", path.display()));
        let mut file = identity::open_private(&path).map_err(Failure::new)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let who = match holder(&mut file) {
                    Some(id) => format!("another node (process {id}) runs on"),
                    None => format!("another program holds the lock {} on", path.display()),
                };
                return Err(Failure::new(format!(
                    "{who} the data directory {}: stop it, or give this one its own with --data-dir",
                    folder.display()
                )));
            }
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        // The PID only makes the error of the next process clearer: without it the lock works all the same.
        let _ = file
            .set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Lock { _file: file })
    }
}

/// Returns the PID in the lock file, if that process still runs: a PID that an ended node left there is ignored.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(MAX_PROCESS_ID).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|id| is_running(*id))
}

#[cfg(unix)]
fn is_running(id: u32) -> bool {
    let process = i32::try_from(id)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    process.is_some_and(|process| {
        // One of another user runs as well.
        let answered = rustix::process::test_kill_process(process);
        matches!(answered, Ok(()) | Err(rustix::io::Errno::PERM))
    })
}

#[cfg(not(unix))]
fn is_running(_: u32) -> bool {
    true
}

/// Returns whether files can be created in `folder`, or the folder itself can be created.
#[cfg(unix)]
pub(crate) fn is_writable(folder: &Path) -> bool {
    use rustix::fs::{Access, access};
    let found = folder.ancestors().find(|folder| folder.exists());
    let found = found.filter(|found| !found.as_os_str().is_empty());
    access(
        found.unwrap_or(Path::new(".")),
        Access::WRITE_OK | Access::EXEC_OK,
    )
    .is_ok()
}

/// On other systems the attempt itself shows it.
#[cfg(not(unix))]
pub(crate) fn is_writable(_: &Path) -> bool {
    true
}
