//! The blob files on the disk: their names, and the ranges that no row refers to.
//!
//! Entry points: [`files_of`], [`gaps`]. The rule it keeps: only files of this log are touched.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::store::paths::{beside, directory_of};

/// Maximum size of an envelope in bytes; a reference to more is damaged.
pub(super) const MAX_ENVELOPE_BYTES: u64 = 16 << 20;

/// Suffix of the names of blob files, before their number.
const SUFFIX: &str = "-large-";

pub(in crate::store) fn path_of(log: &Path, file: i64) -> PathBuf {
    beside(log, &format!("{SUFFIX}{file}"))
}

/// Syncs the names of the blob files to the disk.
pub(in crate::store) fn sync_names(log: &Path) -> io::Result<()> {
    // Other systems neither open a directory nor need this.
    match cfg!(unix) {
        true => File::open(directory_of(log))?.sync_all(),
        false => Ok(()),
    }
}

/// Lists the blob files of the log `log`: number and size.
pub(in crate::store) fn files_of(log: &Path) -> io::Result<BTreeMap<i64, u64>> {
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{name}{SUFFIX}");
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory_of(log))? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_string_lossy().strip_prefix(&prefix).map(str::parse);
        if let Some(Ok(number @ 1..)) = number {
            files.insert(number, entry.metadata()?.len());
        }
    }
    Ok(files)
}

/// Renames the blob files of the log `from` to those of the log `to`.
pub(in crate::store) fn rename_all(from: &Path, to: &Path) -> io::Result<()> {
    for file in files_of(from)?.into_keys() {
        fs::rename(path_of(from, file), path_of(to, file))?;
    }
    Ok(())
}

/// Removes the blob files of the log `log`.
pub(in crate::store) fn remove_all(log: &Path) -> io::Result<()> {
    for file in files_of(log)?.into_keys() {
        fs::remove_file(path_of(log, file))?;
    }
    Ok(())
}

/// Maximum size of a blob file in bytes. It is the unit in which retention frees space, and the amount that is
/// verified after a power cut. Smaller logs use an eighth of their bound.
pub(in crate::store) const MAX_FILE_BYTES: u64 = 32 << 20;

/// A range of a blob file that no readable row refers to.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Gap {
    file: i64,
    at: u64,
    bytes: u64,
}

impl Gap {
    /// Reads the range; of a file that is larger than a blob file can be, at most that size.
    pub(in crate::store) fn read(self, log: &Path) -> io::Result<Vec<u8>> {
        let mut file = File::open(path_of(log, self.file))?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        file.take(self.bytes.min(MAX_FILE_BYTES + MAX_ENVELOPE_BYTES))
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Returns the ranges in the blob files of the log `log` between these references: for each file, offset and length.
pub(in crate::store) fn gaps(
    log: &Path,
    places: &BTreeMap<i64, BTreeMap<i64, i64>>,
) -> io::Result<Vec<Gap>> {
    let mut gaps = Vec::new();
    for (file, length) in files_of(log)? {
        let mut at = 0;
        for (begin, bytes) in places.get(&file).into_iter().flatten() {
            let begin = u64::try_from(*begin).unwrap_or(0);
            if begin > at {
                let bytes = begin - at;
                gaps.push(Gap { file, at, bytes });
            }
            at = at.max(begin.saturating_add(u64::try_from(*bytes).unwrap_or(0)));
        }
        if length > at {
            let bytes = length - at;
            gaps.push(Gap { file, at, bytes });
        }
    }
    Ok(gaps)
}
