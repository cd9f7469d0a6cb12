//! Owners, modes and links of files on Unix.

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
