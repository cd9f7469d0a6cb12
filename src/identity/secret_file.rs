//! Files with secrets, and other files for this user alone: read only if no other user could read or write them, and
//! written completely or not at all.
//!
//! Entry functions: [`read_own`], [`write`], [`write_private`], [`open_private`]. The rules it keeps: permissions are
//! checked on the open file, never on its name, and an existing file is replaced only on request.

mod error;
#[cfg(not(unix))]
mod other;
#[cfg(unix)]
mod unix;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

pub use error::SecretFileError;
#[cfg(not(unix))]
use other as platform;
#[cfg(unix)]
use unix as platform;

use super::os_random;

/// Policy for a file that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// Leave the existing file and return an error.
    Refuse,
    /// Replace the existing file in one step.
    Replace,
}

/// Reads a secret of at most `limit` bytes that must be this user's alone: a regular file, not a link, owned by this user
/// and closed to all others.
pub(super) fn read_own(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let file = open_unfollowed(path, OpenOptions::new().read(true))?;
    let metadata = file.metadata().map_err(|source| read_error(path, source))?;
    if !metadata.is_file() {
        return Err(SecretFileError::NotAFile { path: path.into() });
    }
    platform::check_owner_and_mode(path, &metadata)?;
    read_bounded(file, path, limit)
}

/// Reads a secret of at most `limit` bytes that others provide: also through a link, from a pipe or with any owner, as
/// container platforms provide secrets. See [`exposed_to_others`].
pub(super) fn read_any(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let file = File::open(path).map_err(|source| read_error(path, source))?;
    let metadata = file.metadata().map_err(|source| read_error(path, source))?;
    if metadata.is_dir() {
        return Err(SecretFileError::NotAFile { path: path.into() });
    }
    read_bounded(file, path, limit)
}

/// Returns whether other users may read or write the file at `path`, which deserves a warning if it holds a secret. Returns
/// false where files have no such permissions, and on an error.
pub fn exposed_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| platform::open_to_others(&metadata))
}

/// Writes `secret` to `path` with mode 0600: to a temporary file, synced to disk, and then renamed in one step. An error
/// leaves `path` as it was.
pub(super) fn write(
    path: &Path,
    secret: &[u8],
    if_exists: IfExists,
) -> Result<(), SecretFileError> {
    write_and_rename(path, secret, if_exists).map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => SecretFileError::Exists { path: path.into() },
        _ => SecretFileError::Write {
            path: path.into(),
            source,
        },
    })
}

/// Replaces the file at `path` by `bytes`, with mode 0600: writes a temporary file, syncs it to disk, and renames it in one
/// step.
///
/// # Errors
///
/// Returns the operating system's error. The previous file is then unchanged.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), SecretFileError> {
    write(path, bytes, IfExists::Replace)
}

/// Opens the file at `path` for reading and writing, with mode 0600, and creates it if it does not exist. Keeps its content.
///
/// # Errors
///
/// Returns an error for a symbolic link, for anything but a file, and for a file of another user: a user who can place one
/// there could redirect the writes.
pub fn open_private(path: &Path) -> Result<File, SecretFileError> {
    let failed = |source| SecretFileError::Write {
        path: path.into(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    platform::for_owner_alone(&mut options);
    match options.open(path) {
        Ok(file) => return Ok(file),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let file = open_unfollowed(path, &mut options)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(SecretFileError::NotAFile { path: path.into() });
    }
    platform::check_owner(path, &metadata)?;
    platform::close_to_others(&file).map_err(failed)?;
    Ok(file)
}

/// Creates the directory `path` and its parents for this user alone (0700). An existing directory is refused when other
/// users may create files in it.
pub(super) fn make_folder(path: &Path) -> Result<(), SecretFileError> {
    let failed = |source| SecretFileError::Write {
        path: path.into(),
        source,
    };
    platform::create_folder(path).map_err(failed)?;
    let metadata = fs::metadata(path).map_err(failed)?;
    platform::check_folder(path, &metadata)
}

fn open_unfollowed(path: &Path, options: &mut OpenOptions) -> Result<File, SecretFileError> {
    platform::do_not_follow(options);
    match options.open(path) {
        Ok(file) => Ok(file),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) => {
            Err(SecretFileError::Symlink { path: path.into() })
        }
        Err(source) => Err(read_error(path, source)),
    }
}

fn read_bounded(
    file: File,
    path: &Path,
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    // Reserved in full, so that no reallocation leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 2));
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| read_error(path, source))?;
    if bytes.len() > limit {
        return Err(SecretFileError::TooLarge {
            path: path.into(),
            limit,
        });
    }
    Ok(bytes)
}

fn read_error(path: &Path, source: io::Error) -> SecretFileError {
    match source.kind() {
        ErrorKind::NotFound => SecretFileError::Missing { path: path.into() },
        _ => SecretFileError::Read {
            path: path.into(),
            source,
        },
    }
}

fn write_and_rename(path: &Path, secret: &[u8], if_exists: IfExists) -> io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let temp = TempFile::create(folder, name)?;
    (&temp.file).write_all(secret)?;
    temp.file.sync_all()?;
    match if_exists {
        IfExists::Replace => fs::rename(&temp.path, path)?,
        IfExists::Refuse => platform::place_new(&temp.path, path)?,
    }
    platform::sync_folder(folder)
}

/// A temporary file in the target's directory. It is removed on drop, unless it was renamed.
struct TempFile {
    path: PathBuf,
    file: File,
}

impl TempFile {
    fn create(folder: &Path, name: &OsStr) -> io::Result<TempFile> {
        let mut temp = OsStr::new(".").to_owned();
        temp.push(name);
        temp.push(format!(".{}.tmp", hex::encode(*os_random::<8>())));
        let path = folder.join(temp);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        platform::for_owner_alone(&mut options);
        let file = options.open(&path)?;
        Ok(TempFile { path, file })
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // After a rename nothing is left to remove. Other failures leave a file that only its owner can read.
        let _ = fs::remove_file(&self.path);
    }
}
