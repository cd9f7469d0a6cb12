//! Files that hold a secret, or are for this user alone: read only when nobody else could have read or written them,
//! written whole or not at all.
//!
//! Entry: [`read_own`], [`write`], [`write_private`], [`open_private`]. The rule kept here: what is checked is the opened file itself,
//! never its name a moment earlier, and an existing file is replaced only when that was asked for.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::os_random;

/// What to do when the file to be written is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfExists {
    /// Leave it as it is and say so.
    Refuse,
    /// Put the new one in its place, in one step.
    Replace,
}

/// Why a file with a secret was not read or not written. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It is not there.
    #[error("{path}: no such file")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A symbolic link stands there.
    #[error("{path} is a symbolic link: give the file it points to")]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// A directory, a device, a socket.
    #[error("{path} is not a file: give the path of a file")]
    NotAFile {
        /// What is no file.
        path: PathBuf,
    },
    /// It, or the folder around it, belongs to another user, who may change it at will.
    #[error(
        "{path} belongs to user {owner}, and this program runs as user {own}: run it as user \
         {owner}, or `chown {own} {path}`"
    )]
    ForeignOwner {
        /// The file or folder.
        path: PathBuf,
        /// The user it belongs to.
        owner: u32,
        /// The user that this program runs as.
        own: u32,
    },
    /// Others may read or write it.
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
    /// Others may put files of theirs into the folder.
    #[error(
        "the folder {path} can be written by other users (mode {mode:04o}): run `chmod 700 {path}`"
    )]
    FolderExposed {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Larger than anything of its kind.
    #[error("{path} is larger than {limit} bytes: is it the right file?")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: usize,
    },
    /// It is there already, and replacing it was not asked for.
    #[error("{path} exists already and was left as it is: give another path, or move it away")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The system refused to read it.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused to write it; nothing was left half-written under its name.
    #[error("{path} cannot be written: {source}{}", remedy(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What to do where a disk is full.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "; free space there, or choose another directory"
        }
        _ => "",
    }
}

/// What the system said, where it did; whoever reports it names the file.
impl From<SecretFileError> for io::Error {
    fn from(error: SecretFileError) -> io::Error {
        match error {
            SecretFileError::Read { source, .. } | SecretFileError::Write { source, .. } => source,
            error => io::Error::other(error),
        }
    }
}

/// Reads a secret that is to be this user's alone: a regular file, not a link, owned by this user,
/// closed to all others, of at most `limit` bytes.
pub(super) fn read_own(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let file = open_unfollowed(path, OpenOptions::new().read(true))?;
    let metadata = file.metadata().map_err(|source| read_error(path, source))?;
    if !metadata.is_file() {
        return Err(SecretFileError::NotAFile { path: path.into() });
    }
    platform::check_owner_and_mode(path, &metadata)?;
    read_bounded(file, path, limit)
}

/// Reads a secret of at most `limit` bytes that others provide: also through a link, from a pipe
/// or with any owner, as container platforms hand secrets in. See [`exposed_to_others`].
pub(super) fn read_any(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let file = File::open(path).map_err(|source| read_error(path, source))?;
    let metadata = file.metadata().map_err(|source| read_error(path, source))?;
    if metadata.is_dir() {
        return Err(SecretFileError::NotAFile { path: path.into() });
    }
    read_bounded(file, path, limit)
}

/// Whether other users may read or write the file at `path`: worth a warning when it holds a
/// secret. False where files have no such permissions, and when it cannot be told.
pub fn exposed_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| platform::open_to_others(&metadata))
}

/// Writes `secret` to `path`, mode 0600: aside, synced to disk, then put in place in one step.
/// After an error nothing stands under `path` that was not there before.
pub(super) fn write(
    path: &Path,
    secret: &[u8],
    if_exists: IfExists,
) -> Result<(), SecretFileError> {
    write_aside_and_place(path, secret, if_exists).map_err(|source| match source.kind() {
        ErrorKind::AlreadyExists => SecretFileError::Exists { path: path.into() },
        _ => SecretFileError::Write {
            path: path.into(),
            source,
        },
    })
}

/// Writes `bytes` to `path`, mode 0600, in place of what is there: aside, synced to disk, then put in place in one step.
///
/// # Errors
///
/// Says what the system refused. Then what was there still is.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), SecretFileError> {
    write(path, bytes, IfExists::Replace)
}

/// Opens the file at `path` to be read and written, mode 0600, and makes it if it is not there. What is in it stays.
///
/// # Errors
///
/// Refuses a symbolic link, whatever is no file, and a file of another user's: who can put one of these there would
/// choose what is written to.
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

/// Makes the folder `path`, with those above it, for this user alone (0700). One that is there
/// already is refused when others may put files into it.
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
    // Room for all of it at once, so that no copy is left behind by a reallocation.
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

fn write_aside_and_place(path: &Path, secret: &[u8], if_exists: IfExists) -> io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let aside = Aside::create(folder, name)?;
    (&aside.file).write_all(secret)?;
    aside.file.sync_all()?;
    match if_exists {
        IfExists::Replace => fs::rename(&aside.path, path)?,
        IfExists::Refuse => platform::place_new(&aside.path, path)?,
    }
    platform::sync_folder(folder)
}

/// A file beside the one to be written; gone when this is dropped, unless it was renamed.
struct Aside {
    path: PathBuf,
    file: File,
}

impl Aside {
    fn create(folder: &Path, name: &OsStr) -> io::Result<Aside> {
        let mut aside = OsStr::new(".").to_owned();
        aside.push(name);
        aside.push(format!(".{}.tmp", hex::encode(*os_random::<8>())));
        let path = folder.join(aside);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        platform::for_owner_alone(&mut options);
        let file = options.open(&path)?;
        Ok(Aside { path, file })
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove; other failures leave a file that only
        // its owner can read.
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
    /// What group and others may do.
    const OTHERS: u32 = 0o077;
    /// Writing by group and others.
    const OTHERS_WRITE: u32 = 0o022;
    /// May do anything anyway, so that a folder of root's takes nothing away.
    const ROOT: u32 = 0;

    pub(super) fn do_not_follow(options: &mut OpenOptions) {
        // NONBLOCK: opening a pipe would otherwise wait for its writer.
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

    /// Gives `aside` the name `path` unless that is taken.
    pub(super) fn place_new(aside: &Path, path: &Path) -> io::Result<()> {
        match fs::hard_link(aside, path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
            // FAT and some network file systems have no hard links.
            Err(_) => rename_new(aside, path),
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    fn rename_new(aside: &Path, path: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        Ok(renameat_with(
            CWD,
            aside,
            CWD,
            path,
            RenameFlags::NOREPLACE,
        )?)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    /// Makes the new name itself last through a power cut.
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

/// Elsewhere a user's own folders are closed to others by inheritance, and files have no mode.
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

    pub(super) fn place_new(aside: &Path, path: &Path) -> io::Result<()> {
        fs::hard_link(aside, path)
    }

    pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
        Ok(())
    }
}
