//! Other systems: a user's own directories are closed to other users by inheritance, and files have no mode.

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
