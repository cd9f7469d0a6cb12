//! Files with secrets, and other files for this user alone: read only if no other user could read or write them, and
//! written completely or not at all.
//!
//! Entry functions: [`read_own`], [`write`], [`write_private`], [`open_private`]. The rules it keeps: permissions are
//! checked on the open file, never on its name, and an existing file is replaced only on request.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::os_random;

/// Policy for a file that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// Leave the existing file and return an error.
    Refuse,
    /// Replace the existing file in one step.
    Replace,
}

/// Error when a file with a secret is read or written. Each message names the file and the remedy.
#[derive(Debug, thiserror::Error)]
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

#[cfg(unix)]
mod platform {
    use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
    use std::io::{self, ErrorKind};
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
    use std::path::Path;

    use rustix::fs::OFlags;

    use super::SecretFileError;

    /// All permission bits, without the type of the file.
    const MODE_BITS: u32 = 0o7777;
    /// All permissions of group and others.
    const OTHERS: u32 = 0o077;
    /// Write permission of group and others.
    const OTHERS_WRITE: u32 = 0o022;
    /// User id of root. Root can do anything, so a directory of root's is no risk.
    const ROOT: u32 = 0;

    pub(super) fn do_not_follow(options: &mut OpenOptions) {
        // NONBLOCK, because opening a pipe would otherwise wait for its writer.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(flags.bits() as i32);
    }

    pub(super) fn for_owner_alone(options: &mut OpenOptions) {
        options.mode(0o600);
    }

    pub(super) fn open_to_others(metadata: &Metadata) -> bool {
        metadata.mode() & OTHERS != 0
    }

    pub(super) fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), SecretFileError> {
        let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
        match owner == own {
            true => Ok(()),
            false => Err(SecretFileError::ForeignOwner {
                path: path.into(),
                owner,
                own,
            }),
        }
    }

    pub(super) fn close_to_others(file: &File) -> io::Result<()> {
        match open_to_others(&file.metadata()?) {
            true => file.set_permissions(Permissions::from_mode(0o600)),
            false => Ok(()),
        }
    }

    pub(super) fn check_owner_and_mode(
        path: &Path,
        metadata: &Metadata,
    ) -> Result<(), SecretFileError> {
        check_owner(path, metadata)?;
        if open_to_others(metadata) {
            let mode = metadata.mode() & MODE_BITS;
            return Err(SecretFileError::Exposed {
                path: path.into(),
                mode,
            });
        }
        Ok(())
    }

    pub(super) fn create_folder(path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    pub(super) fn check_folder(path: &Path, metadata: &Metadata) -> Result<(), SecretFileError> {
        let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != own && owner != ROOT {
            return Err(SecretFileError::ForeignOwner {
                path: path.into(),
                owner,
                own,
            });
        }
        if metadata.mode() & OTHERS_WRITE != 0 {
            let mode = metadata.mode() & MODE_BITS;
            return Err(SecretFileError::FolderExposed {
                path: path.into(),
                mode,
            });
        }
        Ok(())
    }

    /// Renames `temp` to `path`, and fails if that exists.
    pub(super) fn place_new(temp: &Path, path: &Path) -> io::Result<()> {
        match fs::hard_link(temp, path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
            // FAT and some network file systems have no hard links.
            Err(_) => rename_new(temp, path),
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    fn rename_new(temp: &Path, path: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        Ok(renameat_with(CWD, temp, CWD, path, RenameFlags::NOREPLACE)?)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Syncs the directory, so that the new name survives a power cut.
    pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
        match File::open(folder)?.sync_all() {
            // Some network file systems do not sync folders; the file itself was synced.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::InvalidInput | ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

/// Other systems: a user's own directories are closed to other users by inheritance, and files have no mode.
#[cfg(not(unix))]
mod platform {
    use std::fs::{self, File, Metadata, OpenOptions};
    use std::io;
    use std::path::Path;

    use super::SecretFileError;

    pub(super) fn do_not_follow(_: &mut OpenOptions) {}

    pub(super) fn for_owner_alone(_: &mut OpenOptions) {}

    pub(super) fn open_to_others(_: &Metadata) -> bool {
        false
    }

    pub(super) fn check_owner(_: &Path, _: &Metadata) -> Result<(), SecretFileError> {
        Ok(())
    }

    pub(super) fn close_to_others(_: &File) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn check_owner_and_mode(_: &Path, _: &Metadata) -> Result<(), SecretFileError> {
        Ok(())
    }

    pub(super) fn create_folder(path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    pub(super) fn check_folder(_: &Path, _: &Metadata) -> Result<(), SecretFileError> {
        Ok(())
    }

    pub(super) fn place_new(temp: &Path, path: &Path) -> io::Result<()> {
        fs::hard_link(temp, path)
    }

    pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
        Ok(())
    }
}
