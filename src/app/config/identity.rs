//! Reads the options that select the identity.
//!
//! Entry type: [`IdentityConfig`].

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::ArgSources;
use crate::app::args::IdentityArgs;
use crate::app::failure::Failure;
use crate::app::folder;

/// Environment variable that holds the passphrase when no option names another source.
pub(crate) const PASSPHRASE_VARIABLE: &str = "DIATRIBE_PASSPHRASE";

/// The selected identity.
#[derive(Debug)]
pub(crate) struct IdentityConfig {
    pub(crate) folder: PathBuf,
    pub(crate) source: Source,
    pub(crate) salt: String,
    pub(crate) allow_weak: bool,
}

/// Source of the identity.
#[derive(Debug)]
pub(crate) enum Source {
    /// The key in the data directory.
    Kept,
    /// A passphrase in a file.
    File(PathBuf),
    /// A passphrase in the first line of stdin.
    Stdin,
    /// A passphrase in the environment.
    Environment(Hidden),
    /// A passphrase typed at a prompt.
    Prompt,
}

/// A secret that is not printed.
pub(crate) struct Hidden(pub(crate) Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl IdentityConfig {
    pub(crate) fn read(args: IdentityArgs, given: &ArgSources) -> Result<IdentityConfig, Failure> {
        let source = source(&args, given)?;
        if given.typed("salt") && matches!(source, Source::Kept) {
            return Err(Failure::usage(
                "--salt goes with a passphrase, and none is given: the kept key has no salt",
            ));
        }
        Ok(IdentityConfig {
            folder: folder::resolve(args.data_dir)?,
            source,
            salt: args.salt.unwrap_or_default(),
            allow_weak: args.allow_weak_passphrase,
        })
    }
}

/// Returns the source of the identity. The command line takes precedence over the environment, and each of the two may
/// name one source.
fn source(args: &IdentityArgs, given: &ArgSources) -> Result<Source, Failure> {
    let named = [
        ("passphrase_file", args.passphrase_file.is_some()),
        ("passphrase_stdin", args.passphrase_stdin),
        ("passphrase", args.passphrase),
    ];
    let set: Vec<&str> = named
        .iter()
        .filter(|(_, set)| *set)
        .map(|(id, _)| *id)
        .collect();
    let typed: Vec<&str> = set.iter().copied().filter(|id| given.typed(id)).collect();
    let variable = std::env::var_os(PASSPHRASE_VARIABLE).filter(|value| !value.is_empty());
    let chosen = match (typed.as_slice(), set.as_slice(), &variable) {
        ([one], _, _) => Some(*one),
        ([], [one], None) => Some(*one),
        ([], [], _) => None,
        ([], _, _) => {
            return Err(Failure::usage(
                "the environment names several passphrases: keep one of DIATRIBE_PASSPHRASE, \
                 DIATRIBE_PASSPHRASE_FILE and DIATRIBE_PASSPHRASE_STDIN",
            ));
        }
        _ => {
            return Err(Failure::usage(
                "give one of --passphrase, --passphrase-file and --passphrase-stdin, not several",
            ));
        }
    };
    Ok(match (chosen, &args.passphrase_file, variable) {
        (Some("passphrase_file"), Some(path), _) => Source::File(path.clone()),
        (Some("passphrase_stdin"), _, _) => Source::Stdin,
        (Some(_), _, _) => Source::Prompt,
        (None, _, Some(value)) => {
            Source::Environment(Hidden(Zeroizing::new(value.into_encoded_bytes())))
        }
        (None, _, None) => Source::Kept,
    })
}
