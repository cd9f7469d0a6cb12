//! Reads the options for retention and durability of the log.
//!
//! Entry functions: [`keep`], [`keep_of_log`].

use std::time::Duration;

use crate::app::args::{KeepArgs, SyncChoice};
use crate::app::failure::Failure;
use crate::node::EPHEMERAL_BYTES;
use crate::store::{self, RetentionPolicy};

/// Minimum size of a log: its empty tables and indices take some of it.
const MIN_KEEP_BYTES: u64 = 1 << 20;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Returns the number of neighbours that must have stored a message before it counts as sent, of `most` possible ones.
pub(super) fn confirmed_by(sync: SyncChoice, most: usize) -> Result<usize, Failure> {
    match sync {
        SyncChoice::Neighbours(n) if n > most => Err(Failure::usage(format!(
            "--sync neighbours={n}: the node has at most {most} neighbours, so that nothing could be confirmed; ask for fewer, \
             or set --max-links"
        ))),
        SyncChoice::Neighbours(n) => Ok(n),
        SyncChoice::Full | SyncChoice::Normal => Ok(0),
    }
}

/// Returns the retention of a log that no node writes.
pub(crate) fn keep_of_log(args: &KeepArgs) -> Result<RetentionPolicy, Failure> {
    match args.sync {
        SyncChoice::Neighbours(_) => Err(Failure::usage(
            "--sync neighbours is for a node, which has neighbours: give full or normal",
        )),
        SyncChoice::Full | SyncChoice::Normal => keep(args, false),
    }
}

/// Returns the retention of a log.
pub(crate) fn keep(args: &KeepArgs, ephemeral: bool) -> Result<RetentionPolicy, Failure> {
    let mut keep = RetentionPolicy {
        sync: match args.sync {
            SyncChoice::Full => store::Sync::Full,
            SyncChoice::Normal | SyncChoice::Neighbours(_) => store::Sync::Normal,
        },
        ..RetentionPolicy::default()
    };
    if let Some(days) = args.keep_days {
        keep.age = DAY * days;
    }
    if let Some(text) = &args.keep_bytes {
        keep.bytes = size(text).map_err(|reason| {
            Failure::usage(format!(
                "--keep-bytes {text:?}: {reason}; write for example 500M or 2G"
            ))
        })?;
    } else if ephemeral {
        keep.bytes = EPHEMERAL_BYTES;
    }
    Ok(keep)
}

/// Parses a size as people write it: a number, and K, M, G or T for powers of 1,024, with iB or B if wanted.
fn size(text: &str) -> Result<u64, &'static str> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| "that is no size")?;
    let power = match &*text[digits.len()..].trim().to_ascii_lowercase() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err("that unit is not known"),
    };
    match number.checked_mul(1024_u64.pow(power)) {
        None => Err("that is more than any disk has"),
        Some(bytes) if bytes < MIN_KEEP_BYTES => Err("a log takes at least 1M"),
        Some(bytes) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(size("1048576"), Ok(1 << 20));
        assert_eq!(size("500M"), Ok(500 << 20));
        assert_eq!(size(" 2 GiB "), Ok(2 << 30));
        assert_eq!(size("1t"), Ok(1 << 40));
        for wrong in ["", "G", "2X", "-1G", "1.5G", "10k", "99999999999999T"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
